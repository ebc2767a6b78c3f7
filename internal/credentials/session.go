package credentials

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"midas-sidecar/internal/secrets"
)

// AppSecret returns the app secret. Where WeChat did not take it, refused is the one
// that it refused, and what is kept of that is not believed.
func (c *Credentials) AppSecret(ctx context.Context, refused secrets.Value) (secrets.Value, error) {
	return c.readAppSecret(ctx, refused)
}

// CanSave returns why SaveSession cannot work, nil if it may: a session that cannot be
// kept should not be asked for, which uses up a js_code and may end the session before.
func (c *Credentials) CanSave(ctx context.Context) error {
	if _, err := c.store.writer(); err != nil {
		return err
	}
	if !c.store.troubled() {
		return nil
	}
	// It may be well again. Whether the secret is there does not matter.
	if _, err := c.store.Read(ctx, c.app.Secret); errors.Is(err, secrets.ErrUnavailable) {
		return err
	}
	return nil
}

// SaveSession stores the session_key that WeChat just gave a player, and uses it from
// then on. Of two for one player the one that came later is there in the end: they are
// written one after the other, in the order of the calls. It takes as long as the store
// takes for each of them. WeChat's answers do not tell which session is the newer one: where
// they cross, the older key may stay. WeChat refuses that, and the next login heals it.
func (c *Credentials) SaveSession(ctx context.Context, openid string, key secrets.Value) error {
	fields := secrets.Secret{sessionKey: key}
	parsed, malformed := parseSession(fields, nil)
	if malformed != nil && !isMalformed(malformed) {
		return fmt.Errorf("WeChat's answer %w", malformed)
	}
	path := c.sessionPath(openid)
	defer c.saves.enter(path)()
	writer, err := c.store.writer()
	if err == nil {
		err = writer.Write(ctx, path, fields)
	}
	if err != nil {
		// Not with the player's path, which names him.
		return fmt.Errorf("writing %s: %w", c.app.Session, err)
	}
	if malformed != nil {
		// The player is logged in, whatever WeChat's reason. Payments say what is wrong.
		c.sessions.Forget(path)
		return nil
	}
	c.sessions.Put(path, parsed)
	c.refusedSessions.store(path, parsed)
	return nil
}

// queues are of those who wait to write, by path.
type queues struct {
	mu   sync.Mutex
	last map[string]chan struct{} // closed when the last in the queue has left
}

// enter returns when it is the caller's turn, with what ends that. A mutex would not do:
// it lets those who wait in as it likes.
func (q *queues) enter(path string) (leave func()) {
	q.mu.Lock()
	if q.last == nil {
		q.last = make(map[string]chan struct{})
	}
	before, mine := q.last[path], make(chan struct{})
	q.last[path] = mine
	q.mu.Unlock()
	if before != nil {
		<-before
	}
	return func() {
		q.mu.Lock()
		if q.last[path] == mine {
			delete(q.last, path)
		}
		q.mu.Unlock()
		close(mine)
	}
}
