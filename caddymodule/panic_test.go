package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

func init() {
	caddy.RegisterModule(fragile{})
	caddy.RegisterModule(mistaken{})
	httpcaddyfile.RegisterHandlerDirective("mistaken", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return mistaken{}, nil })
	httpcaddyfile.RegisterDirectiveOrder("mistaken", httpcaddyfile.Before, "respond")
}

// mistake is what a guest does while it holds a request: it may panic.
type mistake func(r *http.Request)

// fragile is a guest's transport, which makes its mistakes before it asks for a token,
// before a payment is sent and after it is answered.
type fragile struct{}

var beforeAsking, beforeSending, afterSending atomic.Pointer[mistake]

func (fragile) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.fragile", New: func() caddy.Module { return new(fragile) }}
}

func (*fragile) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*fragile) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == wechat.StableTokenPath {
		(*beforeAsking.Load())(r)
		return http.DefaultTransport.RoundTrip(r)
	}
	(*beforeSending.Load())(r)
	res, err := http.DefaultTransport.RoundTrip(r)
	(*afterSending.Load())(r)
	return res, err
}

// mistaken is a guest's handler, which makes its mistake when all others are done.
type mistaken struct{}

var afterHandling atomic.Pointer[mistake]

func (mistaken) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mistaken", New: func() caddy.Module { return new(mistaken) }}
}

func (mistaken) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err := next.ServeHTTP(w, r)
	(*afterHandling.Load())(r)
	return err
}

// guested is a sidecar with guests, which make no mistakes yet.
type guested struct {
	*world
	log func() string

	mu   sync.Mutex
	said []string // secrets that were on their way to WeChat
}

func withGuests(t *testing.T) *guested {
	t.Helper()
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(weChat)
	t.Cleanup(server.Close)
	g := &guested{}
	g.world, g.log = before(t, server.URL, "transport fragile\n deadline 2s\n attempt_timeout 1s")
	g.weChat = weChat
	for _, fields := range demoKeys {
		for _, value := range fields {
			g.said = append(g.said, value)
		}
	}
	g.makes(nil, nil, nil)
	g.reload(strings.Replace(g.config, "log\n\t\tmidas", "log\n\t\troute {\n\t\tmistaken\n\t\tmidas\n\t\t}", 1))
	return g
}

// makes sets the guests' mistakes, nil for none.
func (g *guested) makes(before, after, handling mistake) {
	none := mistake(func(*http.Request) {})
	beforeAsking.Store(&none)
	for place, m := range map[*atomic.Pointer[mistake]]mistake{&beforeSending: before, &afterSending: after, &afterHandling: handling} {
		if m == nil {
			m = none
		}
		place.Store(&m)
	}
}

// listens notes the secrets of a request, then makes the mistake.
func (g *guested) listens(m mistake) mistake {
	return func(r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		var signed struct {
			Sig   string `json:"sig"`
			MPSig string `json:"mp_sig"`
		}
		_ = json.NewDecoder(bodyOf(r)).Decode(&signed)
		g.said = append(g.said, r.URL.Query().Get("access_token"), signed.Sig, signed.MPSig)
		m(r)
	}
}

// bodyOf is what the request sends, though it may have been sent already.
func bodyOf(r *http.Request) io.Reader {
	body, err := r.GetBody()
	if err != nil {
		panic(err)
	}
	return body
}

// keepsSecrets wants none of them in the texts, nor in the log.
func (g *guested) keepsSecrets(texts ...string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range g.said {
		require.NotEmpty(g.t, secret)
		for _, text := range append(texts, g.log()) {
			require.NotContains(g.t, text, secret)
		}
	}
}

// mistakes are the ways to panic with a request at hand.
var mistakes = map[string]mistake{
	"an index": func(r *http.Request) {
		_ = r.URL.Query()["access_token"][len(r.URL.RawQuery)]
	},
	"a type": func(r *http.Request) { _ = any(r.URL).(fmt.Formatter) },
	"text":   func(r *http.Request) { panic(tell(r)) },
	"bytes":  func(r *http.Request) { panic([]byte(tell(r))) },
	"an error": func(r *http.Request) {
		panic(fmt.Errorf("sending %s: %w", r.URL, io.ErrUnexpectedEOF))
	},
	"the address": func(r *http.Request) { panic(r.URL) },
	"the request": func(r *http.Request) { panic(r) },
	"a part": func(r *http.Request) {
		panic(struct{ Query map[string][]string }{r.URL.Query()})
	},
}

func tell(r *http.Request) string {
	var body bytes.Buffer
	_, _ = body.ReadFrom(bodyOf(r))
	return r.URL.String() + " " + body.String()
}

// Whoever panics with an order at hand: its secrets stay where they are, its caller
// hears the truth, and the order can be settled.
func TestAPanicOfTheTransportTellsNoSecretAndLeavesAnHonestOrder(t *testing.T) {
	for name, m := range mistakes {
		for _, c := range []struct {
			when    string
			paid    int64
			settled string
		}{
			{"before it sends", 0, "applied"},
			{"after it sent", 1, "already_applied"},
		} {
			t.Run(name+" "+c.when, func(t *testing.T) {
				g := withGuests(t)
				heard := g.listen("midas.order_unknown")
				if c.paid == 0 {
					g.makes(g.listens(m), nil, nil)
				} else {
					g.makes(nil, g.listens(m), nil)
				}
				a := g.post(payPath, pay("b1", 1))
				require.Equal(t, http.StatusGatewayTimeout, a.status)
				require.Equal(t, "outcome_unknown", a.Error)
				require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))
				require.Equal(t, 10_000-c.paid, g.balance(wechat.Official))
				event := next(t, heard, "midas.order_unknown")
				require.Equal(t, "b1", event["bill_no"])

				g.makes(nil, nil, nil)
				require.Equal(t, c.settled, g.post(payPath, pay("b1", 1)).header.Get("Midas-Outcome"))
				require.Equal(t, "applied", g.post(payPath, pay("b2", 1)).header.Get("Midas-Outcome"))
				require.Equal(t, int64(9_998), g.balance(wechat.Official))
				require.Contains(t, g.log(), "RoundTrip", "the stack")
				g.keepsSecrets(a.body, fmt.Sprint(a.header), fmt.Sprint(event))
				requireAtRest(t)
			})
		}
	}
}

// requireAtRest wants nothing to be in flight any more.
func requireAtRest(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, _ := status(t)
		return s.InFlight == 0
	}, 5*time.Second, 5*time.Millisecond)
}

// The caller is cut off. It asks again and hears what became of its order.
func TestAPanicOfAnotherHandlerTellsNoSecretAndUndoesNoOrder(t *testing.T) {
	g := withGuests(t)
	g.makes(g.listens(func(*http.Request) {}), nil, func(r *http.Request) { panic(fmt.Sprintf("%+v %+v", r, r.Context())) })
	_, err := http.Post(g.sidecar+payPath, "application/json", strings.NewReader(pay("b1", 1)))
	require.Error(t, err)
	require.Equal(t, int64(9_999), g.balance(wechat.Official))

	g.makes(nil, nil, nil)
	a := g.post(payPath, pay("b1", 1))
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
	require.Equal(t, "true", a.header.Get("Midas-Replayed"))
	require.Equal(t, int64(9_999), g.balance(wechat.Official))
	require.Contains(t, g.log(), "panic serving")
	g.keepsSecrets(a.body, fmt.Sprint(a.header))
	requireAtRest(t)
}

// The order is not sent, for there is no token, and the process goes on.
func TestAPanicWhileATokenIsAskedForIsCaughtAndTellsNoSecret(t *testing.T) {
	g := withGuests(t)
	ask := mistake(func(r *http.Request) { panic(tell(r)) })
	beforeAsking.Store(&ask)
	a := g.post(payPath, pay("b1", 1))
	require.Equal(t, "token_unavailable", a.Error)
	require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))

	require.Contains(t, g.log(), "RoundTrip", "the stack")
	g.keepsSecrets(a.body, fmt.Sprint(a.header))
	requireAtRest(t)
}

func TestAPanicOfASubscriberEndsNothing(t *testing.T) {
	g := withGuests(t)
	came := make(chan struct{}, 1)
	g.listenWith(func(e caddy.Event) {
		came <- struct{}{}
		panic(e)
	}, "midas.order_unknown")
	g.makes(nil, func(*http.Request) { panic("lost") }, nil)
	require.Equal(t, "unknown", g.post(payPath, pay("b1", 1)).header.Get("Midas-Outcome"))
	<-came
	requireAtRest(t)
	g.makes(nil, nil, nil)
	require.Equal(t, "already_applied", g.post(payPath, pay("b1", 1)).header.Get("Midas-Outcome"))
}
