package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/secrets"
	"midas-sidecar/signer"
)

// hopeless is how long it is remembered that WeChat takes neither the newest key
// nor the one before.
const hopeless = time.Minute

// midasKey is an app's Midas key of one environment. Nobody changes it at WeChat and
// in the store at the same instant: while WeChat refuses the newest key and takes
// the one before, that one is used.
type midasKey struct {
	path   string
	reader *secrets.Reader[*signer.Key]
	parse  func(secrets.Secret) (*signer.Key, error)
	store  *switchable
	log    *slog.Logger

	instead atomic.Pointer[replacement] // nil while WeChat takes what the store holds
	looking sync.Mutex
}

// replacement is what to use instead of a key that WeChat refused.
type replacement struct {
	refused *signer.Key
	earlier *signer.Key // nil where there is none that WeChat takes
	found   time.Time
}

func (c *Cache) midasKey(cache *secrets.Cache[*signer.Key], app App, name string) *midasKey {
	kind := c.kind(app, name)
	return &midasKey{
		path:   app.Secret,
		reader: cache.Reader(c.store, kind),
		parse:  field(name, signer.NewKey),
		store:  c.store,
		log:    kind.Log,
	}
}

// get returns the key that WeChat takes, as far as is known.
func (k *midasKey) get(ctx context.Context) (*signer.Key, error) {
	newest, err := k.reader.Get(ctx, k.path)
	if instead := k.instead.Load(); err == nil && instead != nil && instead.earlier != nil && instead.refused.Equal(newest) {
		return instead.earlier, nil
	}
	return newest, err
}

// another returns a key that is not among those that WeChat refused, nil if there
// is none. It is what get returns from then on: WeChat refuses the key that get
// returned so far, so there is nothing to lose.
func (k *midasKey) another(ctx context.Context, refused []*signer.Key) (*signer.Key, error) {
	k.looking.Lock()
	defer k.looking.Unlock()
	among := func(key *signer.Key) bool { return slices.ContainsFunc(refused, key.Equal) }
	newest, err := k.reader.Renew(ctx, k.path, among)
	if err != nil {
		return nil, err
	}
	instead := k.instead.Load()
	if !among(newest) {
		if instead != nil {
			k.instead.Store(nil)
			k.log.Info("the newest key is used again")
		}
		return newest, nil
	}
	if instead == nil || !instead.refused.Equal(newest) || instead.earlier == nil && time.Since(instead.found) > hopeless {
		if instead, err = k.replace(ctx, newest); err != nil {
			return nil, err
		}
		k.instead.Store(instead)
	}
	if instead.earlier != nil && among(instead.earlier) {
		k.log.Error("WeChat refuses the newest key and the one before")
		k.instead.Store(&replacement{refused: newest, found: time.Now()})
		return nil, nil
	}
	return instead.earlier, nil
}

// replace looks for the key that was in the store before the newest one.
func (k *midasKey) replace(ctx context.Context, newest *signer.Key) (*replacement, error) {
	instead := &replacement{refused: newest, found: time.Now()}
	secret, err := k.store.Earlier(ctx, k.path, func(s secrets.Secret) bool {
		key, err := k.parse(s)
		return err == nil && !key.Equal(newest)
	})
	if errors.Is(err, secrets.ErrNotFound) {
		return instead, nil
	}
	if err == nil {
		instead.earlier, err = k.parse(secret)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the version of %s before the newest: %w", k.path, err)
	}
	k.log.Warn("WeChat refuses the newest key: the one before is tried")
	return instead, nil
}
