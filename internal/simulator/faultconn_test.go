package simulator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// secureSite is a site with TLS.
func secureSite(t *testing.T, http2 bool) *site {
	t.Helper()
	w := newWorld(t)
	server := httptest.NewUnstartedServer(w.sim)
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return &site{w, server.URL, server.Client().Transport.(*http.Transport)}
}

func TestAResetReachesThroughTLS(t *testing.T) {
	s := secureSite(t, false)
	s.sim.Misbehave(always("reset_after"))
	resetAtOnce(t, s.payOnce("b1"))
	require.True(t, s.paid("b1"))
}

func TestHTTP2LosesTheStreamAndKeepsTheConnection(t *testing.T) {
	s := secureSite(t, true)
	for kind, sight := range map[string]func(*testing.T, seen){
		"reset_after":           noAnswer,
		"reset_headers_after":   noAnswer,
		"lost_after":            noAnswer,
		"reset_body_after":      halfAnAnswer,
		"cut_after":             halfAnAnswer,
		"dead_connection_after": errcode(0),
	} {
		s.sim.Misbehave(first(kind))
		sight(t, s.payOnce(kind))
		require.True(t, s.paid(kind))
		x := s.payOnce(kind)
		require.Equal(t, 90012, x.answered(t).Errcode)
	}
}

// pipes is a network in memory, whose goroutines synctest can follow.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// kindsOfOneCall are those that do no harm to others: their token stays.
func kindsOfOneCall() []Kind {
	return slices.DeleteFunc(Kinds(), func(k Kind) bool { return strings.HasSuffix(k.Name, "_replaced") })
}

// The bubble does not end before its last goroutine, and fails where one waits for
// what cannot come.
func TestNoFaultLeavesAGoroutineBehind(t *testing.T) {
	for _, ending := range []string{"the client leaves", "the faults are cleared", "the server's context ends"} {
		t.Run(ending, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				network := make(pipes)
				running, stop := context.WithCancel(t.Context())
				server := &http.Server{Handler: w.sim, BaseContext: func(net.Listener) context.Context { return running }}
				go func() { _ = server.Serve(network) }()
				patience, leave := context.WithCancel(t.Context())
				var clients sync.WaitGroup
				w.sim.Misbehave(func(c Call) Fault { return Fault{Kind: c.BillNo} })
				for _, kind := range kindsOfOneCall() {
					s := &site{w, "http://simulator", &http.Transport{DialContext: network.dial}}
					defer s.transport.CloseIdleConnections()
					clients.Go(func() { s.send(patience, s.payFor(kind.Name)) })
				}
				synctest.Wait()

				switch ending {
				case "the client leaves":
					leave()
				case "the faults are cleared":
					w.sim.Forget()
				default:
					stop()
				}
				require.NoError(t, w.sim.Settle(t.Context()))
				clients.Wait()
				for _, kind := range kindsOfOneCall() {
					require.Equal(t, kind.Applied != NotApplied || kind.API != "" || kind.Family == "v2", w.paid(kind.Name), kind.Name)
				}
				leave()
				stop()
				require.NoError(t, server.Close())
			})
		})
	}
}

// Many players at once, faults at random and changed on the way: whoever repeats
// an order until its answer is whole has paid once.
func TestWhoRepeatsPaysOnce(t *testing.T) {
	s := newSite(t)
	rule := Rule{Rate: 0.6, Seed: 1}
	for _, kind := range kindsOfOneCall() {
		rule.Faults = append(rule.Faults, Fault{Kind: kind.Name})
	}
	const players, orders = 8, 25
	var all sync.WaitGroup
	for player := range players {
		all.Go(func() {
			for order := range orders {
				rule := rule
				rule.Seed = uint64(order)
				if player == 0 && s.sim.Plan(Plan{Rules: []Rule{rule}}) != nil {
					panic("these are rules")
				}
				for paid := false; !paid; {
					paid = s.payImpatiently(fmt.Sprintf("p%d-%d", player, order))
				}
			}
		})
	}
	all.Wait()
	s.sim.Forget()
	require.NoError(t, s.sim.Settle(t.Context()))
	for player := range players {
		for order := range orders {
			require.True(t, s.paid(fmt.Sprintf("p%d-%d", player, order)))
		}
	}
	require.Equal(t, int64(10000-5*players*orders), s.purse().Balance)
}

// payImpatiently reports whether the answer says that the order is paid.
func (s *site) payImpatiently(billNo string) bool {
	patience, cancel := context.WithTimeout(s.t.Context(), 20*time.Millisecond)
	defer cancel()
	x := s.send(patience, s.payFor(billNo))
	return x.err == nil && x.bodyErr == nil && x.status == http.StatusOK &&
		(strings.HasPrefix(x.text, `{"errcode":0,`) || strings.HasPrefix(x.text, `{"errcode":90012,`)) &&
		strings.HasSuffix(x.text, "}")
}
