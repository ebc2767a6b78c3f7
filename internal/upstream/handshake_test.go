package upstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/handshake/handshaketest"
	"midas-sidecar/internal/http1"
	"midas-sidecar/internal/upstream"
)

// A handshake that has timed out sent nothing, and the next attempt gets through.
func TestAHandshakeThatTimesOutSendsNothing(t *testing.T) {
	for name, by := range map[string]func(*http.Transport, *handshake.Hosts) http.RoundTripper{
		"net-http": func(base *http.Transport, hosts *handshake.Hosts) http.RoundTripper {
			return handshake.NewTransport(base, hosts)
		},
		"http1": func(base *http.Transport, hosts *handshake.Hosts) http.RoundTripper { return http1.New(base, hosts) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.NotFoundHandler())
			defer server.Close()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			base := plain(t)
			base.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			transport := by(base, handshake.NewHosts(slog.New(slog.DiscardHandler)))
			relay := handshaketest.NewRelay(t, server.Listener.Addr().String())
			attempt := func() upstream.Exchange {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				return client(t, transport, "https://"+relay.Addr).Send(ctx, 0, message)
			}
			e := attempt()
			require.False(t, e.Sent)
			require.EqualError(t, e.Err, "TLS handshake timed out")
			e = attempt()
			require.NoError(t, e.Err)
			require.Equal(t, http.StatusNotFound, e.Status)
		})
	}
}
