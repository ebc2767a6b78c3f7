package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/credentials"
	"midas-sidecar/secrets"
)

const (
	defaultFresh    = 5 * time.Minute
	defaultStale    = 24 * time.Hour
	defaultSessions = 100_000

	// closingTime is how long a store may take to end its business: one login under
	// way, and the revocation of its token.
	closingTime = 10 * time.Second
)

// Cache says how long secrets are used that were read once, and how many are kept.
type Cache struct {
	// Fresh is the age in which a secret is simply used. Beyond it, it is read
	// again in the background. Default: 5m.
	Fresh Setting `json:"fresh,omitempty"`

	// Stale is how long after that a secret may be used while the store is down.
	// "0" means not at all. Default: 24h.
	Stale Setting `json:"stale,omitempty"`

	// Sessions is how many players' session_keys are kept. Default: 100000.
	Sessions Setting `json:"sessions,omitempty"`
}

func (c *Cache) options(values resolver) (options credentials.Options, err error) {
	if c == nil {
		c = new(Cache)
	}
	if options.Fresh, err = resolve(values, c.Fresh, defaultFresh, parseDuration); err != nil {
		return options, fmt.Errorf("fresh: %w", err)
	}
	if options.Stale, err = resolve(values, c.Stale, defaultStale, parseDurationOrZero); err != nil {
		return options, fmt.Errorf("stale: %w", err)
	}
	sessions, err := resolve(values, c.Sessions, defaultSessions, parseCount)
	if err != nil {
		return options, fmt.Errorf("sessions: %w", err)
	}
	options.Sessions = int(sessions)
	return options, nil
}

// lastingKeys are a secret store and what was read from it. Configs that say the
// same about them share them, so that a reload forgets nothing.
type lastingKeys struct {
	*credentials.Cache
	store   store
	lasting *lasting
}

// store is a secret store that tells what is wrong with it.
type store interface {
	secrets.Store
	// Trouble returns why it cannot be used, nil where it can.
	Trouble() *secrets.Trouble
}

// takeKeys returns the cache of the secrets that the config describes. hosts are the
// WeChat whose tokens are kept.
func (m *Midas) takeKeys(values resolver, hosts []string) (*lastingKeys, error) {
	options, err := m.Cache.options(values)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	place, err := m.Secrets.resolve(values, &m.leases)
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	key := digest("keys", place, m.Secrets, options, hosts)
	keys, err := lease(&m.leases, key, func() (*lastingKeys, error) {
		options.Log, options.Observer = latestLog(), observer{}
		store, err := place.open(options.Stale, options.Log)
		if err != nil {
			return nil, err
		}
		return &lastingKeys{credentials.NewCache(store, options), store, m.lasting}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	return keys, nil
}

// digest names a thing by the configuration that it is made from, which may hold
// secrets.
func digest(name string, parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		panic("naming " + name + ": " + err.Error()) // plain structs, all of them
	}
	sum := sha256.Sum256(text)
	return name + " " + hex.EncodeToString(sum[:])
}

// Destruct closes the store once the calls have ended that may still use it. Where
// the process ends that has happened, and the end waits for this.
func (k *lastingKeys) Destruct() error {
	closer, ok := k.store.(interface{ Close(context.Context) error })
	if !ok {
		return nil
	}
	leave := k.lasting.closing.Enter()
	closing := func() error {
		defer leave()
		k.lasting.await()
		ctx, cancel := context.WithTimeout(context.Background(), closingTime)
		defer cancel()
		return closer.Close(ctx)
	}
	if caddy.Exiting() {
		return closing()
	}
	go func() { _ = closing() }()
	return nil
}
