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

	"midas-sidecar/internal/secrets"
	"midas-sidecar/signer"
)

const (
	// hopeless is how long it is remembered that WeChat takes none of the keys that
	// there are.
	hopeless = time.Minute
	// wait is how long a store is left alone that could not tell of earlier keys.
	wait = time.Second
)

// midasKey is an app's Midas key of one environment. Nobody changes it at WeChat and
// in the store at the same instant: while WeChat refuses the newest key and takes
// an earlier one, that one is used.
type midasKey struct {
	path   string
	reader *secrets.Reader[*signer.Key]
	parse  func(secrets.Secret) (*signer.Key, error)
	store  *switchable
	log    *slog.Logger

	// instead is what WeChat takes in place of the newest key, nil while it takes that.
	instead atomic.Pointer[replacement]

	looking sync.Mutex
	found   replacement // the last one that was looked for; nobody knows if WeChat takes it
}

// replacement is what to use instead of a key that WeChat refused.
type replacement struct {
	refused *signer.Key
	earlier *signer.Key // nil where there is none
	until   time.Time   // when to look for another
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
	if instead := k.instead.Load(); err == nil && instead != nil && instead.refused.Equal(newest) {
		return instead.earlier, nil
	}
	return newest, err
}

// another returns a key that is not among those that WeChat refused for an order, nil
// if there is none. Other orders use it once took says that WeChat takes it: the
// refusal may have been about that order alone.
func (k *midasKey) another(ctx context.Context, refused []*signer.Key) (*signer.Key, error) {
	k.looking.Lock()
	defer k.looking.Unlock()
	among := func(key *signer.Key) bool { return slices.ContainsFunc(refused, key.Equal) }
	newest, err := k.reader.Renew(ctx, k.path, among)
	if err != nil {
		return nil, err
	}
	if !among(newest) {
		return newest, nil
	}
	isKnown := newest.Equal(k.found.refused) && time.Now().Before(k.found.until)
	if isKnown && (k.found.earlier == nil || !among(k.found.earlier)) {
		return k.found.earlier, nil
	}
	earlier, err := k.before(ctx, among)
	rest := hopeless
	if err != nil {
		rest = wait
	}
	k.found = replacement{newest, earlier, time.Now().Add(rest)}
	if err == nil && earlier == nil && len(refused) > 1 {
		k.log.Error("WeChat refuses the newest key and those before")
	}
	return earlier, err
}

// before looks for a key that was in the store earlier and is not among those that
// WeChat refused, nil if there is none.
func (k *midasKey) before(ctx context.Context, among func(*signer.Key) bool) (*signer.Key, error) {
	secret, err := k.store.Earlier(ctx, k.path, func(s secrets.Secret) bool {
		key, err := k.parse(s)
		return err == nil && !among(key)
	})
	if errors.Is(err, secrets.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading earlier versions of %s: %w", k.path, err)
	}
	return k.parse(secret)
}

// took notes that WeChat takes a key which another returned.
func (k *midasKey) took(ctx context.Context, key *signer.Key) {
	newest, err := k.reader.Get(ctx, k.path)
	if err != nil {
		return
	}
	instead := k.instead.Load()
	switch {
	case !key.Equal(newest):
		next := &replacement{refused: newest, earlier: key}
		if k.instead.CompareAndSwap(instead, next) && (instead == nil || !instead.earlier.Equal(key)) {
			k.log.Warn("WeChat refuses the newest key: an earlier one is used")
		}
	case instead != nil && k.instead.CompareAndSwap(instead, nil):
		k.log.Info("the newest key is used again")
	}
}
