package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
)

// The benchmark starts itself again for its parts, and under test it is the test.
func TestMain(m *testing.M) {
	if isPart, err := runPart(os.Args); isPart {
		exit(err)
	}
	os.Exit(m.Run())
}

// Nothing here asserts a time. That every payment is answered, and every signature
// verified, is what the benchmark makes sure of itself.
func TestAQuickRunOfV2PaysAll(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	var log bytes.Buffer
	out := filepath.Join(t.TempDir(), "RESULTS.md")
	require.NoError(t, bench(t.Context(), []string{"-quick", "-family", "v2", "-only", "^(midas-sidecar|nginx.lua)$", "-out", out}, &log), log.String())
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(text), "`POST /wxa/game/pay`")
	require.Contains(t, string(text), "| midas-sidecar |")
	require.NotContains(t, string(text), "Payments failed")
}

func TestAQuickRunPaysAllAndWritesTheResult(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	var log bytes.Buffer
	out := filepath.Join(t.TempDir(), "RESULTS.md")
	require.NoError(t, bench(t.Context(), []string{"-quick", "-out", out}, &log), log.String())

	text, err := os.ReadFile(out)
	require.NoError(t, err)
	for _, s := range scenarios {
		require.Contains(t, string(text), "### "+s.name)
	}
	require.Contains(t, string(text), "| midas-sidecar |")
	require.NotContains(t, string(text), "Payments failed")
	chart, err := os.ReadFile(filepath.Join(filepath.Dir(out), "results.svg"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(chart), "</svg>\n"))
}

func TestARunWithFailedPaymentsFails(t *testing.T) {
	l := &lab{log: new(bytes.Buffer)}
	l.judge("caddy", measure{outcome: outcome{Payments: 1}})
	require.Empty(t, l.failures)
	l.judge("caddy", measure{outcome: outcome{Payments: 1, Failures: 1}})
	l.judge("caddy", measure{outcome: outcome{Payments: 1}, seen: counters{Refused: 1}})
	l.judge("caddy", measure{})
	require.Len(t, l.failures, 3)
}

// signedOrder is a payment as WeChat wants it.
func signedOrder(t *testing.T) *request {
	t.Helper()
	fields := []pair{
		{"amt", "1"},
		{"appid", appID(0)},
		{"bill_no", billNo(1)},
		{"offer_id", offerID(0)},
		{"openid", openID(1)},
		{"pf", "android"},
		{"ts", "1795000000"},
		{"zone_id", "1"},
	}
	key := midasKey(appID(0))
	sig := hexHMAC(joined(fields)+"&org_loc="+payPath+"&method=POST&secret="+key, key)
	key = sessionKey(openID(1))
	mpSig := hexHMAC(joined(append(fields, pair{"access_token", accessToken}, pair{"sig", sig}))+"&org_loc="+payPath+"&method=POST&session_key="+key, key)
	return &request{
		path: payPath, query: "access_token=" + accessToken,
		body: []byte(`{"amt":1,"appid":"` + appID(0) + `","bill_no":"` + billNo(1) + `","offer_id":"` + offerID(0) + `","openid":"` + openID(1) +
			`","pf":"android","ts":1795000000,"zone_id":"1","sig":"` + sig + `","mp_sig":"` + mpSig + `"}`),
	}
}

func TestWeChatVerifiesAsTheSimulatorDoes(t *testing.T) {
	order := signedOrder(t)
	require.NoError(t, new(weChat).verify(order))

	fields, err := parseFlat(order.body)
	require.NoError(t, err)
	message := simulator.Message{Path: order.path, AccessToken: accessToken}
	for _, f := range fields {
		message.Fields = append(message.Fields, simulator.Field{Name: f.name, Value: f.value})
	}
	keys := simulator.Keys{Midas: midasKey(appID(0)), Session: sessionKey(openID(1))}
	require.Empty(t, simulator.ExplainSig(message, keys))
	require.Empty(t, simulator.ExplainMPSig(message, keys))
}

func TestWeChatRefusesWhatIsSignedWrongly(t *testing.T) {
	for name, spoil := range map[string]func(*request){
		"another amount": func(r *request) { r.body = bytes.Replace(r.body, []byte(`"amt":1`), []byte(`"amt":2`), 1) },
		"another player": func(r *request) { r.body = bytes.Replace(r.body, []byte(openID(1)), []byte(openID(2)), 1) },
		"no sig":         func(r *request) { r.body = bytes.Replace(r.body, []byte(`"sig"`), []byte(`"gis"`), 1) },
		"no mp_sig":      func(r *request) { r.body = bytes.Replace(r.body, []byte(`"mp_sig"`), []byte(`"mp_gis"`), 1) },
		"another token":  func(r *request) { r.query += "x" },
		"another path":   func(r *request) { r.path += "x" },
		"no JSON":        func(r *request) { r.body = []byte("amt=1") },
	} {
		t.Run(name, func(t *testing.T) {
			order := signedOrder(t)
			spoil(order)
			w := new(weChat)
			require.Error(t, w.verify(order))
			require.NotContains(t, string(w.pay(order, true, nil)), `"errcode":0`)
			require.EqualValues(t, 1, w.refused.Load())
		})
	}
}

// signedOrderV2 is a payment as WeChat wants it in v2.
func signedOrderV2() *request {
	body := `{"amount":1,"bill_no":"` + billNo(1) + `","env":0,"offer_id":"` + offerID(2) + `","openid":"` + openID(1) + `","ts":1795000000,"zone_id":"1"}`
	return &request{
		path: payPathV2, body: []byte(body),
		query: "access_token=" + accessToken + "&signature=" + hexHMAC(body, sessionKey(openID(1))) +
			"&sig_method=hmac_sha256&pay_sig=" + hexHMAC(payPathV2+"&"+body, midasKey(appID(2))),
	}
}

func TestWeChatVerifiesV2AsTheSimulatorDoes(t *testing.T) {
	order := signedOrderV2()
	require.NoError(t, new(weChat).verify(order))
	message := simulator.MessageV2{Path: order.path, Query: order.query, Body: order.body}
	keys := simulator.Keys{Midas: midasKey(appID(2)), Session: sessionKey(openID(1))}
	require.Empty(t, simulator.ExplainPaySig(message, keys))
	require.Empty(t, simulator.ExplainSignature(message, keys))
}

func TestWeChatRefusesWhatIsSignedWronglyInV2(t *testing.T) {
	replace := func(from, to string) func(*request) {
		return func(r *request) {
			r.query, r.body = strings.Replace(r.query, from, to, 1), bytes.Replace(r.body, []byte(from), []byte(to), 1)
		}
	}
	for name, spoil := range map[string]func(*request){
		"another amount": replace(`"amount":1`, `"amount":2`),
		"another space":  replace(`"amount":1`, `"amount": 1`),
		"another player": replace(openID(1), openID(2)),
		"another app":    replace(offerID(2), offerID(1)),
		"no pay_sig":     replace("pay_sig", "pay_gis"),
		"no signature":   replace("signature", "signatur"),
		"no sig_method":  replace("sig_method", "method"),
		"another token":  replace("access_token=", "access_token=x"),
		"no JSON":        func(r *request) { r.body = []byte("amount=1") },
	} {
		t.Run(name, func(t *testing.T) {
			order := signedOrderV2()
			spoil(order)
			w := new(weChat)
			require.Error(t, w.verify(order))
			require.NotContains(t, string(w.pay(order, true, nil)), `"errcode":0`)
			require.EqualValues(t, 1, w.refused.Load())
		})
	}
}

// talk has a caller pay once while a server answers with text.
func talk(t *testing.T, j job, text string) error {
	t.Helper()
	s, err := listen()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.listener.Close() })
	go s.serve(func() handler { return fixed(text) })
	j.Address = s.address()
	c, err := newCaller(j)
	require.NoError(t, err)
	defer c.close()
	return c.pay(1, 0)
}

type fixed string

func (f fixed) answer(_ *request, out []byte) []byte { return append(out, f...) }
func (fixed) close()                                 {}

func TestACallerBelievesOnlyAnAnswerThatSaysPaid(t *testing.T) {
	answer := func(status, headers, body string) string {
		text := string(appendAnswer(nil, status, []byte(body)))
		return strings.Replace(text, "\r\n", "\r\n"+headers, 1)
	}
	paid := `{"errcode":0,"bill_no":"` + billNo(1) + `"}`
	fromSidecar := job{Outcome: true}

	require.NoError(t, talk(t, job{}, answer("200 OK", "", paid)))
	require.NoError(t, talk(t, fromSidecar, answer("200 OK", "Midas-Outcome: applied\r\n", paid)))

	require.ErrorContains(t, talk(t, job{}, answer("502 Bad Gateway", "", paid)), "502")
	require.ErrorContains(t, talk(t, job{}, answer("200 OK", "", strings.Replace(paid, "0", "90011", 1))), "90011")
	require.ErrorContains(t, talk(t, job{}, answer("200 OK", "", strings.Replace(paid, billNo(1), billNo(2), 1))), "another order's")
	require.ErrorContains(t, talk(t, fromSidecar, answer("200 OK", "", paid)), "Midas-Outcome")
	require.ErrorContains(t, talk(t, fromSidecar, answer("200 OK", "Midas-Outcome: unknown\r\n", paid)), "Midas-Outcome")
	require.ErrorContains(t, talk(t, job{}, answer("200 OK", "Transfer-Encoding: chunked\r\n", paid)), "chunked")
}

func TestEachPaymentNamesItsOrderPlayerAndApp(t *testing.T) {
	s, err := listen()
	require.NoError(t, err)
	defer s.listener.Close()
	c, err := newCaller(job{Address: s.address(), Apps: 10})
	require.NoError(t, err)
	defer c.close()
	writeNumber(c.billNo, 123456)
	writeNumber(c.player[len(c.player)-9:], 42)
	writeNumber(c.app[2:], 1234567+2)
	require.Contains(t, string(c.request), billNo(123456))
	require.Contains(t, string(c.request), openID(42))
	require.Contains(t, string(c.request), appID(2))

	writeNumber(c.billNo, 7)
	require.Contains(t, string(c.request), billNo(7))
}

func TestAPaymentOfV2IsOne(t *testing.T) {
	s, err := listen()
	require.NoError(t, err)
	defer s.listener.Close()
	c, err := newCaller(job{Address: s.address(), Family: "v2"})
	require.NoError(t, err)
	defer c.close()
	require.Contains(t, string(c.request), "POST "+payPathV2+" ")
	require.Contains(t, string(c.request), `"amount":1`)
}

func TestAFamilyThatIsNoneIsRefused(t *testing.T) {
	_, err := readOptions([]string{"-family", "v3"}, new(bytes.Buffer))
	require.ErrorContains(t, err, "-family must be v1 or v2")
}

func TestALatePaymentCountsFromWhenItWasDue(t *testing.T) {
	w := work{job: job{Rate: 1000}, zero: time.Now(), due: make(chan time.Time, 1)}
	due := w.zero.Add(-time.Second)
	w.due <- due
	got, more := w.wait()
	require.True(t, more)
	require.Equal(t, due, got)
}

func TestATickerTicksOnTime(t *testing.T) {
	clock, err := newTicker()
	require.NoError(t, err)
	defer clock.close()
	start := time.Now()
	require.NoError(t, clock.set(time.Millisecond, time.Millisecond))
	for ticks := 0; ticks < 5; {
		n, err := clock.wait()
		require.NoError(t, err)
		ticks += n
	}
	require.GreaterOrEqual(t, time.Since(start), 5*time.Millisecond)
}

func TestQuantiles(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i+1))
	}
	require.EqualValues(t, 500, quantile(times, 50))
	require.EqualValues(t, 990, quantile(times, 99))
	require.EqualValues(t, 1, quantile(times[:1], 99))
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := results{"s": {
		"a": {{CPU: 1}, {CPU: 20}, {CPU: 3}},
		"b": {{CPU: 2}, {CPU: 40}, {CPU: 0}},
	}}
	ratio, ok := r.ratio("s", "a", "b", cpu)
	require.True(t, ok)
	require.Equal(t, 0.5, ratio, "a round whose divisor is zero says nothing")

	_, ok = r.ratio("s", "a", "not measured", cpu)
	require.False(t, ok)
}

func TestTheCPUAndMemoryOfAProcessAreFound(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	for cpuOf(os.Getpid()) == 0 { // until it has used a tick
		_ = sessionKey("any")
	}
	require.Greater(t, rssOf(os.Getpid()), 1.0)
}

func TestCPUsAreSplit(t *testing.T) {
	require.Equal(t, "1,2", pins{1, 2}.String())
	proxies, others, why := splitCPUs()
	if why != "" {
		t.Skip(why)
	}
	require.NotEmpty(t, proxies)
	require.NotEmpty(t, others)
	require.NotContains(t, others, proxies[0])
}
