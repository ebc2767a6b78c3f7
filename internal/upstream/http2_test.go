package upstream_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	h2 "golang.org/x/net/http2"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// An HTTP/2 server may refuse a stream unseen, which invites the client to send it
// again. net/http accepts the invitation for a POST, too, if it can; but whoever
// counts the attempts must be the one to make them.
func TestAStreamThatIsRefusedIsNotSentAgainBehindOurBack(t *testing.T) {
	var streams atomic.Int32
	url, roots := refusingStreams(t, &streams)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := upstream.New([]string{url}, transport)
	require.NoError(t, err)

	exchange := client.Send(t.Context(), 0, wechat.StableToken("wx1", secrets.NewValue("s")))
	require.True(t, exchange.Sent)
	require.Error(t, exchange.Err)
	require.Equal(t, int32(1), streams.Load())
}

// refusingStreams is a server that resets every stream with REFUSED_STREAM.
func refusingStreams(t *testing.T, streams *atomic.Int32) (url string, roots *x509.CertPool) {
	t.Helper()
	// Lends its certificate.
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(lender.Close)
	roots = x509.NewCertPool()
	roots.AddCert(lender.Certificate())

	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: lender.TLS.Certificates,
		NextProtos:   []string{"h2"},
		MinVersion:   tls.VersionTLS12,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go refuseStreams(conn, streams)
		}
	}()
	return "https://" + listener.Addr().String(), roots
}

func refuseStreams(conn net.Conn, streams *atomic.Int32) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(h2.ClientPreface))); err != nil {
		return
	}
	framer := h2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *h2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *h2.HeadersFrame:
			streams.Add(1)
			err = framer.WriteRSTStream(f.StreamID, h2.ErrCodeRefusedStream)
		}
		if err != nil {
			return
		}
	}
}

func TestHTTP2AnswersAreRead(t *testing.T) {
	host, transport := http2(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Proto)
	})
	c := client(t, transport, host)
	for range 2 { // on a new connection and on a kept one
		exchange := c.Send(t.Context(), 0, message)
		require.NoError(t, exchange.Err)
		require.Equal(t, "HTTP/2.0", string(exchange.Body))
	}
}

func TestWhatBreaksOffOverHTTP2MayHaveBeenSent(t *testing.T) {
	for name, do := range map[string]http.HandlerFunc{
		"silence":       func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a lost stream": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half a body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "27")
			_, _ = io.WriteString(w, answer[:9])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kept connection %t", name, kept), func(t *testing.T) {
				var bad atomic.Bool
				var requests atomic.Int32
				host, transport := http2(t, func(w http.ResponseWriter, r *http.Request) {
					if bad.Load() {
						requests.Add(1)
						do(w, r)
					}
				})
				c := client(t, transport, host)
				if kept {
					require.NoError(t, c.Send(t.Context(), 0, message).Err)
				}
				bad.Store(true)
				exchange := c.Send(soon(t), 0, message)
				require.True(t, exchange.Sent, exchange.Err)
				brokeOff(t, exchange)
				require.EqualValues(t, 1, requests.Load())
			})
		}
	}
}
