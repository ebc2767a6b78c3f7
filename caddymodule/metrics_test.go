package caddymodule_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// demoApp is the app that a world has by default.
const demoApp = "app " + appID + " {\n offer_id 12345678\n }\n"

// hasty are the limits of a test that waits for an unknown end.
const hasty = "deadline 300ms\n attempt_timeout 100ms\n"

// measured starts a sidecar that also shows its metrics.
func measured(t *testing.T, options string) *world {
	t.Helper()
	return newWorld(t, demoApp+options, "metrics /metrics\n midas")
}

// exposition is what /metrics shows.
func (w *world) exposition() string {
	w.t.Helper()
	a := w.do(http.MethodGet, "/metrics", "")
	require.Equal(w.t, http.StatusOK, a.status)
	return a.body
}

// metric returns the value of a sample, such as a{b="c"}, and 0 where there is none.
func (w *world) metric(sample string) float64 {
	w.t.Helper()
	value, _ := w.sample(sample)
	return value
}

func (w *world) sample(sample string) (value float64, shown bool) {
	w.t.Helper()
	for line := range strings.Lines(w.exposition()) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), sample+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			require.NoError(w.t, err)
			return value, true
		}
	}
	return 0, false
}

// adds checks by how much each sample has grown when do is done. The counters are of
// the process, and so of the tests before, too.
func (w *world) adds(growth map[string]float64, do func()) {
	w.t.Helper()
	before := make(map[string]float64)
	for sample := range growth {
		before[sample] = w.metric(sample)
	}
	do()
	for sample, want := range growth {
		require.Equal(w.t, want, w.metric(sample)-before[sample], sample)
	}
}

// orders is the sample that counts such calls.
func orders(api, outcome string, errcode int) string {
	return fmt.Sprintf(`midas_orders_total{api=%q,appid=%q,environment="official",errcode="%d",outcome=%q}`, api, appID, errcode, outcome)
}

func attempts(api, end string) string {
	return fmt.Sprintf(`midas_attempts_total{api=%q,end=%q,environment="official"}`, api, end)
}

// always lets each attempt of an order go wrong, or, without a kind, well.
func always(kind string) func(simulator.Call) simulator.Fault {
	return func(simulator.Call) simulator.Fault { return simulator.Fault{Kind: kind} }
}

func TestAPaymentIsCounted(t *testing.T) {
	w := measured(t, "")
	w.adds(map[string]float64{
		orders("pay", "applied", 0): 1,
		attempts("pay", "answered"): 1,
		`midas_attempt_duration_seconds_count{api="pay",environment="official"}`: 1,
		`midas_signing_duration_seconds_count`:                                   1,
		`midas_secret_reads_total{result="found",secret="midas_key"}`:            1,
		`midas_secret_reads_total{result="found",secret="app_secret"}`:           1,
		`midas_secret_reads_total{result="found",secret="session_key"}`:          1,
	}, func() { w.post("/cgi-bin/midas/pay", pay("b1", 1)) })
}

func TestTheEnvironmentIsCounted(t *testing.T) {
	w := measured(t, "")
	w.adds(map[string]float64{
		strings.Replace(orders("pay", "applied", 0), "official", "sandbox", 1): 1,
		orders("pay", "applied", 0): 0,
	}, func() { w.post("/cgi-bin/midas/sandbox/pay", pay("b1", 1)) })
}

// Both families are one game's orders, and no label tells them apart.
func TestAV2OrderIsCountedAsAV1OrderIs(t *testing.T) {
	w := measured(t, "")
	w.adds(map[string]float64{
		orders("pay", "applied", 0):                                            2,
		orders("pay", "rejected", 90013):                                       1,
		strings.Replace(orders("pay", "applied", 0), "official", "sandbox", 1): 1,
		orders("cancelpay", "applied", 0):                                      1,
		orders("queryorderinfo", "applied", 0):                                 1,
		attempts("pay", "answered"):                                            3,
		strings.Replace(attempts("pay", "answered"), "official", "sandbox", 1): 1,
		`midas_signing_duration_seconds_count`:                                 6,
	}, func() {
		w.post("/cgi-bin/midas/pay", pay("b1", 1))
		w.post("/wxa/game/pay", pay2("b1", 1))
		w.post("/wxa/game/pay", pay2("b2", 1_000_000))
		w.post("/wxa/game/pay", pay2("b1", 1, `"env":1`))
		w.post("/wxa/game/cancelpay", fmt.Sprintf(refund2, 1, "r1", "b1"))
		w.post("/wxa/game/queryorderinfo", `{"openid":"`+player+`","out_trade_no":"b1","biz_id":1}`)
	})
}

func TestWeChatsRefusalIsCountedByItsErrcode(t *testing.T) {
	w := measured(t, "")
	w.adds(map[string]float64{
		orders("pay", "rejected", 90013): 1,
		attempts("pay", "answered"):      1,
	}, func() { w.post("/cgi-bin/midas/pay", pay("b1", 1_000_000)) })
}

func TestARefusalOfOursIsCountedWithoutAnAttempt(t *testing.T) {
	w := measured(t, "")
	w.adds(map[string]float64{
		strings.Replace(orders("pay", "not_sent", 90018), appID, "unknown", 1): 1,
		attempts("pay", "answered"):   0,
		attempts("pay", "never_sent"): 0,
	}, func() { w.post("/cgi-bin/midas/pay", "{") })
}

func TestAnUnknownEndIsCountedWithEachLostAttempt(t *testing.T) {
	w := measured(t, hasty)
	w.weChat.Misbehave(always("lost_after"))
	lost := w.metric(attempts("pay", "lost"))
	var sent float64
	w.adds(map[string]float64{orders("pay", "unknown", -1): 1}, func() {
		a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
		require.Equal(t, "unknown", a.header.Get("Midas-Outcome"))
		n, err := strconv.Atoi(a.header.Get("Midas-Attempts"))
		require.NoError(t, err)
		sent = float64(n)
	})
	require.Positive(t, sent)
	require.Equal(t, sent, w.metric(attempts("pay", "lost"))-lost)
}

func TestAnAttemptWithoutAConnectionIsCountedAsNeverSent(t *testing.T) {
	w := measured(t, hasty)
	w.moveTo(unreachable(t))
	w.reload(strings.Replace(w.config, "offer_id", "access_token secret token\n offer_id", 1))
	secrets := maps.Clone(demoKeys)
	secrets["token"] = map[string]string{"access_token": "T"}
	w.store(secrets)
	never := w.metric(attempts("pay", "never_sent"))
	w.adds(map[string]float64{orders("pay", "not_sent", -1): 1, attempts("pay", "lost"): 0}, func() {
		require.Equal(t, "upstream_unreachable", w.post("/cgi-bin/midas/pay", pay("b2", 1)).Error)
	})
	require.Greater(t, w.metric(attempts("pay", "never_sent")), never)
}

func TestARefusedTokenIsRenewedAndBothAttemptsAreCounted(t *testing.T) {
	w := measured(t, "")
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	w.revokeTokens()
	w.adds(map[string]float64{
		orders("pay", "applied", 0): 1,
		attempts("pay", "answered"): 2,
	}, func() { w.post("/cgi-bin/midas/pay", pay("b2", 1)) })
}

// paysAnew pays an order that nobody knows yet: others would be answered from memory.
func (w *world) paysAnew() {
	w.t.Helper()
	a := w.post("/cgi-bin/midas/pay", pay(fmt.Sprint("n", newOrders.Add(1)), 1))
	require.Equal(w.t, "applied", a.header.Get("Midas-Outcome"), a.body)
}

var newOrders atomic.Int64

// moveTo makes another server play WeChat.
func (w *world) moveTo(upstream string) {
	w.t.Helper()
	before, after, _ := strings.Cut(w.config, "upstream ")
	_, after, _ = strings.Cut(after, "\n")
	w.reload(before + "upstream " + upstream + "\n" + after)
}

// revokeTokens makes WeChat refuse all tokens that it gave out.
func (w *world) revokeTokens() {
	w.t.Helper()
	require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) {
		for _, token := range s.Tokens[appID].Issued {
			token.Revoked = true
		}
	}))
}

func TestAnErrcodeThatNobodyKnowsIsCountedAsOther(t *testing.T) {
	upstream := faulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(`{"errcode":123456,"errmsg":"new"}`))
	})
	w := measured(t, "")
	w.moveTo(upstream)
	w.adds(map[string]float64{strings.Replace(orders("pay", "rejected", 0), `errcode="0"`, `errcode="other"`, 1): 1}, func() {
		require.Equal(t, "rejected", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	})
	require.NotContains(t, w.exposition(), `errcode="123456"`)
}

func TestAReadIsCountedByItsResult(t *testing.T) {
	for result, secrets := range map[string]keys{
		"absent":    {},
		"malformed": {"midas/" + appID: {"app_secret": "x"}},
	} {
		t.Run(result, func(t *testing.T) {
			w := measured(t, "")
			w.store(secrets)
			w.adds(map[string]float64{`midas_secret_reads_total{result="` + result + `",secret="midas_key"}`: 1}, func() {
				w.post("/cgi-bin/midas/pay", pay("b1", 1))
			})
		})
	}
}

// vaulted starts a sidecar whose secrets are in a Vault, old as soon as they are read,
// and returns what makes that Vault fail with a status, 0 for no longer.
func vaulted(t *testing.T, options, site string) (w *world, fails func(status int)) {
	t.Helper()
	var failure atomic.Int64
	vault := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if status := int(failure.Load()); status != 0 && !strings.HasPrefix(r.URL.Path, "/v1/sys/") {
			rw.WriteHeader(status)
			return
		}
		data := string(mustJSON(t, demoKeys["midas/"+appID]))
		if strings.Contains(r.URL.Path, "sessions") {
			data = string(mustJSON(t, demoKeys["midas/"+appID+"/sessions/"+player]))
		}
		if strings.HasPrefix(r.URL.Path, "/v1/sys/") {
			data = `{"path":"secret/","type":"kv","options":{"version":"1"}}`
		}
		_, _ = rw.Write([]byte(`{"data":` + data + `}`))
	}))
	t.Cleanup(vault.Close)
	w = newWorld(t, demoApp+"cache {\n fresh 1ms\n }\n "+options, site)
	before, after, _ := strings.Cut(w.config, "secrets file")
	_, after, _ = strings.Cut(after, "\n")
	w.reload(before + "secrets vault " + vault.URL + " {\n auth token t1\n }\n" + after)
	return w, func(status int) { failure.Store(int64(status)) }
}

func TestASecretThatCannotBeReadAgainIsStaleUntilItCan(t *testing.T) {
	w, fails := vaulted(t, "", "metrics /metrics\n midas")
	const stale = `midas_secret_stale{appid="` + appID + `",secret="midas_key"}`
	const age = `midas_secret_age_seconds{appid="` + appID + `",secret="midas_key"}`
	_, shown := w.sample(age)
	require.False(t, shown, "nothing was read yet")

	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	_, shown = w.sample(age)
	require.True(t, shown)
	require.Zero(t, w.metric(stale))
	require.Equal(t, 1.0, w.metric("midas_secret_store_up"))

	unavailable := w.metric(`midas_secret_reads_total{result="unavailable",secret="midas_key"}`)
	fails(http.StatusServiceUnavailable)
	require.Eventually(t, func() bool {
		w.paysAnew()
		return w.metric(stale) == 1 && w.metric("midas_secret_store_up") == 0
	}, 10*time.Second, 20*time.Millisecond)
	require.Greater(t, w.metric(`midas_secret_reads_total{result="unavailable",secret="midas_key"}`), unavailable)

	old := w.metric(age)
	fails(0)
	require.Eventually(t, func() bool {
		w.paysAnew()
		return w.metric(stale) == 0 && w.metric("midas_secret_store_up") == 1 && w.metric(age) < old
	}, 10*time.Second, 20*time.Millisecond)
}

func TestASecretThatVaultDoesNotGiveIsCountedAsRefusedAndTheStoreIsUp(t *testing.T) {
	w, fails := vaulted(t, "", "metrics /metrics\n midas")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	refused := w.metric(`midas_secret_reads_total{result="refused",secret="midas_key"}`)
	fails(http.StatusBadRequest)
	require.Eventually(t, func() bool {
		w.paysAnew()
		return w.metric(`midas_secret_reads_total{result="refused",secret="midas_key"}`) > refused
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, 1.0, w.metric("midas_secret_store_up"))
}

func TestTheTokensEndIsShownOnceThereIsOne(t *testing.T) {
	w := measured(t, "")
	const end = `midas_access_token_expiry_timestamp_seconds{appid="` + appID + `"}`
	_, shown := w.sample(end)
	require.False(t, shown)
	began := time.Now()
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.WithinDuration(t, began.Add(2*time.Hour), time.Unix(int64(w.metric(end)), 0), time.Minute)
}

func TestCallsInFlightAndSessionsAreShown(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := faulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = rw.Write([]byte(`{"errcode":0,"errmsg":"ok"}`))
	})
	w := measured(t, "")
	w.moveTo(upstream)
	require.Zero(t, w.metric("midas_orders_in_flight"))
	require.Zero(t, w.metric("midas_sessions_cached"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.post("/cgi-bin/midas/pay", pay("b1", 1))
	}()
	<-arrived
	require.Equal(t, 1.0, w.metric("midas_orders_in_flight"))
	close(release)
	<-done
	require.Eventually(t, func() bool { return w.metric("midas_orders_in_flight") == 0 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 1.0, w.metric("midas_sessions_cached"))
}

func TestTwoHandlersOfOneConfigCountTogether(t *testing.T) {
	w := newWorld(t, "", "metrics /metrics\n @a header X-Caller a\n midas @a\n midas")
	w.adds(map[string]float64{orders("pay", "applied", 0): 2}, func() {
		w.do(http.MethodPost, "/cgi-bin/midas/pay", pay("b1", 1), "Content-Type", "application/json", "X-Caller", "a")
		w.post("/cgi-bin/midas/pay", pay("b2", 1))
	})
}

func TestAReloadResetsNoCounterAndTheMetricsAreStillShown(t *testing.T) {
	w := measured(t, "")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	w.adds(map[string]float64{orders("pay", "applied", 0): 1}, func() {
		w.reload(strings.Replace(w.config, "secrets file", "replay 9m\n secrets file", 1))
		w.post("/cgi-bin/midas/pay", pay("b2", 1))
	})
	require.Contains(t, w.exposition(), "midas_orders_in_flight 0")
	require.Contains(t, w.exposition(), "midas_access_token_expiry_timestamp_seconds{")
}

// Whatever a caller sends, no label has a value that is not one of a few.
func TestNoPlayerAndNoOrderIsInAnyLabel(t *testing.T) {
	w, fails := vaulted(t, hasty, "metrics /metrics\n midas")
	const order = "canaryOrder_1"
	for _, api := range wechat.APIs {
		path := wechat.At(api, wechat.Official).Path
		body := way{amount: 1}.body(path, order)
		w.post(path, body)
		w.post(path, strings.Replace(body, "{", `{"appid":"wxCanary",`, 1))
		w.post(path, strings.Replace(body, "{", `{"canary":1,`, 1))
	}
	w.weChat.Misbehave(always("lost_after"))
	w.post("/cgi-bin/midas/pay", pay(order+"b", 1))
	fails(http.StatusForbidden)
	w.post("/cgi-bin/midas/pay", strings.ReplaceAll(pay(order+"c", 1), player, "canaryPlayer"))
	text := w.exposition()
	require.Contains(t, text, "midas_orders_total{")
	for _, canary := range []string{player, "canary", "Canary"} {
		require.NotContains(t, text, canary)
	}
}
