//go:build unix && !aix

package http1_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAConnectionCarriesOneRequestAfterTheOther(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		for range 3 {
			require.Equal(t, "1/x", w.said(t, "/x"))
		}
		require.EqualValues(t, 1, w.open())
	})
}

func TestAnAnswerWithoutABodyKeepsItsConnectionUnread(t *testing.T) {
	w := newWorld(t, "http", func(p *peer) {
		for p.heard() != nil {
			p.say("HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	for range 2 {
		res, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	require.EqualValues(t, 1, w.dialed.Load())
}

// The answer to a request is what the server says after it, not what was left of the one
// before: here the first connection says more than it was asked, at once or later.
func TestWhatWasNotAskedForIsNobodysAnswer(t *testing.T) {
	stale := answer("stale")
	for name, c := range map[string]struct {
		method string
		says   []string // each in a packet, and in a TLS record, of its own
	}{
		"two answers at once":             {"POST", []string{answer("1/a") + stale}},
		"two answers, one after another":  {"POST", []string{answer("1/a"), stale}},
		"the second begun":                {"POST", []string{answer("1/a") + "HTTP/1.1 200 OK\r\nContent-Le"}},
		"a byte":                          {"POST", []string{answer("1/a") + "\n"}},
		"a byte, later":                   {"POST", []string{answer("1/a"), "\n"}},
		"after the last chunk":            {"POST", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n1/a\r\n0\r\n\r\n" + stale}},
		"after trailers":                  {"POST", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n1/a\r\n0;z\r\nX: y\r\n\r\n" + stale}},
		"beyond a length that chunks win": {"POST", []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n1/a\r\n0\r\n\r\n" + stale}},
		"with what has no body":           {"POST", []string{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n" + stale}},
		"with what did not change":        {"POST", []string{"HTTP/1.1 304 Not Modified\r\n\r\n" + stale}},
		"with the answer to HEAD":         {"HEAD", []string{answer("1/a") + stale}},
		"as large as the buffer":          {"POST", []string{answer(strings.Repeat("x", 4096-len(answer(""))-3)) + stale}},
		"in a large answer":               {"POST", []string{answer(strings.Repeat("x", 1<<16)), stale}},
		"after another protocol":          {"POST", []string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + stale}},
		"after a status below all":        {"POST", []string{"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n" + stale}},
		"with an end by closing":          {"POST", []string{answer("1/a"), ""}},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, scheme string) {
				said := make(chan struct{})
				w := newWorld(t, scheme, func(p *peer) {
					if p.number > 1 {
						answers(p)
						return
					}
					p.heard()
					for _, s := range c.says {
						if s == "" {
							_ = p.Close()
						}
						p.say(s)
					}
					close(said)
					<-t.Context().Done() // the connection stays
				})
				req := w.order(t.Context(), "/a")
				req.Method = c.method
				_, err := read(w.RoundTrip(req))
				require.NoError(t, err)
				<-said
				require.Equal(t, "2/b", w.said(t, "/b"))
			})
		})
	}
}

// What comes with an answer's end is seen at once, and the connection not kept till then.
func TestAConnectionThatSaysTooMuchIsClosed(t *testing.T) {
	w := newWorld(t, "http", func(p *peer) {
		p.heard()
		p.say(answer("") + answer("stale"))
	})
	w.said(t, "/")
	require.Zero(t, w.open())
}

func TestAnAnswerThatIsNotReadToItsEndTakesItsConnectionAlong(t *testing.T) {
	for name, reads := range map[string]func(io.Reader){
		"unread":      func(io.Reader) {},
		"half read":   func(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 2) },
		"broken off":  func(r io.Reader) { _, _ = io.Copy(io.Discard, r) },
		"its trailer": func(r io.Reader) { _, _ = io.Copy(io.Discard, r) },
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, scheme string) {
				w := newWorld(t, scheme, func(p *peer) {
					if p.number > 1 {
						answers(p)
						return
					}
					p.heard()
					switch name {
					case "broken off":
						p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n!\r\n")
					case "its trailer":
						p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n!\r\n\r\n")
					default:
						p.say(answer("hello"))
					}
					<-t.Context().Done()
				})
				res, err := w.RoundTrip(w.order(t.Context(), "/"))
				require.NoError(t, err)
				reads(res.Body)
				require.NoError(t, res.Body.Close())
				require.Zero(t, w.open())
				require.Equal(t, "2/b", w.said(t, "/b"))
			})
		})
	}
}

// wrapsEOF is a connection that says more about its end than io.Reader knows.
type wrapsEOF struct{ *counted }

func (c wrapsEOF) Read(b []byte) (int, error) {
	n, err := c.counted.Read(b)
	if err != nil {
		err = fmt.Errorf("reading: %w", err)
	}
	return n, err
}

func TestAnErrorThatWrapsTheEndIsNotTheEnd(t *testing.T) {
	w := newWorld(t, "http", func(p *peer) {
		p.heard()
		p.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
	}, wrapped(func(c *counted) net.Conn { return wrapsEOF{c} }))
	_, err := read(w.RoundTrip(w.order(t.Context(), "/")))
	require.Error(t, err)
	require.Zero(t, w.open())
}

// wrapped changes what is dialed.
func wrapped(with func(*counted) net.Conn) func(*http.Transport) {
	return func(base *http.Transport) {
		dial := base.DialContext
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return with(c.(*counted)), nil
		}
	}
}

func TestWhatEitherSideEndsIsNotKept(t *testing.T) {
	for name, c := range map[string]struct {
		says    string
		changes func(*http.Request)
	}{
		"the server says so":  {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", func(*http.Request) {}},
		"HTTP/1.0":            {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", func(*http.Request) {}},
		"another protocol":    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", func(*http.Request) {}},
		"a status below all":  {"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n", func(*http.Request) {}},
		"the request says so": {answer(""), func(req *http.Request) { req.Close = true }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "http", func(p *peer) {
				p.heard()
				p.say(c.says)
				<-t.Context().Done()
			})
			req := w.order(t.Context(), "/")
			c.changes(req)
			_, err := read(w.RoundTrip(req))
			require.NoError(t, err)
			require.Zero(t, w.open())
		})
	}
}

// mute is a connection whose socket cannot be asked.
type mute struct{ net.Conn }

func TestAConnectionThatCannotBeAskedIsUsedOnce(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers, wrapped(func(c *counted) net.Conn { return mute{c} }))
		require.Equal(t, "1/a", w.said(t, "/a"))
		require.Zero(t, w.open())
		require.Equal(t, "2/b", w.said(t, "/b"))
	})
}

// slow is a connection that gives each read a time of its own, as Caddy's read_timeout
// does. A look at what it has must not take that time.
type slow struct{ *counted }

func (c slow) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		return 0, err
	}
	return c.counted.Read(b)
}

func TestAConnectionMayHaveTimesOfItsOwn(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		silent := make(chan struct{})
		w := newWorld(t, scheme, func(p *peer) {
			for range 2 {
				p.heard()
				p.say(answer(""))
			}
			p.heard()
			close(silent)
			<-t.Context().Done()
		}, wrapped(func(c *counted) net.Conn { return slow{c} }))
		for range 2 {
			w.said(t, "/")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-silent; cancel() }()
		_, err := w.RoundTrip(w.order(ctx, "/"))
		require.ErrorIs(t, err, context.Canceled)
		require.EqualValues(t, 1, w.dialed.Load())
	})
}

// The next read would give itself an hour: who goes before it begins must end it, too.
func TestWhoGoesBetweenTwoReadsEndsTheSecond(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, func(p *peer) {
			p.heard()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
			<-t.Context().Done()
		}, wrapped(func(c *counted) net.Conn { return slow{c} }))
		ctx, cancel := context.WithCancel(t.Context())
		res, err := w.RoundTrip(w.order(ctx, "/"))
		require.NoError(t, err)
		_, err = res.Body.Read(make([]byte, 1))
		require.NoError(t, err)
		cancel()
		require.Eventually(t, func() bool { return w.open() == 0 }, 10*time.Second, time.Millisecond)
		_, err = read(res, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestABodyThatIsClosedTwiceGivesItsConnectionBackOnce(t *testing.T) {
	w := newWorld(t, "http", answers)
	res, err := w.RoundTrip(w.order(t.Context(), "/"))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, res.Body.Close())
	}
	a, err := w.RoundTrip(w.order(t.Context(), "/a"))
	require.NoError(t, err)
	b, err := w.RoundTrip(w.order(t.Context(), "/b"))
	require.NoError(t, err)
	require.EqualValues(t, 2, w.dialed.Load())
	for _, res := range []*http.Response{a, b} {
		_, err := read(res, nil)
		require.NoError(t, err)
	}
}

func TestABodyThatIsClosedIsNotReadAnyMore(t *testing.T) {
	w := newWorld(t, "http", answers)
	for _, whole := range []bool{true, false} {
		res, err := w.RoundTrip(w.order(t.Context(), "/a"))
		require.NoError(t, err)
		if whole {
			_, _ = io.Copy(io.Discard, res.Body)
		}
		require.NoError(t, res.Body.Close())
		_, err = res.Body.Read(make([]byte, 1))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	}
}

func TestClosingABodyEndsTheReadOfAnother(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, func(p *peer) {
			p.heard()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
			<-t.Context().Done()
		})
		res, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.NoError(t, err)
		began, ended := make(chan struct{}), make(chan error)
		go func() {
			_, _ = res.Body.Read(make([]byte, 1))
			close(began)
			_, err := res.Body.Read(make([]byte, 1))
			ended <- err
		}()
		<-began
		require.NoError(t, res.Body.Close())
		require.Error(t, <-ended)
		require.Zero(t, w.open())
	})
}

// The point of it all.
func TestACallCostsNoGoroutine(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		w.said(t, "/")
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		res, err := w.RoundTrip(w.order(ctx, "/"))
		require.NoError(t, err)
		require.LessOrEqual(t, runtime.NumGoroutine(), before)
		_, err = read(res, nil)
		require.NoError(t, err)
	})
}
