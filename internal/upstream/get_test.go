package upstream_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/upstream"
	"midas-sidecar/internal/wechat"
)

// login is a message without a body.
var login = wechat.Code2Session("wx1", secrets.NewValue(canary), "code")

func TestAMessageWithoutABodyIsAGet(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		var got *http.Request
		var body []byte
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body)
			_, _ = io.WriteString(w, answer)
		}))
		t.Cleanup(server.Close)
		e := client(t, by(plain(t)), server.URL).Send(t.Context(), 0, login)
		require.NoError(t, e.Err)
		require.Equal(t, http.MethodGet, got.Method)
		require.Equal(t, "/sns/jscode2session?"+login.Query(), got.RequestURI)
		require.Empty(t, body)
		require.Zero(t, got.ContentLength)
		require.NotContains(t, got.Header, "Content-Type")
	})
}

// net/http repeats a GET by itself where a kept connection dies under it, though the
// server may have read it: a js_code would be used up by an answer that nobody sees.
func TestAGetWhoseConnectionDiesIsNotSentAgain(t *testing.T) {
	for name, end := range map[string]func(net.Conn){"hang up": hangUp, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			overEach(t, func(t *testing.T, by over) {
				var requests atomic.Int32
				host := "http://" + listener(t, func(conn net.Conn) {
					reader := bufio.NewReader(conn)
					for readRequest(reader) {
						if requests.Add(1) > 1 {
							end(conn)
							return
						}
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
					}
				})
				c := client(t, by(plain(t)), host)
				require.NoError(t, c.Send(t.Context(), 0, login).Err)
				e := c.Send(t.Context(), 0, login)
				require.Error(t, e.Err)
				require.True(t, e.Sent)
				require.NotContains(t, e.Err.Error(), canary)
				require.Equal(t, int32(2), requests.Load())
			})
		})
	}
}

// A kept connection that died before has carried nothing of the message.
func TestAGetTakesAnotherConnectionWhereAKeptOneIsDead(t *testing.T) {
	var connections atomic.Int32
	closed := make(chan struct{}, 2)
	host := "http://" + listener(t, func(conn net.Conn) {
		connections.Add(1)
		if readRequest(bufio.NewReader(conn)) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
		_ = conn.Close()
		closed <- struct{}{}
	})
	// net/http sees that a moment later.
	c := client(t, byHTTP1(t)(plain(t)), host)
	for range 2 {
		require.NoError(t, c.Send(t.Context(), 0, login).Err)
		<-closed
	}
	require.Equal(t, int32(2), connections.Load())
}

func TestAGetOverHTTP2IsSentOnce(t *testing.T) {
	var requests atomic.Int32
	host, transport := http2(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, answer)
	})
	c, err := upstream.New([]string{host}, transport)
	require.NoError(t, err)
	require.NoError(t, c.Send(t.Context(), 0, login).Err)
	e := c.Send(t.Context(), 0, login)
	require.Error(t, e.Err)
	require.True(t, e.Sent)
	require.Equal(t, int32(2), requests.Load())
}
