package integration

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moodyVault stands in front of a Vault and lets it look as if it were away. It
// counts what it is asked.
type moodyVault struct {
	address string
	handler http.Handler // the Vault

	mu    sync.Mutex
	mood  http.HandlerFunc // instead of the Vault, nil for the Vault itself
	calls []string         // paths

	server   *http.Server
	released chan struct{} // closed when those who hang may go
}

func (v *testVault) moody(t *testing.T) *moodyVault {
	t.Helper()
	m := &moodyVault{handler: v.proxy(t), released: make(chan struct{})}
	m.listen(t, "127.0.0.1:0")
	t.Cleanup(func() {
		close(m.released)
		m.refuse(t)
	})
	return m
}

func (m *moodyVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.calls = append(m.calls, r.URL.Path)
	mood := m.mood
	m.mu.Unlock()
	if mood == nil {
		mood = m.handler.ServeHTTP
	}
	mood(w, r)
}

func (m *moodyVault) listen(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	m.address = listener.Addr().String()
	m.server = &http.Server{Handler: m}
	go func(s *http.Server) { _ = s.Serve(listener) }(m.server)
}

// is gives the Vault a mood, nil for none.
func (m *moodyVault) is(mood http.HandlerFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mood = mood
}

// refuse lets nobody listen at the Vault's address.
func (m *moodyVault) refuse(t *testing.T) {
	t.Helper()
	require.NoError(t, m.server.Close())
}

// accept ends refuse.
func (m *moodyVault) accept(t *testing.T) {
	t.Helper()
	m.listen(t, m.address)
}

// count tells how many calls there were whose path ends so.
func (m *moodyVault) count(suffix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, path := range m.calls {
		if strings.HasSuffix(path, suffix) {
			n++
		}
	}
	return n
}

// The moods. One that hangs lets go of its callers when they leave.
func (m *moodyVault) hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does a server see that its client left
	select {
	case <-r.Context().Done():
	case <-m.released:
	}
}

func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

func answers(status int, retryAfter time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"errors":["not now"]}`)
	}
}
