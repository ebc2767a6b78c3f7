package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

var (
	errNoWrappingToken = errors.New("the wrapping token is used up, has ended or never was one: " +
		"if nothing of yours unwrapped it, somebody else has the secret_id, which then must be destroyed")

	errLostWrapped = errors.New("the wrapping token is used up, perhaps by an attempt of ours whose answer was lost: " +
		"wrap another secret_id and destroy this one")

	errOtherWrapped = errors.New("the wrapping token does not hold a secret_id that this auth method made: " +
		"somebody may have replaced it")
)

// WrappedAppRole logs in as an AppRole whose SecretID gives not the secret_id but a
// token that Vault wrapped it in. Such a token can be unwrapped once, so the
// secret_id is kept in memory, for all stores that share this Auth and until
// SecretID gives another token.
func WrappedAppRole(role AppRole) Auth { return &wrappedAppRole{role: role} }

type wrappedAppRole struct {
	role AppRole

	mu       sync.Mutex
	token    concealed // the last that was sent to be unwrapped
	secretID concealed // nil where the answer was lost
}

func (a *wrappedAppRole) check() error { return a.role.check() }

func (a *wrappedAppRole) login(ctx context.Context, client *api.Client) (grant, error) {
	role := a.role
	secretID, err := a.unwrapped(ctx, client)
	if err != nil {
		return grant{}, err
	}
	role.SecretID = func() (string, error) { return secretID(), nil }
	return role.login(ctx, client)
}

// unwrapped returns the secret_id, unwrapping it where that was not done yet.
func (a *wrappedAppRole) unwrapped(ctx context.Context, client *api.Client) (concealed, error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	token, err := a.role.SecretID.read("secret_id")
	if a.secretID != nil && (err != nil || a.token.is(token)) {
		// A token that is gone was not replaced: who delivers one may clean up.
		return a.secretID, nil
	}
	if err != nil {
		return nil, err
	}
	secretID, err := a.unwrap(ctx, client, token)
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret_id of auth/%s: %w", a.role.mount(), err)
	}
	return secretID, nil
}

// unwrap first asks what the token holds: a token put in place of the right one
// could be good too, and hold what somebody else wants us to log in with.
func (a *wrappedAppRole) unwrap(ctx context.Context, client *api.Client, token string) (concealed, error) {
	held, err := client.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": token})
	switch {
	case isStatus(err, http.StatusBadRequest) && a.token.is(token):
		return nil, errLostWrapped
	case isStatus(err, http.StatusBadRequest):
		return nil, errNoWrappingToken
	case err != nil:
		return nil, explain(ctx, err)
	case !a.madeHere(held):
		return nil, errOtherWrapped
	}

	defer client.ClearToken() // which unwrapping sets to this one
	answer, err := client.Logical().UnwrapWithContext(ctx, token)
	if isStatus(err, http.StatusBadRequest) {
		return nil, errNoWrappingToken
	}
	a.token, a.secretID = conceal(token), nil
	if err != nil {
		return nil, explain(ctx, err)
	}
	secretID, ok := field(answer, "secret_id")
	if !ok {
		return nil, errUnreadable
	}
	a.secretID = conceal(secretID)
	return a.secretID, nil
}

// madeHere reports whether what is held came from an endpoint of this auth method
// that makes a secret_id.
func (a *wrappedAppRole) madeHere(held *api.Secret) bool {
	path, _ := field(held, "creation_path")
	rest, below := strings.CutPrefix(path, fmt.Sprintf("auth/%s/role/", a.role.mount()))
	_, endpoint, _ := strings.Cut(rest, "/")
	return below && (endpoint == "secret-id" || endpoint == "custom-secret-id")
}

// field returns a text out of an answer.
func field(answer *api.Secret, name string) (string, bool) {
	if answer == nil {
		return "", false
	}
	text, ok := answer.Data[name].(string)
	return text, ok && text != ""
}
