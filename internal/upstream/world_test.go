package upstream_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/http1"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

// canary is the access_token in the query of every message, which no error may
// hold.
const canary = "canary-5ecret"

// message is a signed order.
var message = func() wechat.Outbound {
	order, err := wechat.Decode(wechat.At(wechat.Pay, wechat.Official), []byte(`{"openid":"o1","amt":1,"bill_no":"b1"}`))
	if err != nil {
		panic(err)
	}
	return order.Sign(wechat.Keys{Midas: signer.NewKey("K"), AccessToken: secrets.NewValue(canary)}, time.Unix(1507530737, 0))
}()

// quiet is a log for servers that are meant to fail.
var quiet = log.New(io.Discard, "", 0)

const answer = `{"errcode":0,"errmsg":"ok"}`

// plain is net/http's transport as Caddy uses it, one for each test.
func plain(t *testing.T) *http.Transport {
	transport := &http.Transport{TLSHandshakeTimeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// over is what sends for net/http's transport, set up as that is.
type over func(*http.Transport) http.RoundTripper

// overEach runs a test over each of the transports: what upstream tells must not depend
// on who sends.
func overEach(t *testing.T, test func(t *testing.T, by over)) {
	t.Run("net-http", func(t *testing.T) { test(t, byNetHTTP) })
	t.Run("http1", func(t *testing.T) { test(t, byHTTP1(t)) })
}

func byNetHTTP(base *http.Transport) http.RoundTripper { return base }

func byHTTP1(t *testing.T) over {
	return func(base *http.Transport) http.RoundTripper {
		transport := http1.New(base, nil)
		t.Cleanup(transport.CloseIdleConnections)
		return transport
	}
}

func client(t *testing.T, transport http.RoundTripper, hosts ...string) *upstream.Client {
	t.Helper()
	c, err := upstream.New(hosts, transport)
	require.NoError(t, err)
	return c
}

// send sends the message once to a host, as one that has a long time for it.
func send(t *testing.T, by over, host string) upstream.Exchange {
	t.Helper()
	return client(t, by(plain(t)), host).Send(t.Context(), 0, message)
}

// soon returns a context that ends before any test gets bored.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// listener listens on loopback and hands each connection to serve, which may close
// it or let it be; all are closed in the end.
func listener(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			serving.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one whole request and tells whether there was one.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// says is the URL of a server that reads one request, answers with these bytes and
// then does what else it does.
func says(t *testing.T, bytes string, then ...func(net.Conn)) string {
	return "http://" + listener(t, func(conn net.Conn) {
		if readRequest(bufio.NewReader(conn)) {
			_, _ = io.WriteString(conn, bytes)
		}
		for _, do := range then {
			do(conn)
		}
	})
}

// The ways in which a server ends a connection.
func hangUp(conn net.Conn) { _ = conn.Close() }
func reset(conn net.Conn)  { _ = conn.(*net.TCPConn).SetLinger(0); _ = conn.Close() }

// refusing is an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// http2 starts a server that speaks HTTP/2, and a transport that trusts it.
func http2(t *testing.T, handler http.HandlerFunc) (host string, transport *http.Transport) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport.(*http.Transport)
}

// roundTripper is a transport that is not net/http's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering gives an answer without a socket.
func answering(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}
