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
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

const (
	// hopeless is how long it is remembered that WeChat takes none of the keys that
	// there are.
	hopeless = time.Minute
	// mostKeys is how many keys are tried for an order: the cached one, the newest, and
	// one before it.
	mostKeys = 3
	// wait is how long a store is left alone that could not tell of earlier keys.
	wait = time.Second
)

// rotation is what is known of a Midas key that is being replaced. Nobody changes it
// at WeChat and in the store at the same instant: while WeChat refuses the newest key
// and takes an earlier one, that one is used.
type rotation struct {
	log *slog.Logger

	// instead is what WeChat takes in place of the newest key, nil while it takes that.
	instead atomic.Pointer[replacement]

	looking sync.Mutex
	found   replacement // the last one that was looked for; nobody knows if WeChat takes it

	refusals refusals
}

// replacement is what to use instead of a key that WeChat refused.
type replacement struct {
	refused *signer.Key
	earlier *signer.Key // nil where there is none
	until   time.Time   // when to look for another
}

// MidasKey returns the app's Midas key for calls of the endpoint: the one that WeChat
// takes, as far as is known.
func (c *Credentials) MidasKey(ctx context.Context, e wechat.Endpoint) (*signer.Key, error) {
	newest, err := c.secret.get(ctx, midasFields(e)...)
	if err != nil {
		return nil, err
	}
	r := c.rotations[newest.name]
	instead := r.instead.Load()
	if instead == nil {
		return newest.key, nil
	}
	// Looked up again, since instead may say of one that is newer still that it is refused.
	again, err := c.secret.get(ctx, midasFields(e)...)
	switch {
	case err != nil:
		return nil, err
	case instead.refused.Equal(again.key):
		return instead.earlier, nil
	case again.name == newest.name:
		r.over(instead)
	}
	return again.key, nil
}

// over notes that the newest key is used, and no earlier one.
func (r *rotation) over(instead *replacement) {
	if instead != nil && r.instead.CompareAndSwap(instead, nil) {
		r.log.Info("the newest key is used again")
	}
}

// FallbackMidasKey returns a Midas key to try where WeChat refused these for an order:
// the newest in the store, or an earlier one. It is nil where there is no other, or
// where enough were tried: that counts against the newest. Other
// orders use it once ConfirmMidasKey says that WeChat takes it: the refusal may have been
// about that order alone.
func (c *Credentials) FallbackMidasKey(ctx context.Context, e wechat.Endpoint, refused []*signer.Key) (*signer.Key, error) {
	among := func(key *signer.Key) bool { return slices.ContainsFunc(refused, key.Equal) }
	newest, err := c.secret.renew(ctx, func(f keyField) bool { return among(f.key) }, midasFields(e)...)
	if err != nil {
		return nil, err
	}
	if !among(newest.key) {
		return newest.key, nil
	}
	r := c.rotations[newest.name]
	if len(refused) >= mostKeys {
		r.refusals.refuse(newest.key)
		return nil, nil
	}
	earlier, err := c.earlierMidasKey(ctx, e, r, newest.key, among)
	if err == nil && earlier == nil {
		r.refusals.refuse(newest.key)
	}
	return earlier, err
}

// earlierMidasKey is midasKeyBefore, but remembers for a while what it found.
func (c *Credentials) earlierMidasKey(ctx context.Context, e wechat.Endpoint, r *rotation, newest *signer.Key, among func(*signer.Key) bool) (*signer.Key, error) {
	r.looking.Lock()
	defer r.looking.Unlock()
	isKnown := newest.Equal(r.found.refused) && time.Now().Before(r.found.until)
	if isKnown && (r.found.earlier == nil || !among(r.found.earlier)) {
		return r.found.earlier, nil
	}
	earlier, err := c.midasKeyBefore(ctx, e, among)
	rest := hopeless
	if err != nil {
		rest = wait
	}
	r.found = replacement{newest, earlier, time.Now().Add(rest)}
	return earlier, err
}

// midasKeyBefore looks for a key that was in the store earlier and is not among those
// that WeChat refused, nil if there is none.
func (c *Credentials) midasKeyBefore(ctx context.Context, e wechat.Endpoint, among func(*signer.Key) bool) (*signer.Key, error) {
	var key *signer.Key
	_, err := c.store.Earlier(ctx, c.app.Secret, func(s secrets.Secret) bool {
		version, _ := parseApp(s, nil) // which has no error
		f, err := c.secret.in(version, midasFields(e))
		key = f.key
		return err == nil && !among(key)
	})
	if errors.Is(err, secrets.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading earlier versions of %s: %w", c.app.Secret, err)
	}
	return key, nil
}

// ConfirmMidasKey notes that WeChat takes a key. MidasKey returns it from then on, also
// where it is one that FallbackMidasKey returned.
func (c *Credentials) ConfirmMidasKey(ctx context.Context, e wechat.Endpoint, key *signer.Key) {
	for _, name := range midasFields(e) {
		if c.rotations[name].refusals.taken.Load() == key {
			return // as of most orders: nothing is new
		}
	}
	newest, err := c.secret.get(ctx, midasFields(e)...)
	if err != nil {
		return
	}
	r := c.rotations[newest.name]
	r.refusals.take(key)
	instead := r.instead.Load()
	if key.Equal(newest.key) {
		r.over(instead)
		return
	}
	next := &replacement{refused: newest.key, earlier: key}
	if r.instead.CompareAndSwap(instead, next) && (instead == nil || !instead.earlier.Equal(key)) {
		r.log.Warn("WeChat refuses the newest key: an earlier one is used")
	}
}
