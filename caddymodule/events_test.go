package caddymodule_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/stretchr/testify/require"
)

func init() { caddy.RegisterModule(listener{}) }

// listener hands events to the test that is running.
type listener struct{}

var hears atomic.Pointer[func(caddy.Event)]

func (listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.listener", New: func() caddy.Module { return new(listener) }}
}

func (*listener) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*listener) Handle(_ context.Context, e caddy.Event) error {
	(*hears.Load())(e)
	return nil
}

var (
	_ caddyevents.Handler   = (*listener)(nil)
	_ caddyfile.Unmarshaler = (*listener)(nil)
)

// listen subscribes to the events of a world. What happened can be received.
func (w *world) listen(names ...string) <-chan caddy.Event {
	w.t.Helper()
	heard := make(chan caddy.Event, 100)
	w.listenWith(func(e caddy.Event) { heard <- e }, names...)
	return heard
}

func (w *world) listenWith(handle func(caddy.Event), names ...string) {
	w.t.Helper()
	hears.Store(&handle)
	var lines strings.Builder
	for _, name := range names {
		fmt.Fprintf(&lines, "on %s listener\n", name)
	}
	w.reload(strings.Replace(w.config, "midas {", "events {\n"+lines.String()+"}\n midas {", 1))
}

// next returns an event's data.
func next(t *testing.T, heard <-chan caddy.Event, name string) map[string]any {
	t.Helper()
	select {
	case e := <-heard:
		require.Equal(t, name, e.Name())
		require.Equal(t, caddy.ModuleID("midas"), e.Origin().CaddyModule().ID)
		return e.Data
	case <-time.After(10 * time.Second):
		require.Fail(t, "nothing was heard", name)
		return nil
	}
}

func TestAnOrderOfUnknownEndIsAnEvent(t *testing.T) {
	w := newWorld(t, demoApp+hasty, "")
	heard := w.listen("midas.order_unknown", "midas.secret_stale", "midas.token_refused")
	w.post("/cgi-bin/midas/pay", pay("b0", 1))
	w.weChat.Misbehave(always("lost_after"))
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))

	data := next(t, heard, "midas.order_unknown")
	require.Equal(t, a.header.Get("Midas-Attempts"), fmt.Sprint(data["attempts"]))
	delete(data, "attempts")
	require.Equal(t, map[string]any{"appid": appID, "api": "pay", "environment": "official", "bill_no": "b1"}, data)
	require.Empty(t, heard)
}

// A getbalance moves nothing, so nobody has to clear it up.
func TestABalanceThatIsNotToldIsNoEvent(t *testing.T) {
	w := newWorld(t, demoApp+hasty, "")
	heard := w.listen("midas.order_unknown")
	w.weChat.Misbehave(always("lost_after"))
	a := w.post("/cgi-bin/midas/getbalance", `{"openid":"`+player+`"}`)
	require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "b1", next(t, heard, "midas.order_unknown")["bill_no"])
	require.Empty(t, heard)
}

func TestARefusedTokenIsAnEvent(t *testing.T) {
	w := newWorld(t, "", "")
	heard := w.listen("midas.order_unknown", "midas.secret_stale", "midas.token_refused")
	w.paysAnew()
	w.revokeTokens()
	w.paysAnew()
	require.Equal(t, map[string]any{"appid": appID}, next(t, heard, "midas.token_refused"))
	require.Empty(t, heard)
}

func TestSecretsThatCannotBeReadAgainAreOneEventForEachKind(t *testing.T) {
	w, fails := vaulted(t, "", "")
	heard := w.listen("midas.secret_stale")
	w.paysAnew()
	fails(http.StatusServiceUnavailable)
	stale := map[string]bool{}
	require.Eventually(t, func() bool {
		w.paysAnew()
		for len(heard) > 0 {
			data := next(t, heard, "midas.secret_stale")
			require.ElementsMatch(t, []string{"appid", "secret", "error"}, slices.Collect(maps.Keys(data)))
			require.Equal(t, appID, data["appid"])
			require.NotEmpty(t, data["error"])
			for _, hidden := range []string{player, "t1", demoKeys["midas/"+appID]["midas_key"]} {
				require.NotContains(t, data["error"], hidden)
			}
			field := data["secret"].(string)
			require.False(t, stale[field], "%s is told twice", field)
			stale[field] = true
		}
		return stale["midas_key"] && stale["session_key"]
	}, 10*time.Second, 20*time.Millisecond)
}

func TestWhoSubscribedToOneEventHearsNoOther(t *testing.T) {
	w := newWorld(t, demoApp+hasty, "")
	heard := w.listen("midas.token_refused")
	w.paysAnew()
	w.weChat.Misbehave(always("lost_after"))
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	w.weChat.Misbehave(always(""))
	w.revokeTokens()
	w.post("/cgi-bin/midas/pay", pay("b2", 1)) // refused: there is no time for another token
	next(t, heard, "midas.token_refused")
	require.Empty(t, heard)
}

// Caddy logs every event at DEBUG. The log that is set up here is not, so an event
// would go nowhere; the order is answered all the same.
func TestWhereNobodySubscribedNothingIsEmitted(t *testing.T) {
	w := newWorld(t, demoApp+hasty, "")
	handle := func(e caddy.Event) { t.Errorf("%s was heard", e.Name()) }
	hears.Store(&handle)
	w.weChat.Misbehave(always("lost_after"))
	require.Equal(t, "unknown", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	require.Eventually(t, func() bool { s, _ := status(t); return s.InFlight == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestASlowListenerKeepsNoCallerWaiting(t *testing.T) {
	w := newWorld(t, demoApp+hasty, "")
	came, release := make(chan struct{}, 100), make(chan struct{})
	w.listenWith(func(caddy.Event) {
		came <- struct{}{}
		<-release
	}, "midas.order_unknown", "midas.token_refused")
	w.paysAnew()
	w.weChat.Misbehave(always("lost_after"))
	require.Equal(t, "unknown", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	<-came
	w.weChat.Misbehave(always(""))
	w.revokeTokens()
	w.post("/cgi-bin/midas/pay", pay("b2", 1))
	<-came
	close(release)
}

func TestEventsAreHeardAfterAReload(t *testing.T) {
	w := newWorld(t, "", "")
	heard := w.listen("midas.token_refused")
	w.paysAnew()
	w.reload(strings.Replace(w.config, "secrets file", "replay 9m\n secrets file", 1))
	w.revokeTokens()
	w.paysAnew()
	next(t, heard, "midas.token_refused")
	require.Empty(t, heard)
}
