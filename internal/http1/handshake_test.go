//go:build unix && !aix

package http1_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/handshake/handshaketest"
	"midas-sidecar/internal/http1"
)

// relayed returns a transport that leads to a TLS server by a network that drops a large
// ClientHello, and the lines of its log so far.
func relayed(t *testing.T, changes ...func(*http.Transport)) (transport *http1.Transport, relay *handshaketest.Relay, lines func() string) {
	t.Helper()
	certificate, roots := certificate()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	relay = handshaketest.NewRelay(t, server.Listener.Addr().String())
	base := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, relay.Addr)
		},
	}
	for _, change := range changes {
		change(base)
	}
	var text strings.Builder
	transport = http1.New(base, handshake.NewHosts(slog.New(slog.NewTextHandler(&text, nil))))
	t.Cleanup(transport.CloseIdleConnections)
	return transport, relay, text.String
}

func TestAHandshakeThatTimesOutIsTriedWithoutMLKEM(t *testing.T) {
	transport, relay, lines := relayed(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com", http.NoBody)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	require.Equal(t, handshake.ErrTimeout, err)
	for n := range 10 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com", http.NoBody)
		require.NoError(t, err)
		res, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, tls.X25519, res.TLS.CurveID)
		require.Equal(t, n > 0, res.TLS.DidResume, "the session of TLS")
		_, err = read(res, nil)
		require.NoError(t, err)
		transport.CloseIdleConnections()
	}
	require.EqualValues(t, 1, relay.Dropped.Load())
	require.Equal(t, 1, strings.Count(lines(), "level=WARN"))
}

// What the user has chosen is never widened.
func TestTheCurvesThatTheUserChoseAreKept(t *testing.T) {
	for _, c := range []struct {
		chosen []tls.CurveID
		works  bool
	}{
		{[]tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, true},
		{[]tls.CurveID{tls.X25519MLKEM768}, false},
	} {
		transport, _, lines := relayed(t, func(base *http.Transport) {
			base.TLSClientConfig.CurvePreferences = c.chosen
			base.TLSHandshakeTimeout = 200 * time.Millisecond
		})
		var err error
		for range 2 {
			req, fails := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com", http.NoBody)
			require.NoError(t, fails)
			var res *http.Response
			if res, err = transport.RoundTrip(req); err == nil {
				require.Equal(t, tls.CurveP384, res.TLS.CurveID)
				_, _ = read(res, nil)
			}
		}
		if c.works {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, handshake.ErrTimeout)
			require.Empty(t, lines(), "of what cannot be left out")
		}
	}
}
