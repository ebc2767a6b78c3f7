//go:build unix && !aix

package http1_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/http1"
)

var errGone = errors.New("the caller has gone")

func TestWhoHasGoneSendsNothing(t *testing.T) {
	for _, kept := range []bool{false, true} {
		w := newWorld(t, "http", answers)
		if kept {
			w.said(t, "/")
		}
		ctx, gone := context.WithCancelCause(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { t.Error("there is a connection") },
		}))
		gone(errGone)
		closed := new(closing)
		req := w.order(ctx, "/")
		req.Body = closed
		_, err := w.RoundTrip(req)
		require.ErrorIs(t, err, errGone)
		require.True(t, closed.yes, "the body is not closed")
		if kept {
			require.Equal(t, "1/a", w.said(t, "/a"), "the connection that was kept is not used up")
		}
	}
}

type closing struct {
	strings.Reader
	yes bool
}

func (c *closing) Close() error { c.yes = true; return nil }

// Whoever leaves, at whatever moment, leaves no goroutine, no connection, and none that
// the next would wait on in vain.
func TestWhoGoesLeavesNothingBehind(t *testing.T) {
	silence := func(p *peer) { p.heard(); _, _ = io.Copy(io.Discard, p) }
	saying := func(s string) func(*peer) {
		return func(p *peer) { p.heard(); p.say(s); _, _ = io.Copy(io.Discard, p) }
	}
	for _, c := range []struct {
		name, scheme string
		serve        func(*peer)
		connected    bool
	}{
		{"during the dial", "http", nil, false},
		{"during the handshake", "https", func(p *peer) { _, _ = io.Copy(io.Discard, p) }, false},
		{"during the write", "http", func(p *peer) { _, _ = p.Peek(1); <-p.gone }, true},
		{"while waiting", "http", silence, true},
		{"after a preliminary answer", "http", saying("HTTP/1.1 100 Continue\r\n\r\n"), true},
		{"in the header", "http", saying("HTTP/1.1 200 OK\r\nContent-"), true},
		{"in the body", "http", saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), true},
		{"in a chunk", "http", saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell"), true},
		{"in a body that ends by closing", "http", saying("HTTP/1.1 200 OK\r\n\r\nhello"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open atomic.Int32
				transport := http1.New(&http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					if c.serve == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					here, there := net.Pipe()
					open.Add(1)
					gone := make(chan struct{})
					go func() { c.serve(&peer{Conn: there, Reader: bufio.NewReader(there), gone: gone}); _ = there.Close() }()
					return &counting{Conn: here, open: &open, gone: gone}, nil
				}}, nil)
				connected := false
				ctx, leave := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { leave(errGone) })
				ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.scheme+"://example.com", strings.NewReader(strings.Repeat("x", 1<<16)))
				require.NoError(t, err)
				start := time.Now()
				_, err = read(transport.RoundTrip(req))
				require.ErrorIs(t, err, errGone)
				require.Equal(t, time.Second, time.Since(start))
				require.Equal(t, c.connected, connected)
				require.Zero(t, open.Load(), "connections are left open")
			})
		})
	}
}

func TestAHandshakeHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := http1.New(&http.Transport{TLSHandshakeTimeout: time.Second, DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}}, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com", http.NoBody)
		require.NoError(t, err)
		start := time.Now()
		_, err = transport.RoundTrip(req)
		require.Equal(t, handshake.ErrTimeout, err)
		require.Equal(t, time.Second, time.Since(start))
	})
}

type counting struct {
	net.Conn
	open *atomic.Int32
	gone chan struct{}
}

func (c *counting) Close() error {
	err := c.Conn.Close()
	select {
	case <-c.gone:
	default:
		close(c.gone)
		c.open.Add(-1)
	}
	return err
}

func TestTheAnswerOfOneWhoWentBeforeItsEndWasReadTakesItsConnectionAlong(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		ctx, cancel := context.WithCancel(t.Context())
		res, err := w.RoundTrip(w.order(ctx, "/"))
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, res.Body)
		cancel()
		require.NoError(t, res.Body.Close())
		require.Zero(t, w.open())
		require.Equal(t, "2/", w.said(t, "/"))
	})
}

func TestWhoGoesAfterwardsHarmsNobody(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := read(w.RoundTrip(w.order(ctx, "/")))
			require.NoError(t, err)
			cancel()
		}
		require.EqualValues(t, 1, w.dialed.Load())
	})
}

// One goes at about the moment at which the connection is put back: whichever comes
// first, the next is served. Under -race.
func TestWhoGoesAtTheLastMomentHarmsNobody(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		for range 300 {
			ctx, cancel := context.WithCancel(t.Context())
			res, err := w.RoundTrip(w.order(ctx, "/"))
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, res.Body)
			gone := make(chan struct{})
			go func() { cancel(); close(gone) }()
			require.NoError(t, res.Body.Close())
			w.said(t, "/")
			<-gone
			w.said(t, "/")
		}
	})
}

// watched is a context that knows how many wait for its end.
type watched struct {
	context.Context //nolint:containedctx // it is one
	waiting         atomic.Int32
}

func (w *watched) Done() <-chan struct{} { return make(chan struct{}) }

func (w *watched) AfterFunc(func()) (stop func() bool) {
	w.waiting.Add(1)
	return func() bool { return w.waiting.Add(-1) == 0 }
}

// A caller's context may last for long, and must not gather what was done under it.
func TestNothingWaitsForAContextAfterwards(t *testing.T) {
	for name, says := range map[string]string{"an answer": answer(""), "none": "x\r\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "http", func(p *peer) { p.heard(); p.say(says) })
			ctx := &watched{Context: t.Context()}
			_, err := read(w.RoundTrip(w.order(ctx, "/")))
			require.Equal(t, name == "none", err != nil)
			require.Zero(t, ctx.waiting.Load())
		})
	}
}
