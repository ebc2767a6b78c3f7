package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"midas-sidecar/internal/accesstoken"
	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
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

// sharedKeys are the secrets of one place, kept for all configs that read there. A
// reload forgets none, whatever else it changes; least of all while the store is away.
type sharedKeys struct {
	*credentials.Cache
	users generations[user]
}

// user is a config that reads the secrets, and how.
type user struct {
	config  *Midas
	store   secrets.Store
	options credentials.Options
	weChat  string
	asker   accesstoken.Asker
}

// takeKeys takes the secrets that the config describes.
func (m *Midas) takeKeys(values resolver, weChat string, client *upstream.Client) error {
	options, err := m.Cache.options(values)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	options.Log, options.Observer = latestLog(), observer{}
	place, err := m.Secrets.resolve(values, &m.acquired)
	if err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	m.summary.store = place.where()
	if m.store, err = m.takeStore(place, options); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	key := digest("secrets", place.File, place.Vault.Address, place.Vault.Namespace, place.Vault.Mount)
	m.keys, err = acquire(&m.acquired, key, func() (*sharedKeys, error) {
		keys := &sharedKeys{Cache: credentials.NewCache(m.store, options)}
		keys.users.follow = func(u user) { keys.Set(u.store, u.options, u.weChat, u.asker) }
		return keys, nil
	})
	if err != nil {
		return err
	}
	m.keys.users.enter(user{m, m.store, options, weChat, client})
	return nil
}

// Destruct does nothing: what nobody uses is garbage.
func (*sharedKeys) Destruct() error { return nil }

// sharedStore is a secret store that lasts as long as any config says the same about
// it, and so do its login and its token.
type sharedStore struct {
	store
	shared *shared
}

// store is a secret store that tells what is wrong with it.
type store interface {
	secrets.Store
	// Trouble returns why it cannot be used, nil where it can.
	Trouble() *secrets.Trouble
}

func (m *Midas) takeStore(p place, options credentials.Options) (store, error) {
	opened, err := acquire(&m.acquired, digest("store", p), func() (*sharedStore, error) {
		opened, err := p.open(options)
		return &sharedStore{opened, m.shared}, err
	})
	if err != nil {
		return nil, err
	}
	if file, ok := opened.store.(*secrets.File); ok {
		file.SetStale(options.Stale)
	}
	return opened.store, nil
}

// Destruct closes the store once the calls have ended that may still use it. Where
// the process ends that has happened, and the end waits for this.
func (s *sharedStore) Destruct() error {
	closer, ok := s.store.(interface{ Close(context.Context) error })
	if !ok {
		return nil
	}
	leave := s.shared.closing.Enter()
	closing := func() {
		defer leave()
		s.shared.await()
		ctx, cancel := context.WithTimeout(context.Background(), closingTime)
		defer cancel()
		if err := closer.Close(ctx); err != nil {
			caddy.Log().Named("midas").Warn("closing the secret store", zap.Error(err))
		}
	}
	if caddy.Exiting() {
		closing()
	} else {
		go closing()
	}
	return nil
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
