package credentials

import (
	"sync"

	"midas-sidecar/signer"
)

// maxRefusedSessions is of how many players of an app it is known that WeChat refused
// their session_key. Beyond it all is forgotten: the message is a hint, and a player who
// is refused again is remembered again.
const maxRefusedSessions = 10_000

// refusedSessions are the session_keys that WeChat refused last, by path.
type refusedSessions struct {
	mu     sync.Mutex
	byPath map[string]refusedSession
}

type refusedSession struct {
	key         *signer.Key
	storedAgain bool // a login has brought the very same one since
}

// refuse notes that WeChat refuses key.
func (r *refusedSessions) refuse(path string, key *signer.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, known := r.byPath[path]; known && before.key.Equal(key) {
		return
	}
	if r.byPath == nil || len(r.byPath) >= maxRefusedSessions {
		r.byPath = make(map[string]refusedSession)
	}
	r.byPath[path] = refusedSession{key: key}
}

// store notes that a login brought key.
func (r *refusedSessions) store(path string, key *signer.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.byPath[path]
	switch {
	case !known:
	case before.key.Equal(key):
		r.byPath[path] = refusedSession{key: before.key, storedAgain: true}
	default:
		delete(r.byPath, path)
	}
}

// isStoredAgain reports whether a login brought key after WeChat had refused it.
func (r *refusedSessions) isStoredAgain(path string, key *signer.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.byPath[path]
	return ok && known.storedAgain && known.key.Equal(key)
}
