package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Auth gets a token that Vault accepts: Token and TokenFile are given one, AppRole,
// WrappedAppRole, Kubernetes, JWT, UserPass and Cert log in for one.
type Auth interface {
	// check tells what is missing or malformed, without asking anyone.
	check() error

	// login gets a token, through a client that is its own and has none.
	login(ctx context.Context, client *api.Client) (grant, error)
}

// Source gives a credential. It is called at every login, so that one that was
// rotated is used; white space around what it gives is dropped.
type Source func() (string, error)

// MarshalText hides the credential from encoders.
func (Source) MarshalText() ([]byte, error) { return []byte("REDACTED"), nil }

// grant is a token and what is known of its end.
type grant struct {
	token concealed

	// asked is when Vault was asked for it, or last to renew it, and lease how
	// long it lives from then on; zero where that is not known.
	asked time.Time
	lease time.Duration

	// longest is the longest lease that it had: one that is shorter is near the
	// end that no renewal puts off.
	longest time.Duration

	renewable bool

	// ours tells that nobody else needs the token, and that it can be revoked.
	ours bool

	// changed, where there is one, tells that there is a newer token.
	changed func() bool
}

// alive reports whether the token is not known to have ended.
func (g grant) alive() bool {
	return g.token != nil && (g.lease == 0 || time.Now().Before(g.expires()))
}

// usable reports whether it is also the newest.
func (g grant) usable() bool { return g.alive() && (g.changed == nil || !g.changed()) }

// expires is when Vault forgets a token that has a lease.
func (g grant) expires() time.Time { return g.asked.Add(g.lease) }

// concealed is a text out of the reach of fmt, which prints what unexported fields
// hold whatever their type has to say about it, but not what a func closes over.
type concealed func() string

func conceal(text string) concealed { return func() string { return text } }

// is reports whether the text is this one.
func (c concealed) is(text string) bool { return c != nil && c() == text }

// read asks the source for the credential called name.
func (s Source) read(name string) (string, error) {
	text, err := s()
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return trimmed(name, text)
}

func trimmed(name, text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return text, nil
}

// logIn gets a token by a method of Vault's.
func logIn(ctx context.Context, client *api.Client, method api.AuthMethod) (grant, error) {
	// The lease begins before the answer arrives: better to log in early.
	asked := time.Now()
	answer, err := method.Login(ctx, client)
	switch {
	case isStatus(err, http.StatusBadRequest):
		return grant{}, errors.New("credentials refused")
	case err != nil:
		return grant{}, explain(ctx, err)
	case answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "":
		return grant{}, errUnreadable
	}
	token := answer.Auth.ClientToken
	return grant{
		token:     conceal(token),
		renewable: answer.Auth.Renewable,
		ours:      !isBatch(token),
	}.leased(asked, answer.Auth.LeaseDuration), nil
}

// isBatch tells the tokens that Vault does not keep, and so cannot revoke.
func isBatch(token string) bool {
	return strings.HasPrefix(token, "hvb.") || strings.HasPrefix(token, "b.")
}

// longestLease is what a lease is worth in seconds that is longer: ten years.
const longestLease = 10 * 365 * 24 * 3600

// leased is g with a lease from Vault.
func (g grant) leased(asked time.Time, seconds int) grant {
	g.asked, g.lease = asked, time.Duration(min(max(seconds, 0), longestLease))*time.Second
	g.longest = max(g.longest, g.lease)
	return g
}
