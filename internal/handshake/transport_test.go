package handshake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/handshake/handshaketest"
)

// world is a transport that leads to a server by a network that drops a large ClientHello.
type world struct {
	*handshake.Transport
	relay *handshaketest.Relay
	base  *http.Transport
	lines func() []string
}

func newWorld(t *testing.T, changes ...func(*http.Transport)) *world {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	w := &world{relay: handshaketest.NewRelay(t, server.Listener.Addr().String())}
	w.base = &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.relay.Addr)
		},
	}
	for _, change := range changes {
		change(w.base)
	}
	hosts, lines := newHosts()
	w.Transport, w.lines = handshake.NewTransport(w.base, hosts), lines
	t.Cleanup(w.CloseIdleConnections)
	return w
}

// ask sends one request over a connection of its own, and returns the protocol.
func (w *world) ask(t *testing.T) (string, error) {
	t.Helper()
	defer w.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://example.com", http.NoBody)
	require.NoError(t, err)
	res, err := w.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	require.Equal(t, tls.X25519, res.TLS.CurveID)
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestTransportGetsThroughWithoutMLKEM(t *testing.T) {
	for name, c := range map[string]struct {
		protocol string
		change   func(*http.Transport)
	}{
		"HTTP/1.1":          {"HTTP/1.1", func(*http.Transport) {}},
		"HTTP/2":            {"HTTP/2.0", func(base *http.Transport) { base.ForceAttemptHTTP2 = true }},
		"a time of its own": {"HTTP/1.1", func(base *http.Transport) { base.TLSHandshakeTimeout = 200 * time.Millisecond }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.change)
			_, err := w.ask(t)
			require.ErrorIs(t, err, handshake.ErrTimeout)
			for range 10 {
				protocol, err := w.ask(t)
				require.NoError(t, err)
				require.Equal(t, c.protocol, protocol)
			}
			require.EqualValues(t, 1, w.relay.Dropped.Load())
			require.Len(t, w.lines(), 1)
			require.Contains(t, w.lines()[0], "level=WARN")
		})
	}
}

// It is what this package is for.
func TestWithoutItNothingGetsThrough(t *testing.T) {
	w := newWorld(t)
	w.Transport = handshake.NewTransport(w.base, nil)
	for range 3 {
		_, err := w.ask(t)
		require.ErrorIs(t, err, handshake.ErrTimeout)
	}
	require.Zero(t, w.relay.Passed.Load())
}

func TestTransportGetsThroughAProxy(t *testing.T) {
	w := newWorld(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		there, err := net.Dial("tcp", w.relay.Addr)
		if r.Method != http.MethodConnect || err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		rw.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		_, _ = io.Copy(here, there)
	}))
	defer proxy.Close()
	to, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	base := w.base.Clone()
	base.Proxy, base.DialContext = http.ProxyURL(to), nil
	hosts, _ := newHosts()
	w.Transport = handshake.NewTransport(base, hosts)
	_, err = w.ask(t)
	require.ErrorIs(t, err, handshake.ErrTimeout)
	_, err = w.ask(t)
	require.NoError(t, err)
}

// Who gives up does not find out about the network.
func TestACallerThatGoesIsNoTimeout(t *testing.T) {
	w := newWorld(t)
	ctx, leave := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, leave)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com", http.NoBody)
	require.NoError(t, err)
	_, err = w.RoundTrip(req)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, w.lines()[0])
}

func TestAHandshakeThatIsCutIsNoTimeout(t *testing.T) {
	w := newWorld(t)
	w.base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() { _, _ = there.Read(make([]byte, 1)); _ = there.Close() }()
		return here, nil
	}
	_, err := w.ask(t)
	require.Error(t, err)
	require.NotErrorIs(t, err, handshake.ErrTimeout)
	require.Empty(t, w.lines()[0])
}

// A server that says nothing once the handshake is done is another matter.
func TestAnAnswerThatDoesNotComeIsNoTimeoutOfTheHandshake(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	hosts, lines := newHosts()
	transport := handshake.NewTransport(server.Client().Transport.(*http.Transport).Clone(), hosts)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, handshake.ErrTimeout)
	require.Empty(t, lines()[0])
}
