package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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
	delay     time.Duration
	trip      http.RoundTripper           // instead of the network
	answer    http.HandlerFunc            // to whatever is asked
	faults    map[string]http.HandlerFunc // answers to the paths that end so

	// Of tokens from logins, in seconds; zero where they never end.
	lease, maxTTL int
	renewable     bool
	prefix        string               // of their names
	born          map[string]time.Time // when they were made
	ends          map[string]time.Time // those of them that end
}

func newFake() *fake {
	return &fake{
		kv: "2",
		bodies: map[string]string{
			"/v1/secret/data/midas/wx1": `{"data": {"data": {"midas_key": "canary-key"}, "metadata": {"version": 3}}}`,
			"/v1/secret/data/midas/wx2": `{"data": {"data": {"midas_key": "canary-two"}, "metadata": {"version": 1}}}`,
			"/v1/secret/midas/wx1":      `{"data": {"midas_key": "canary-key"}}`,
		},
		alive:  map[string]bool{"canary-fixed": true},
		faults: make(map[string]http.HandlerFunc),
		prefix: "canary-token-",
		born:   make(map[string]time.Time),
		ends:   make(map[string]time.Time),
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(f.delay)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)

	path := r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	token := r.Header.Get("X-Vault-Token")
	switch {
	case f.fault(path) != nil:
		fault := f.fault(path)
		f.mu.Unlock()
		fault(w, r)
		f.mu.Lock()
	case strings.HasPrefix(path, "/v1/auth/") && !strings.HasPrefix(path, "/v1/auth/token/"):
		body, _ := io.ReadAll(r.Body)
		f.sent = append(f.sent, string(body))
		token = fmt.Sprintf("%s%d", f.prefix, len(f.sent))
		f.alive[token], f.born[token] = true, time.Now()
		f.grant(w, token)
	case !f.lives(token) && f.mute:
		refuse(w, http.StatusForbidden, "permission denied")
	case !f.lives(token):
		refuse(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	case path == "/v1/auth/token/renew-self":
		f.grant(w, token)
	case path == "/v1/auth/token/revoke-self":
		delete(f.alive, token)
		w.WriteHeader(http.StatusNoContent)
	case path == "/v1/auth/token/lookup-self":
		_, _ = fmt.Fprintf(w, `{"data": {"ttl": %d, "renewable": %t}}`, f.left(token), f.renewable)
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

// fault is what is answered instead of what should be, if anything.
func (f *fake) fault(path string) http.HandlerFunc {
	if f.answer != nil {
		return f.answer
	}
	for end, fault := range f.faults {
		if strings.HasSuffix(path, end) {
			return fault
		}
	}
	return nil
}

// grant gives a token as long a lease as it may still have.
func (f *fake) grant(w io.Writer, token string) {
	lease := f.lease
	if f.maxTTL > 0 {
		lease = min(lease, int((time.Duration(f.maxTTL)*time.Second - time.Since(f.born[token])).Seconds()))
	}
	if lease > 0 {
		f.ends[token] = time.Now().Add(time.Duration(lease) * time.Second)
	}
	_, _ = fmt.Fprintf(w, `{"auth": {"client_token": %q, "lease_duration": %d, "renewable": %t}}`, token, lease, f.renewable)
}

// left returns the seconds that a token has, zero where it never ends.
func (f *fake) left(token string) int {
	end, mortal := f.ends[token]
	if !mortal {
		return 0
	}
	return int(time.Until(end).Seconds())
}

func (f *fake) lives(token string) bool {
	end, mortal := f.ends[token]
	return f.alive[token] && (!mortal || time.Now().Before(end))
}

// leftBehind returns the tokens from logins that live.
func (f *fake) leftBehind() (tokens []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for token := range f.born {
		if f.lives(token) {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

func refuse(w http.ResponseWriter, status int, errors ...string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": append([]string{}, errors...)})
}

// RoundTrip makes the fake its own network, which testing/synctest understands.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	trip := f.trip
	if trip != nil {
		f.asked = append(f.asked, r)
	}
	f.mu.Unlock()
	if trip != nil {
		return trip.RoundTrip(r)
	}
	recorder := httptest.NewRecorder()
	f.ServeHTTP(recorder, r)
	if r.Context().Err() != nil {
		return nil, context.Cause(r.Context())
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// total tells how many requests there were.
func (f *fake) total() int { return f.count("") }

// renewals are the requests to renew a token.
func (f *fake) renewals() int { return f.count("/renew-self") }

// revocations are the requests to revoke a token.
func (f *fake) revocations() int { return f.count("/revoke-self") }

// change lets a test change the fake while it is asked.
func (f *fake) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
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

func (f *fake) logins() int { return f.count("/v1/auth/") - f.count("/v1/auth/token/") }
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

// logged makes config tell its log to the lines that it returns, without what
// differs from run to run.
func logged(config *Config) (lines func() []string) {
	var text bytes.Buffer
	config.Log = slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "since", "after", "address":
				return slog.Attr{}
			}
			return a
		},
	}))
	return func() []string { return strings.Split(strings.TrimSpace(text.String()), "\n") }
}

// requireKey reads midas/wx1 and wants it to be there.
func requireKey(t *testing.T, store *Store) {
	t.Helper()
	secret, err := store.Read(t.Context(), "midas/wx1")
	require.NoError(t, err)
	require.Equal(t, "canary-key", secret["midas_key"].Reveal())
}
