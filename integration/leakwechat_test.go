package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

func (w *leakWorld) post(url, body string, header ...string) string {
	return w.ask(w.t.Context(), http.MethodPost, url, body, header...)
}

func (w *leakWorld) goWell() {
	for _, at := range []string{"/cgi-bin/midas/", "/cgi-bin/midas/sandbox/"} {
		billNo := w.billNo()
		pay := fmt.Sprintf(`{"openid":"%s","amt":2,"bill_no":"%s"}`, player, billNo)
		require.Equal(w.t, "applied", w.post(w.sidecar+at+"pay", pay))
		require.Equal(w.t, "applied", w.post(w.sidecar+at+"pay", pay), "replayed")
		require.Equal(w.t, "applied", w.post(w.sidecar+at+"cancelpay", fmt.Sprintf(`{"openid":"%s","bill_no":"%s"}`, player, billNo)))
		require.Equal(w.t, "applied", w.post(w.sidecar+at+"getbalance", fmt.Sprintf(`{"openid":"%s","user_ip":"127.0.0.1"}`, player)))
		require.Equal(w.t, "applied", w.post(w.sidecar+at+"present", fmt.Sprintf(`{"openid":"%s","present_counts":3,"bill_no":"%s"}`, player, w.billNo())))
	}
	for env := range 2 {
		goesWell := func(api, more string, args ...any) {
			body := fmt.Sprintf(`{"openid":"%s","env":%d`, player, env) + fmt.Sprintf(more, args...) + "}"
			require.Equal(w.t, "applied", w.post(w.sidecar+"/wxa/game/"+api, body), api)
		}
		billNo := w.billNo()
		goesWell("pay", `,"amount":2,"bill_no":"%s"`, billNo)
		goesWell("pay", `,"amount":2,"bill_no":"%s"`, billNo) // replayed
		goesWell("cancelpay", `,"amount":1,"bill_no":"%s","pay_bill_no":"%s"`, w.billNo(), billNo)
		goesWell("getbalance", `,"user_ip":"127.0.0.1"`)
		goesWell("present", `,"amount":3,"bill_no":"%s"`, w.billNo())
		goesWell("queryorderinfo", `,"out_trade_no":"%s","biz_id":1`, billNo)
	}
}

func (w *leakWorld) areRefused() {
	const pay, payV2 = "/cgi-bin/midas/pay", "/wxa/game/pay"
	inV2 := strings.NewReplacer(`"amt"`, `"amount"`, `"app_remark"`, `"remark"`, `"pay_item"`, `"payitem"`)
	callers := secretText() + secretText()
	w.canaries.add("caller's sig", callers)
	full := func(more string) string {
		return fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"%s}`, player, w.billNo(), more)
	}
	signed := full(fmt.Sprintf(`,"sig":%q,"mp_sig":%q,"access_token":%q`, callers, callers, callers))
	for _, body := range []string{
		"", "null", "[]", "{", `{"openid"`, signed, signed + "x", signed[:len(signed)-5], full(`,"amt":2`), full(`,"sig":{"x":["` + callers + `"]}`),
		full(`,"pay_sig":"` + callers + `"`), full(`,"signature":"` + callers + `"`), full(`,"unknown":"` + callers + `"`),
		full(`,"sig":"` + callers + `","sig":"` + callers + `"`), full(`,"app_remark":{"x":"` + callers + `"}`), full(`,"ts":"` + callers + `"`),
		full(`,"user_ip":"` + callers + `"`), full(`,"pay_item":"` + callers + `\n"`), full(`,"offer_id":"` + callers + `"`), full(`,"appid":"` + callers + `"`),
		full(`,"appid":"wx0000000"`), full(`,"zone_id":` + "\"\xff" + callers + `"`),
		`{"openid":"` + player + `","amt":0,"bill_no":"b"}`, `{"openid":"` + player + `","amt":"` + callers + `","bill_no":"b"}`,
		`{"openid":"` + player + `","amt":1,"bill_no":"` + callers + `"}`, `{"amt":1,"bill_no":"b"}`, `{"openid":"` + player + `\u0000","amt":1,"bill_no":"b"}`,
		full(`,"app_remark":"` + strings.Repeat(callers, 400) + `"`), strings.Repeat(`{"sig":`, 2000),
	} {
		for path, body := range map[string]string{pay: body, payV2: inV2.Replace(body)} {
			w.post(w.sidecar+path, body)
			w.post(w.sidecar+path, body, "Content-Type", "text/plain")
			w.post(w.sidecar+path, body, "Content-Encoding", "gzip")
			w.post(w.other+"/pass"+path, body)
			w.post(w.other+path, body)
		}
	}
	require.Equal(w.t, "applied", w.post(w.other+pay, full(fmt.Sprintf(`,"sig":%q`, callers))), "signed again")
	signedV2 := "?sig_method=hmac_sha256&pay_sig=" + url.QueryEscape(callers) + "&signature=" + url.QueryEscape(callers)
	require.Equal(w.t, "applied", w.post(w.other+payV2+signedV2, inV2.Replace(full(""))), "signed again")
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, http.MethodOptions} {
		w.ask(w.t.Context(), method, w.sidecar+pay, full(""))
	}
	for _, name := range w.unlogged {
		for _, query := range []string{
			"?" + name + "=%s&x=1", "?x=1&" + name + "=&" + name + "=%s", "?x=1&%%" + fmt.Sprintf("%02x", name[0]) + name[1:] + "=%s",
			"?x=1&y=2;" + name + "=%s", "?x=1&" + name + "=%%zz%s",
		} {
			w.post(w.sidecar+pay+fmt.Sprintf(query, url.QueryEscape(callers)), full(""))
			w.post(w.sidecar+payV2+fmt.Sprintf(query, url.QueryEscape(callers)), inV2.Replace(full("")))
			w.post(w.sidecar+"/sns/elsewhere"+fmt.Sprintf(query, callers), full(""))
		}
	}
	w.post(w.sidecar+pay, full(""), "Authorization", "Bearer "+callers, "Cookie", "token="+callers)
	w.post(w.other+"/cgi-bin/midas/cancelpay", full(""))
	w.post(w.other+pay, `{"openid":"`+player+`","amt":1001,"bill_no":"b"}`)
	w.post(w.other+"/cgi-bin/midas/sandbox/pay", full(""))
	w.post(w.other+payV2, inV2.Replace(full(`,"env":1`)))

	billNo := w.billNo()
	for _, openid := range []string{newcomer, absentee} { // one whom WeChat knows, and one whom nobody does
		missing := fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"}`, openid, billNo)
		require.Equal(w.t, "not_sentsession_missing", w.post(w.sidecar+pay, missing))
		require.Equal(w.t, "not_sentsession_missing", w.post(w.sidecar+payV2, inV2.Replace(missing)))
	}
	require.Equal(w.t, "rejected", w.post(w.sidecar+pay, fmt.Sprintf(`{"openid":"%s","amt":99999999,"bill_no":"%s"}`, player, billNo)))
	require.Equal(w.t, "applied", w.post(w.sidecar+pay, fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"}`, player, billNo)))
	w.post(w.sidecar+pay, fmt.Sprintf(`{"openid":"%s","amt":2,"bill_no":"%s"}`, player, billNo))
	require.Equal(w.t, "rejected", w.post(w.sidecar+"/cgi-bin/midas/cancelpay", fmt.Sprintf(`{"openid":"%s","bill_no":"never"}`, player)))
	require.Equal(w.t, "rejected", w.post(w.sidecar+payV2, fmt.Sprintf(`{"openid":"%s","amount":99999999,"bill_no":"%s"}`, player, billNo)))
	require.Equal(w.t, "rejected", w.post(w.sidecar+"/wxa/game/cancelpay", fmt.Sprintf(`{"openid":"%s","amount":1,"bill_no":"r","pay_bill_no":"never"}`, player)))

	// An order that another sidecar has sent.
	billNo = w.billNo()
	require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) {
		if s.Orders == nil {
			s.Orders = make(map[simulator.OrderID]*simulator.Order)
		}
		s.Orders[simulator.OrderID{AppID: appID, Environment: wechat.Official, BillNo: billNo}] = &simulator.Order{
			API: "pay", OpenID: player, Amount: 1, Time: time.Now(), Applied: 1,
		}
		s.Apps[appID].Players[player].Official.CostSum++
	}))
	require.Equal(w.t, "duplicate", w.post(w.sidecar+pay, fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"}`, player, billNo)))
}

// weChatFails lets each kind of fault strike once, and all attempts.
func (w *leakWorld) weChatFails() {
	defer w.weChat.Forget()
	plan := simulator.Plan{}
	var calls [][2]string
	for _, kind := range simulator.Kinds() {
		for _, rate := range []float64{0, 1} {
			for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
				for _, api := range []*wechat.API{wechat.Pay, wechat.PayV2} {
					if kind.Family != "" && kind.Family != api.Family.Name {
						continue
					}
					fields := map[*wechat.API]string{wechat.Pay: `"amt":1`, wechat.PayV2: fmt.Sprintf(`"amount":1,"env":%d`, map[wechat.Environment]int{wechat.Sandbox: 1}[env])}[api]
					if kind.API == wechat.CancelPay.Name {
						api, fields = wechat.CancelPay, `"user_ip":"127.0.0.1"`
					}
					billNo := w.billNo()
					plan.Rules = append(plan.Rules, simulator.Rule{BillNo: billNo, Faults: []simulator.Fault{{Kind: kind.Name}}, Rate: rate})
					calls = append(calls, [2]string{wechat.At(api, env).Path, fmt.Sprintf(`{"openid":"%s",%s,"bill_no":"%s"}`, player, fields, billNo)})
				}
			}
		}
	}
	require.NoError(w.t, w.weChat.Plan(plan))
	var all sync.WaitGroup
	next := make(chan [2]string)
	for range 16 {
		all.Go(func() {
			for call := range next {
				w.post(w.sidecar+call[0], call[1])
			}
		})
	}
	for _, call := range calls {
		next <- call
	}
	close(next)
	all.Wait()
}

func (w *leakWorld) stableTokenFails() {
	for _, kind := range simulator.TokenKinds() {
		require.NoError(w.t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{
			{API: "stable_token", Faults: []simulator.Fault{{Kind: kind.Name}}, Rate: 1},
		}}))
		w.forget()
		w.pay()
		w.ask(w.t.Context(), http.MethodGet, "http://"+w.admin+"/midas/status", "")
	}
	w.weChat.Forget()
	w.forget()
	w.paysAgain()
}

func (w *leakWorld) playersLogIn() {
	defer w.weChat.Forget()
	for range 3 {
		w.logsInAgain()
	}
	at := w.sidecar + wechat.Code2SessionPath
	code := secretText()[:27] // no code of WeChat's
	w.canaries.add("js_code", code)
	code = url.QueryEscape(code)
	app := url.QueryEscape(w.weChat.State().Apps[appID].Secret)
	for _, query := range []string{
		"js_code=" + code, "js_code=" + code + "&js_code=" + code, "js_code=" + code + "&appid=wx0", "js_code=" + code + "&x=1", "js_code=" + code + "%20",
		"js_code=" + code + "&secret=" + app, "js_code=" + code + "&session_key=" + code, "x=1;js_code=" + code, "js_code=" + code + "%zz",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			w.ask(w.t.Context(), method, at+"?"+query, "")
		}
		w.post(at+"?"+query, "{}")
	}
	for _, body := range []string{`{"js_code":"` + code + `"`, `{"js_code":["` + code + `"]}`, `{"` + code + `":1}`, code, `{"js_code":"` + code + `","secret":"` + app + `"}`} {
		w.post(at, body)
		w.post(at, body, "Content-Type", "text/plain")
	}
	for _, kind := range simulator.LoginKinds() {
		require.NoError(w.t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{
			{API: "jscode2session", Faults: []simulator.Fault{{Kind: kind.Name}}, Rate: 1},
		}}))
		w.logIn()
		w.paysNot()
	}
	w.weChat.Forget()

	// The app secret is another one, in Vault first, and at WeChat first.
	state := w.weChat.State().Apps[appID]
	keys := map[string]any{"midas_key": state.MidasKey, "midas_key_sandbox": state.MidasKeySandbox, "app_secret": state.Secret}
	for range 2 {
		another := secretText() + `&"<`
		w.canaries.add("app_secret", another)
		require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].Secret = another }))
		w.logIn()
		keys["app_secret"] = another
		w.put("midas/"+appID, keys)
		w.logsInAgain()
	}
	w.look()
}

// loginsAreEchoed lets WeChat, and Vault where it is written to, repeat what they hear.
func (w *leakWorld) loginsAreEchoed() {
	for _, shape := range echoes {
		w.mood.Store(&mood{wechat.Code2SessionPath, echo(shape)})
		require.NotEqual(w.t, "applied", w.logIn())
		w.mood.Store(nil)
		w.logsInAgain()

		w.moody.is(echo(shape))
		w.logIn()
		w.paysNot()
		w.moody.is(nil)
		w.logsInAgain()
	}
	for _, status := range []int{400, 403, 404, 500, 503} {
		w.moody.is(answers(status, 0))
		w.logIn()
		w.moody.is(nil)
		w.logsInAgain()
	}
	w.look()
}

// The ways in which a server may tell what it was told.
var echoes = map[string]func(said string) string{
	"page": func(said string) string {
		return fmt.Sprintf("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
	},
	"good page": func(said string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
	},
	"status line": func(said string) string { return "HTTP/1.1 " + said + "\r\n\r\n" },
	"protocol":    func(said string) string { return said + "\r\n\r\n" },
	"reason":      func(said string) string { return "HTTP/1.1 500 " + said + "\r\nContent-Length: 0\r\n\r\n" },
	"header line": func(said string) string {
		return "HTTP/1.1 200 OK\r\n" + strings.ReplaceAll(said, ":", ".") + "\r\n\r\n"
	},
	"header": func(said string) string {
		return "HTTP/1.1 200 OK\r\nX-Said: " + said + "\r\nContent-Length: 2\r\n\r\n{}"
	},
	"length":   func(said string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + said + "\r\n\r\n" },
	"encoding": func(said string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + said + "\r\n\r\n" },
	"chunk": func(said string) string {
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + said + "\r\n\r\n"
	},
	"location": func(said string) string {
		return "HTTP/1.1 307 Temporary Redirect\r\nLocation: " + said + "\r\nContent-Length: 0\r\n\r\n"
	},
	"bad location": func(said string) string {
		return "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://[" + said + "\r\nContent-Length: 0\r\n\r\n"
	},
	"number": func(said string) string {
		body := `{"errcode":"` + strings.ReplaceAll(said, `"`, "'") + `"}`
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	},
	"after the answer": func(said string) string {
		return "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}" + said + "\r\n"
	},
}

// echo answers with all that it was told, in one line.
func echo(shape func(said string) string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		connection, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		_, _ = io.WriteString(connection, shape(r.Header.Get("X-Vault-Token")+" "+r.URL.RawQuery+" "+strings.ReplaceAll(string(body), "\n", " ")))
		time.Sleep(20 * time.Millisecond) // for the client to read on
	}
}

func (w *leakWorld) weChatEchoes() {
	for _, path := range []string{"/midas/pay", "/game/pay", "/stable_token"} {
		for _, shape := range echoes {
			w.weChatIs(path, echo(shape))
		}
	}
	w.forget()
	w.paysAgain()
}

// weChatIs lets a mood of WeChat strike.
func (w *leakWorld) weChatIs(path string, answer http.HandlerFunc) {
	var struck atomic.Bool
	w.mood.Store(&mood{path, func(rw http.ResponseWriter, r *http.Request) {
		struck.Store(true)
		answer(rw, r)
	}})
	pay := w.pay
	if path == "/game/pay" {
		pay = w.payV2
	}
	require.Eventually(w.t, func() bool {
		if path == "/stable_token" {
			w.forget()
		}
		require.NotEqual(w.t, "applied", pay())
		w.ask(w.t.Context(), http.MethodGet, "http://"+w.admin+"/midas/status", "")
		return struck.Load()
	}, 15*time.Second, 50*time.Millisecond)
	w.mood.Store(nil)
}

// peersAddEchoes is for what goes to Go's own log, which each config without a log of
// the name default points elsewhere.
func (w *leakWorld) peersAddEchoes() {
	w.reload("log {", "log another {")
	w.paysAgain()
	w.weChatIs("/midas/pay", echo(echoes["after the answer"]))
	w.weChatIs("/stable_token", echo(echoes["after the answer"]))
	w.forget()
	w.paysAgain()
	w.vaultIs(echo(echoes["after the answer"]))
}

// areTakenBack cancels what has an unknown end, in all ways in which that may go.
func (w *leakWorld) areTakenBack() {
	w.reload("deadline 600ms", "deadline 1200ms\n on_unknown cancel") // time enough on a slow machine
	w.paysAgain()
	for _, c := range []struct{ pay, cancel, told string }{
		{"lost_after", "none", "rejectedtaken_back"},
		{"lost_before", "none", "rejected"},
		{"lost_after", "lost_after", "unknownoutcome_unknown"},
		{"lost_after", "session_90009", "unknownoutcome_unknown"},
		{"token_40001_replaced", "token_40001_replaced", "rejected"},
	} {
		strikes := func(api, kind string) simulator.Rule {
			return simulator.Rule{API: api, Faults: []simulator.Fault{{Kind: kind}}, Rate: 1}
		}
		require.NoError(w.t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{strikes("pay", c.pay), strikes("cancelpay", c.cancel)}}))
		require.Equal(w.t, c.told, w.pay(), "%s, %s", c.pay, c.cancel)
		w.look()
	}
	w.weChat.Forget()
	w.reload("midas {", "midas {")
	w.paysAgain()
}

func (w *leakWorld) callersHangUp() {
	require.NoError(w.t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{{Faults: []simulator.Fault{{Kind: "hang_after"}}, Rate: 1}}}))
	ctx, hangUp := context.WithTimeout(w.t.Context(), 50*time.Millisecond)
	defer hangUp()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			w.ask(ctx, http.MethodPost, w.sidecar+"/cgi-bin/midas/pay", fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"}`, player, w.billNo()))
		})
	}
	time.Sleep(20 * time.Millisecond)
	w.look() // with orders in flight
	all.Wait()
}
