package caddymodule_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
)

// A refusal does not wait for what is left of a body, and the connection of a caller
// that stalls ends.
func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	w := newWorld(t, "", "log\n midas\n respond 404")
	for name, head := range map[string]string{
		"a method":               "PUT " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + asJSON + "Content-Length: 200\r\n\r\n{",
		"a type":                 headed("Content-Type: text/plain\r\nContent-Length: 200\r\n", "{"),
		"a coding":               headed(asJSON+"Content-Encoding: gzip\r\nContent-Length: 200\r\n", "{"),
		"a type, expecting":      headed("Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 200\r\n", ""),
		"a length":               headed(asJSON+"Content-Length: 20000\r\n", "{"),
		"a length, expecting":    headed(asJSON+"Expect: 100-continue\r\nContent-Length: 20000\r\n", ""),
		"a great length":         headed(asJSON+"Content-Length: 20000000\r\n", "{"),
		"too many chunks":        headed(asJSON+chunked, "5000\r\n"+strings.Repeat(" ", 0x5000)+"\r\n"),
		"a chunk that is none":   headed(asJSON+chunked, "canary\r\n"),
		"chunks of another kind": headed("Content-Type: text/plain\r\n"+chunked, "5\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			conn := w.dial()
			_, err := io.WriteString(conn, head)
			require.NoError(t, err)
			a := w.answered(conn)
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			_, err = conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			w.requireAlive()
		})
	}
	require.Zero(t, w.hits.count(payPath))
}

// A caller that sends a byte now and then keeps no connection longer than deadline.
func TestABodyThatTricklesIsGivenUp(t *testing.T) {
	w := newWorld(t, "deadline 300ms\n attempt_timeout 100ms\n app "+appID+" {\n offer_id 12345678\n }", "")
	conn := w.dial()
	_, err := io.WriteString(conn, headed(asJSON+"Content-Length: 16000\r\n", "{"))
	require.NoError(t, err)
	go func() {
		for err == nil {
			time.Sleep(20 * time.Millisecond)
			_, err = io.WriteString(conn, " ")
		}
	}()
	a := w.answered(conn)
	require.Equal(t, "body: ended before it was complete", a.Errmsg)
	require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
}

// The time for the body is not the time for the payment, nor for the connection.
func TestAConnectionOutlivesTheTimeForABody(t *testing.T) {
	w := newWorld(t, "deadline 200ms\n attempt_timeout 100ms\n app "+appID+" {\n offer_id 12345678\n }", "")
	conn := w.dial()
	for i := range 3 {
		_, err := io.WriteString(conn, posted(payPath, "", pay(fmt.Sprint("b", i), 1)))
		require.NoError(t, err)
		require.Equal(t, "applied", w.answered(conn).header.Get("Midas-Outcome"))
		time.Sleep(250 * time.Millisecond)
	}
}

// counting is a listener wrapper that counts the bytes read from callers.
type counting struct{}

var received atomic.Int64

func init() { caddy.RegisterModule(counting{}) }

func (counting) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.counting", New: func() caddy.Module { return new(counting) }}
}

func (counting) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (counting) WrapListener(l net.Listener) net.Listener { return countingListener{l} }

type countingListener struct{ net.Listener }

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn}, nil
}

type countingConn struct{ net.Conn }

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	received.Add(int64(n))
	return n, err
}

// Twice, before its answer and behind, the server reads up to 256 KiB of a refused
// body, to give its caller a chance to hear of it, and keeps none of that.
func TestOfABodyThatIsTooLargeLittleIsRead(t *testing.T) {
	w := newWorld(t, "", "")
	w.with("servers {\n listener_wrappers {\n counting\n }\n }")
	const most = 16<<10 + 1 + 2*256<<10 + 16<<10 // max_body and one, the rest, headers and buffers
	megabyte := strings.Repeat(" ", 1<<20)

	for name, head := range map[string]string{
		"of a length":       headed(asJSON+"Content-Length: 1000000000\r\n", ""),
		"in chunks":         headed(asJSON+chunked, "40000000\r\n"),
		"of another type":   headed("Content-Type: text/plain\r\nContent-Length: 1000000000\r\n", ""),
		"by another method": strings.Replace(headed(asJSON+chunked, "40000000\r\n"), "POST", "PUT", 1),
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			received.Store(0)
			conn := w.dial()
			_, err := io.WriteString(conn, head)
			require.NoError(t, err)
			for err == nil { // until the sidecar hangs up
				_, err = io.WriteString(conn, megabyte)
			}
			require.LessOrEqual(t, received.Load(), int64(most))
			require.NotZero(t, received.Load())
			w.requireAlive()
		})
	}
	require.Zero(t, w.hits.count(payPath))
}

type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
