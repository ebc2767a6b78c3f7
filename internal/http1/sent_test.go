//go:build unix && !aix

package http1_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestATraceLearnsOfTheConnection(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		w := newWorld(t, scheme, answers)
		for _, reused := range []bool{false, true} {
			var told []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn: func(host string) { told = append(told, "get "+host) },
				GotConn: func(info httptrace.GotConnInfo) {
					told = append(told, fmt.Sprint("got ", info.Conn != nil, info.Reused))
				},
			})
			_, err := read(w.RoundTrip(w.order(ctx, "/")))
			require.NoError(t, err)
			require.Equal(t, []string{"get example.com", fmt.Sprint("got true ", reused)}, told)
		}
	})
}

// broken is a connection of which writes fail, once it is so.
type broken struct {
	*counted
	now   *atomic.Bool
	after int // how many bytes pass nevertheless
}

var errBroken = errors.New("broken")

func (b broken) Write(p []byte) (int, error) {
	if !b.now.Load() {
		return b.counted.Write(p)
	}
	n, _ := b.counted.Write(p[:b.after])
	return n, errBroken
}

func TestARequestOfWhichNothingWasWrittenTakesAnotherConnection(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		var now atomic.Bool
		var dialed int
		var bodies []string
		w := newWorld(t, scheme, func(p *peer) {
			for req, err := http.ReadRequest(p.Reader); err == nil; req, err = http.ReadRequest(p.Reader) {
				body, _ := io.ReadAll(req.Body)
				bodies = append(bodies, string(body))
				p.say(answer(strconv.Itoa(p.number)))
			}
		}, wrapped(func(c *counted) net.Conn {
			if dialed++; dialed > 2 {
				return c
			}
			return broken{counted: c, now: &now}
		}))
		for _, back := range w.pair(t) {
			back()
		}
		now.Store(true) // both of them
		req := w.order(t.Context(), "/")
		body := &closing{Reader: *strings.NewReader(`{"bill_no":"b1"}`)}
		req.Body = body
		said, err := read(w.RoundTrip(req))
		require.NoError(t, err)
		require.Equal(t, "3", said)
		require.Equal(t, `{"bill_no":"b1"}`, bodies[2])
		require.Len(t, bodies, 3)
		require.EqualValues(t, 1, w.open())
		require.Same(t, body, req.Body, "the request was changed")
	})
}

func TestARequestOfWhichAByteWasWrittenIsNotRepeated(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		var now atomic.Bool
		w := newWorld(t, scheme, answers, wrapped(func(c *counted) net.Conn { return broken{c, &now, 1} }))
		w.said(t, "/")
		now.Store(true)
		_, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.ErrorIs(t, err, errBroken)
		require.EqualValues(t, 1, w.dialed.Load())
		require.Zero(t, w.open())
	})
}

func TestANewConnectionThatIsBrokenIsNotReplaced(t *testing.T) {
	var now atomic.Bool
	now.Store(true)
	w := newWorld(t, "http", answers, wrapped(func(c *counted) net.Conn { return broken{counted: c, now: &now} }))
	_, err := w.RoundTrip(w.order(t.Context(), "/"))
	require.ErrorIs(t, err, errBroken)
	require.EqualValues(t, 1, w.dialed.Load())
}

func TestABodyThatCannotBeHadAgainIsNotSentAgain(t *testing.T) {
	for name, again := range map[string]func() (io.ReadCloser, error){
		"no way":   nil,
		"an error": func() (io.ReadCloser, error) { return nil, io.ErrNoProgress },
	} {
		t.Run(name, func(t *testing.T) {
			var now atomic.Bool
			w := newWorld(t, "http", answers, wrapped(func(c *counted) net.Conn { return broken{counted: c, now: &now} }))
			w.said(t, "/")
			now.Store(true)
			req := w.order(t.Context(), "/")
			req.GetBody = again
			_, err := w.RoundTrip(req)
			require.ErrorIs(t, err, errBroken)
			require.EqualValues(t, 1, w.dialed.Load())
		})
	}
}

// The connection dies with the request: what became of it, nobody knows.
func TestARequestThatIsNotAnsweredIsNotRepeated(t *testing.T) {
	overBoth(t, func(t *testing.T, scheme string) {
		var heard atomic.Int32
		w := newWorld(t, scheme, func(p *peer) {
			for range 2 {
				p.heard()
				if heard.Add(1) == 1 {
					p.say(answer(""))
				}
			}
		})
		w.said(t, "/")
		_, err := w.RoundTrip(w.order(t.Context(), "/"))
		require.Error(t, err)
		require.EqualValues(t, 2, heard.Load())
		require.EqualValues(t, 1, w.dialed.Load())
	})
}
