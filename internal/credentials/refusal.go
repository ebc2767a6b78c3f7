package credentials

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/signer"
)

const (
	// enoughRefusals is how many orders in a row WeChat has to refuse before a key counts
	// as wrong that it took before: one refusal may be about that order alone.
	enoughRefusals = 3
	// unreadyFor is how long after the last refusal the app is not ready. A sidecar that
	// gets no calls while it is not ready would never learn that WeChat takes the key.
	unreadyFor = 5 * time.Minute
)

var errKeyRefused = errors.New("WeChat refuses what is signed with it (90011), and the store has no other that it takes")

// refusals is what WeChat says of a Midas key that has no replacement.
type refusals struct {
	log *slog.Logger

	// taken is the key that WeChat took last, nil once it has refused one since.
	taken atomic.Pointer[signer.Key]

	mu       sync.Mutex
	key      *signer.Key // refused since WeChat last took one, nil for none
	wasTaken bool        // WeChat took that key before
	orders   int         // refused in a row
	wrong    bool        // the log was told so
	since    time.Time
	last     time.Time
}

// refuse notes that WeChat refused an order for the newest key in the store, and that
// there is no other to try.
func (r *refusals) refuse(newest *signer.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.key == nil || !r.key.Equal(newest) {
		taken := r.taken.Swap(nil)
		r.key, r.wasTaken, r.orders, r.wrong, r.since = newest, taken != nil && taken.Equal(newest), 0, false, now
	}
	r.orders++
	r.last = now
	if !r.wrong && (!r.wasTaken || r.orders >= enoughRefusals) {
		r.wrong = true
		r.log.Error("WeChat refuses the Midas key, and there is no other: it is wrong, or not that of this environment")
	}
}

// take notes that WeChat takes a key.
func (r *refusals) take(key *signer.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong {
		r.log.Info("WeChat takes the Midas key")
	}
	r.key, r.wrong = nil, false
	r.taken.Store(key)
}

// trouble returns since when WeChat refuses the key in use, nil where it does not.
func (r *refusals) trouble(inUse *signer.Key) *secrets.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wrong || inUse == nil || !r.key.Equal(inUse) {
		return nil
	}
	return &secrets.Trouble{Since: r.since, Failure: errKeyRefused}
}

// recent reports whether WeChat refused the key a short time ago.
func (r *refusals) recent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.last) < unreadyFor
}

// refusedKeys returns, for each Midas key that the app has and that was asked for, since
// when WeChat refuses it, or nil.
func (c *Credentials) refusedKeys() map[string]*secrets.Trouble {
	troubles := make(map[string]*secrets.Trouble)
	all, kept := c.secret.reader.Peek(c.app.Secret)
	if !kept {
		return troubles
	}
	for name, r := range c.rotations {
		if f, there := all.fields[name]; there && f.key != nil {
			troubles[name] = r.refusals.trouble(f.key)
		}
	}
	return troubles
}

// refusedField returns the field of the Midas key that the app cannot pay with since
// WeChat refuses it: an official one, or that of the sandbox where there is no other.
func (c *Credentials) refusedField() string {
	troubles := c.refusedKeys()
	names := []string{officialKey, officialKeyV2}
	if _, official := troubles[officialKey]; !official {
		names = midasKeys
	}
	for _, name := range names {
		if troubles[name] != nil && c.rotations[name].refusals.recent() {
			return name
		}
	}
	return ""
}
