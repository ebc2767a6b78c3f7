package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// The connection is good for one request, dies with the next, and would be good
// for more if the transport opened another.
func TestAMessageIsNotSentAgainWhenAKeptConnectionDies(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		for name, end := range map[string]func(net.Conn){"hung up": hangUp, "reset": reset} {
			t.Run(name, func(t *testing.T) {
				var requests atomic.Int32
				c := client(t, by(plain(t)), "http://"+listener(t, func(conn net.Conn) {
					r := bufio.NewReader(conn)
					for readRequest(r) {
						if requests.Add(1) == 2 {
							end(conn)
							return
						}
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+answer)
					}
				}))
				require.NoError(t, c.Send(t.Context(), 0, message).Err)
				exchange := c.Send(t.Context(), 0, message)
				require.True(t, exchange.Sent)
				brokeOff(t, exchange)
				require.EqualValues(t, 2, requests.Load())
			})
		}
	})
}

// deaf is a connection on which nothing can be written any more once it is so.
type deaf struct {
	*net.TCPConn
	now *atomic.Bool
}

func (d deaf) Write(b []byte) (int, error) {
	if d.now.CompareAndSwap(true, false) {
		return 0, errors.New("broken pipe")
	}
	return d.TCPConn.Write(b)
}

// counted is a connection that counts what is written to it.
type counted struct {
	*net.TCPConn
	writes *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(b)
}

// ReadFrom hides that of the TCP connection, so that all goes by Write.
func (c counted) ReadFrom(from io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, from)
}

func TestAMessageLeavesInOneWrite(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		var writes atomic.Int32
		transport := plain(t)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return counted{conn.(*net.TCPConn), &writes}, nil
		}
		require.NoError(t, send(t, func(*http.Transport) http.RoundTripper { return by(transport) }, says(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).Err)
		require.EqualValues(t, 1, writes.Load())
	})
}

func TestAMessageOfWhichNothingWasWrittenTakesANewConnection(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		var requests atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
		defer server.Close()
		var broken atomic.Bool
		transport := plain(t)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return deaf{conn.(*net.TCPConn), &broken}, nil
		}
		c := client(t, by(transport), server.URL)
		require.NoError(t, c.Send(t.Context(), 0, message).Err)
		broken.Store(true)
		require.NoError(t, c.Send(t.Context(), 0, message).Err)
		require.EqualValues(t, 2, requests.Load())
	})
}

// Here the server leaves while the client may be about to write. Whatever the transport
// does then, no message is there twice, and none that was there is denied.
func TestAMessageIsSentAtMostOnceOnConnectionsThatCloseWhenIdle(t *testing.T) {
	overEach(t, func(t *testing.T, by over) {
		var requests atomic.Int32
		c := client(t, by(plain(t)), "http://"+listener(t, func(conn net.Conn) {
			if readRequest(bufio.NewReader(conn)) {
				requests.Add(1)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+answer)
			}
			_ = conn.Close()
		}))
		for range 200 {
			before := requests.Load()
			exchange := c.Send(t.Context(), 0, message)
			seen := requests.Load() - before
			require.LessOrEqual(t, seen, int32(1))
			require.True(t, exchange.Sent)
			if exchange.Err == nil {
				require.EqualValues(t, 1, seen)
			}
		}
	})
}

func TestATransportThatTellsNothingIsNotBelieved(t *testing.T) {
	for _, err := range []error{
		errors.New("reading " + canary),
		context.DeadlineExceeded,
		context.Canceled,
		io.EOF,
		&net.OpError{Op: "dial", Err: errors.New("refused")},
		&url.Error{Op: "Post", URL: "https://x/?access_token=" + canary, Err: io.EOF},
		&url.Error{Op: "Post", URL: "https://x/?access_token=" + canary, Err: &url.Error{Op: "Post", URL: canary, Err: io.EOF}},
		fmt.Errorf("POST https://x/?access_token=%s: %w", canary, &net.OpError{Op: "read", Err: errors.New("reset")}),
	} {
		exchange := client(t, roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }), "https://x").
			Send(t.Context(), 0, message)
		require.True(t, exchange.Sent)
		brokeOff(t, exchange)
	}
}
