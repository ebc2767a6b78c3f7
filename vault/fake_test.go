package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// canary is part of whatever must never be shown.
const canary = "canary-"

// fake is a Vault in memory: it knows tokens, the AppRole login and one KV mount
// called secret, and counts what it is asked.
type fake struct {
	mu        sync.Mutex
	kv        string // version of the mount
	bodies    map[string]string
	forbidden string // no token may read this path
	alive     map[string]bool
	mute      bool // calls dead tokens nothing worse than denied, as old Vaults do
	asked     []*http.Request
	sent      []string // bodies of logins
	lease     int      // of tokens from logins, in seconds
	delay     time.Duration
	answer    http.HandlerFunc
}

func newFake() *fake {
	return &fake{
		kv: "2",
		bodies: map[string]string{
			"/v1/secret/data/midas/wx1": `{"data": {"data": {"midas_key": "canary-key"}, "metadata": {"version": 3}}}`,
			"/v1/secret/data/midas/wx2": `{"data": {"data": {"midas_key": "canary-two"}, "metadata": {"version": 1}}}`,
			"/v1/secret/midas/wx1":      `{"data": {"midas_key": "canary-key"}}`,
		},
		alive: map[string]bool{"canary-fixed": true},
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(f.delay)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)

	path := r.URL.EscapedPath()
	switch {
	case f.answer != nil:
		f.mu.Unlock()
		f.answer(w, r)
		f.mu.Lock()
	case strings.HasPrefix(path, "/v1/auth/"):
		body, _ := io.ReadAll(r.Body)
		f.sent = append(f.sent, string(body))
		token := fmt.Sprintf("canary-token-%d", len(f.sent))
		f.alive[token] = true
		_, _ = fmt.Fprintf(w, `{"auth": {"client_token": %q, "lease_duration": %d}}`, token, f.lease)
	case !f.alive[r.Header.Get("X-Vault-Token")] && f.mute:
		refuse(w, http.StatusForbidden, "permission denied")
	case !f.alive[r.Header.Get("X-Vault-Token")]:
		refuse(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	case f.forbidden != "" && strings.HasSuffix(path, f.forbidden):
		refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	case path == "/v1/sys/internal/ui/mounts/secret":
		_, _ = fmt.Fprintf(w, `{"data": {"path": "secret/", "type": "kv", "options": {"version": %q}}}`, f.kv)
	case f.bodies[path] != "":
		_, _ = io.WriteString(w, f.bodies[path])
	default:
		refuse(w, http.StatusNotFound)
	}
}

func refuse(w http.ResponseWriter, status int, errors ...string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": append([]string{}, errors...)})
}

// RoundTrip makes the fake its own network, which testing/synctest understands.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	f.ServeHTTP(recorder, r)
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// kill ends the life of every token.
func (f *fake) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.alive)
}

// count tells how many requests had a path that contains part.
func (f *fake) count(part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.asked {
		if strings.Contains(r.URL.Path, part) {
			n++
		}
	}
	return n
}

func (f *fake) logins() int { return f.count("/v1/auth/") }
func (f *fake) reads() int  { return f.count("/midas/") }

func fixed(text string) Source { return func() (string, error) { return text, nil } }

func withAppRole() Config {
	return Config{
		Address: "http://vault.test",
		Auth:    AppRole{RoleID: fixed("canary-role"), SecretID: fixed("canary-secret")},
	}
}

func withToken() Config {
	return Config{Address: "http://vault.test", Auth: Token{fixed("canary-fixed")}}
}

func (f *fake) store(t *testing.T, config Config) *Store {
	t.Helper()
	store, err := newStore(config.withDefaults(), f)
	require.NoError(t, err)
	return store
}

// requireKey reads midas/wx1 and wants it to be there.
func requireKey(t *testing.T, store *Store) {
	t.Helper()
	secret, err := store.Read(t.Context(), "midas/wx1")
	require.NoError(t, err)
	require.Equal(t, "canary-key", secret["midas_key"].Reveal())
}
