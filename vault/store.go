// Package vault reads and writes secrets of a HashiCorp Vault: in a KV secrets engine
// of version 1 or 2, with a token that it is given or logs in for.
package vault

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"midas-sidecar/internal/breaker"
	"midas-sidecar/internal/secrets"
)

// Store reads and writes secrets of one KV mount of a Vault. It is safe for concurrent
// use, keeps no secret but its token, and never prints that. It renews the token
// until Close.
type Store struct {
	mount   string
	client  *client
	session *session
	keeper  *gatekeeper
	log     *slog.Logger
	single  singles

	// version is the mount's kvVersion once Vault has told it, else 0.
	version atomic.Int32
}

var (
	_ secrets.Store = (*Store)(nil)
	_ fmt.Formatter = (*Store)(nil)
)

// Format keeps fmt from following the store's pointers, which some verbs do.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "vault mount "+s.mount) }

// New makes a store of config. It does not speak to Vault, so a Vault that is
// down prevents nothing; an error names the setting that is wrong and its rule.
func New(config Config) (*Store, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	transport, err := newTransport(config, &net.Dialer{Timeout: config.Timeout})
	if err != nil {
		return nil, err
	}
	return newStore(config, transport)
}

func newStore(config Config, transport http.RoundTripper) (*Store, error) {
	log := config.Log.With("address", config.Address)
	keeper := &gatekeeper{
		breaker: breaker.New(log, "vault cannot be used", "vault can be used again", breaker.NewPace(pace)),
		next:    transport,
		log:     log,
	}
	client, err := newClient(config, keeper)
	if err != nil {
		return nil, err
	}
	return &Store{
		mount:   config.Mount,
		client:  client,
		session: newSession(client, config.Auth, log),
		keeper:  keeper,
		log:     log,
	}, nil
}

// Read returns the latest version of the secret at path, below the mount. Only
// its fields of type string are there: Vault rounds long numbers and drops their
// leading zeros, and a key that is not the one that was stored must not be used.
//
// The error is secrets.ErrNotFound where there is no secret, or where its latest
// version is deleted or destroyed. A token that Vault refuses is replaced by one
// login and the read tried once more. While Vault cannot be used, or no token be
// had, the error is secrets.ErrUnavailable, and Vault is tried once a second. It
// takes no longer than Config.Timeout, whatever it takes.
func (s *Store) Read(ctx context.Context, path string) (secrets.Secret, error) {
	if err := CheckPath(path); err != nil {
		return nil, fmt.Errorf("path %w", err)
	}
	ctx, cancel := s.client.bounded(ctx)
	defer cancel()
	var secret secrets.Secret
	err := s.session.do(ctx, func(token string) (err error) {
		secret, err = s.read(ctx, token, path)
		return err
	})
	return secret, err
}

// Trouble returns why Vault cannot be used or lets nobody log in, nil where it does.
func (s *Store) Trouble() *secrets.Trouble {
	for _, g := range []*breaker.Breaker{s.keeper.breaker, s.session.breaker} {
		if since, failure := g.State(); failure != nil {
			return &secrets.Trouble{Since: since, Failure: failure}
		}
	}
	return nil
}

// Close ends what the store does: it reads and renews no more, and a token that it
// logged in for is revoked. Call it when nothing reads any more. A store that never
// logged in says nothing to Vault. It may be called again.
func (s *Store) Close(ctx context.Context) error {
	defer s.keeper.closeIdleConnections()
	if err := s.session.close(ctx); err != nil {
		return fmt.Errorf("closing %s: %w", s.mount, err)
	}
	return nil
}
