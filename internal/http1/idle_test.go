//go:build unix && !aix

package http1_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/http1"
)

// pair has two connections open at once, each given back when it was read.
func (w *world) pair(t *testing.T) (back [2]func()) {
	t.Helper()
	for i := range back {
		res, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.NoError(t, err)
		back[i] = func() {
			_, err := read(res, nil)
			require.NoError(t, err)
		}
	}
	return back
}

func TestAsManyAreKeptAsNetHTTPWouldKeep(t *testing.T) {
	for _, c := range []struct{ most, kept int }{{-1, 0}, {0, http.DefaultMaxIdleConnsPerHost}, {1, 1}, {4, 4}} {
		w := newWorld(t, "http", answers, func(base *http.Transport) { base.MaxIdleConnsPerHost = c.most })
		var back []func()
		for range 3 {
			pair := w.pair(t)
			back = append(back, pair[:]...)
		}
		for _, b := range back {
			b()
		}
		require.EqualValues(t, c.kept, w.open())
	}
}

func TestNothingIsKeptWhereNothingShallBe(t *testing.T) {
	var closing atomic.Bool
	w := newWorld(t, "http", func(p *peer) {
		if req := p.heard(); req != nil {
			closing.Store(req.Close)
			p.say(answer(""))
		}
		<-t.Context().Done()
	}, func(base *http.Transport) { base.DisableKeepAlives = true })
	req := w.order(t.Context(), "/")
	res, err := w.RoundTrip(req)
	require.NoError(t, err)
	_, err = read(res, nil)
	require.NoError(t, err)
	require.Zero(t, w.open())
	require.True(t, closing.Load(), "the server is not told")
	require.False(t, req.Close, "the request was changed")
	require.Same(t, req, res.Request)
}

func TestConnectionsOfOneHostAreNotAnothers(t *testing.T) {
	w := newWorld(t, "http", answers)
	require.Equal(t, "1/", w.said(t, "/"))
	w.url = "http://example.com:8080"
	require.Equal(t, "2/", w.said(t, "/"))
	w.url = "http://example.com"
	require.Equal(t, "1/", w.said(t, "/"))
}

func TestClosingIdleConnectionsLeavesNothingOpenInTheEnd(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		back := w.pair(t)
		back[0]()
		require.EqualValues(t, 2, w.open())
		w.CloseIdleConnections()
		require.EqualValues(t, 1, w.open())
		back[1]() // in flight, and nobody closes idle connections once more
		require.Zero(t, w.open())

		require.Equal(t, "3/", w.said(t, "/"))
		require.EqualValues(t, 1, w.open(), "a transport that is used again keeps again")
	})
}

// Under -race.
func TestManyMayAskWhileIdleConnectionsAreClosed(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers, func(base *http.Transport) { base.IdleConnTimeout = time.Millisecond })
		var asking sync.WaitGroup
		for i := range 8 {
			asking.Go(func() {
				for n := range 50 {
					path := fmt.Sprintf("/%d-%d", i, n)
					body, err := read(w.RoundTrip(w.order(t.Context(), path)))
					if err != nil || !strings.HasSuffix(body, path) {
						t.Errorf("%s: %s, %v", path, body, err)
					}
					if n%10 == 0 {
						w.CloseIdleConnections()
					}
				}
			})
		}
		asking.Wait()
	})
}

// inTime is a transport in a bubble of its own time: the connections are pipes, the
// sockets that are asked about them others that are always silent.
func inTime(t *testing.T, timeout time.Duration, test func(t *testing.T, w *world)) {
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer silent.Close()
	synctest.Test(t, func(t *testing.T) {
		w := &world{url: "http://example.com"}
		w.base = &http.Transport{
			MaxIdleConnsPerHost: 100,
			IdleConnTimeout:     timeout,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go answers(&peer{Conn: there, Reader: bufio.NewReader(there), number: int(w.dialed.Add(1))})
				return &piped{Conn: here, socket: silent, closed: &w.closed}, nil
			},
		}
		w.Transport = http1.New(w.base, nil)
		test(t, w)
		w.CloseIdleConnections()
	})
}

type piped struct {
	net.Conn
	socket syscall.Conn
	once   sync.Once
	closed *atomic.Int32
}

func (p *piped) SyscallConn() (syscall.RawConn, error) { return p.socket.SyscallConn() }

func (p *piped) Close() error {
	p.once.Do(func() { p.closed.Add(1) })
	return p.Conn.Close()
}

func TestAConnectionGrowsOldWhenNobodyUsesIt(t *testing.T) {
	for timeout, lasts := range map[time.Duration]time.Duration{time.Minute: time.Minute, 0: 90 * time.Second} {
		inTime(t, timeout, func(t *testing.T, w *world) {
			for _, connection := range []string{"1/", "2/"} { // and again, once there was none
				require.Equal(t, connection, w.said(t, "/"))
				time.Sleep(lasts - 1)
				require.Equal(t, connection, w.said(t, "/"), "it is young again")
				time.Sleep(lasts - 1)
				require.EqualValues(t, 1, w.open())
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Zero(t, w.open())
			}
		})
	}
}

func TestEachConnectionHasItsOwnAge(t *testing.T) {
	inTime(t, time.Minute, func(t *testing.T, w *world) {
		for range 10 { // hosts come in no order
			var back []func()
			for _, host := range []string{"a", "b"} {
				w.url = "http://" + host + ".example.com"
				pair := w.pair(t)
				back = append(back, pair[:]...)
			}
			for _, b := range back {
				b()
				time.Sleep(10 * time.Second)
			}
			require.EqualValues(t, 4, w.open())
			time.Sleep(20 * time.Second)
			for left := int32(3); left >= 0; left-- { // at 60, 70, 80 and 90 seconds
				synctest.Wait()
				require.Equal(t, left, w.open())
				time.Sleep(10*time.Second - 1)
				require.Equal(t, left, w.open())
				time.Sleep(time.Nanosecond)
			}
		}
	})
}

func TestWhatComesBackAfterTheLastCleanupGrowsOldToo(t *testing.T) {
	inTime(t, 0, func(t *testing.T, w *world) {
		back := w.pair(t)
		w.CloseIdleConnections()
		w.said(t, "/") // an order in flight that is sent again
		back[0]()
		back[1]()
		require.EqualValues(t, 3, w.open())
		time.Sleep(90 * time.Second)
		synctest.Wait()
		require.Zero(t, w.open())
	})
}

func TestTheOneUsedLastIsTakenFirst(t *testing.T) {
	inTime(t, time.Minute, func(t *testing.T, w *world) {
		back := w.pair(t)
		back[1]()
		back[0]()
		require.Equal(t, "1/", w.said(t, "/"))
	})
}
