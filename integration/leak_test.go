package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/simulator"
	"midas-sidecar/wechat"
)

// Whatever happens, and however much is logged: no secret is anywhere outside of the
// process and the two whom it speaks to.
func TestNoSecretLeavesTheProcess(t *testing.T) {
	t.Parallel()
	w := newLeakWorld(t)
	w.command("validate", "--config", w.config)
	w.command("adapt", "--config", w.config)
	w.command("adapt", "--config", w.config, "--pretty")
	w.start()
	for _, phase := range []struct {
		name  string
		drive func(*leakWorld)
	}{
		{"payments that go well", (*leakWorld).goWell},
		{"calls that are refused", (*leakWorld).areRefused},
		{"faults of WeChat", (*leakWorld).weChatFails},
		{"faults of stable_token", (*leakWorld).stableTokenFails},
		{"logins, good and bad", (*leakWorld).playersLogIn},
		{"logins with peers that repeat what they are told", (*leakWorld).loginsAreEchoed},
		{"a WeChat that repeats what it is told", (*leakWorld).weChatEchoes},
		{"keys that change", (*leakWorld).keysChange},
		{"a Vault that is away", (*leakWorld).vaultIsAway},
		{"a Vault that repeats what it is told", (*leakWorld).vaultEchoes},
		{"values that are none", (*leakWorld).valuesAreBroken},
		{"orders that are taken back", (*leakWorld).areTakenBack},
		{"reloads", (*leakWorld).reloads},
		{"peers that repeat what they are told, after reloads", (*leakWorld).peersAddEchoes},
		{"callers who hang up", (*leakWorld).callersHangUp},
	} {
		began := time.Now()
		phase.drive(w)
		w.look()
		t.Logf("%-40s %s", phase.name, time.Since(began).Round(time.Millisecond))
	}
	w.end()
	w.collect()

	for _, told := range []string{
		"applied", "already_applied", "duplicate", "rejected", "unknown", "not_sent",
		"invalid_request", "unknown_app", "forbidden", "session_missing", "bill_no_conflict",
		"secrets_unavailable", "token_unavailable", "upstream_unreachable", "outcome_unknown", "taken_back",
	} {
		_, seen := w.seen.Load(told)
		assert.True(t, seen, "no caller was told %s", told)
	}
	counts := w.canaries.count()
	for _, class := range []string{
		"midas_key", "midas_key_sandbox", "app_secret", "session_key", "access_token", "vault_token", "role_id", "secret_id", "sig", "mp_sig", "pay_sig", "signature", "caller's sig", "js_code",
	} {
		require.NotZero(t, counts[class], class)
	}
	require.Contains(t, w.places.texts["log file"].String(), `"level":"debug"`)
	require.Contains(t, w.places.texts["log file"].String(), "http.handlers.midas")
	require.Contains(t, w.places.texts["log file"].String(), `"name":"midas.order_unknown"`)
	require.Contains(t, w.places.texts["printed by run"].String(), `Unsolicited response received on idle HTTP channel starting with \"…\"`)
	require.Contains(t, w.places.texts["access log"].String(), "/cgi-bin/midas/pay?x=1\"")
	require.Contains(t, w.places.texts["access log"].String(), wechat.Code2SessionPath)
	require.Contains(t, w.places.texts["log file"].String(), `"msg":"login"`)
	require.Contains(t, w.places.texts["autosave.json"].String(), "{file."+w.dir)
	w.noneFound(t)
}

// A login that does not work shows nothing of what it was tried with.
func TestNoCredentialOfVaultLeavesTheProcess(t *testing.T) {
	t.Parallel()
	w := newLeakWorld(t)
	spent := w.role.wrap(t, w.role.path()+"/secret-id", nil)
	_, err := w.vault.root.Logical().Unwrap(spent)
	require.NoError(t, err)
	wrong := secretText() + secretText()
	people := w.vault.mountAuth(t, "userpass")
	approle := w.text[strings.Index(w.text, "auth approle"):strings.Index(w.text, "timeout 300ms")]
	for _, c := range []struct{ class, credential, auth string }{
		{"wrapped secret_id", spent, strings.Replace(approle, "/secret_id}", "/credential} wrapped", 1)},
		{"wrong secret_id", wrong, strings.Replace(approle, "/secret_id}", "/credential}", 1)},
		{"wrong token", "hvs." + wrong, "auth token {file." + w.dir + "/credential}\n"},
		{"wrong token file", "hvs." + wrong, "auth token_file " + w.dir + "/credential\n"},
		{"wrong password", wrong, "auth userpass {\n username midas\n password {file." + w.dir + "/credential}\n mount " + people + "\n}\n"},
	} {
		w.canaries.add(c.class, c.credential)
		require.NoError(t, os.WriteFile(w.dir+"/credential", []byte(c.credential), 0o600))
		w.write(strings.Replace(w.text, approle, c.auth, 1))
		w.start()
		require.Equal(t, "not_sentsecrets_unavailable", w.pay(), c.class)
		w.look()
		w.end()
	}
	w.collect()
	require.Equal(t, 1, w.canaries.count()["wrapped secret_id"])
	w.noneFound(t)
}

// noneFound searches all places.
func (w *leakWorld) noneFound(t *testing.T) {
	t.Helper()
	s, searched := w.canaries.search(), 0
	w.places.each(func(name, text string) {
		searched += len(text)
		t.Logf("%9d bytes: %s", len(text), name)
		require.NotEmpty(t, strings.TrimSpace(text), name)
		for _, hit := range s.in(text) {
			t.Errorf("%s: %s", name, hit)
		}
		for _, openid := range []string{player, newcomer, absentee} {
			if at := strings.Index(text, openid); at >= 0 {
				t.Errorf("%s: an openid, after %q", name, text[max(0, at-160):at])
			}
		}
		require.NotEmpty(t, s.in(text+" "+w.role.secretID), "%s: what is put there is found", name)
	})
	counts, secrets := w.canaries.count(), 0
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d × %s", counts[class], class)
		secrets += counts[class]
	}
	t.Logf("searched: %d secrets × %d forms × %d places, %d runs of %d characters, %d bytes",
		secrets, len(forms(secretText())), len(w.places.texts), len(s.runs), run16, searched)
}

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

// keysChange changes each at WeChat first and in Vault later, or not at all.
func (w *leakWorld) keysChange() {
	app := w.weChat.State().Apps[appID]
	for range 2 {
		key, session := secretText(), secretText()
		w.canaries.add("midas_key", key)
		w.canaries.add("session_key", session)
		require.NoError(w.t, w.weChat.Edit(func(s *simulator.State) {
			s.Apps[appID].MidasKey = key
			s.Apps[appID].Players[player].SessionKey = session
			for _, token := range s.Tokens[appID].Issued {
				token.Revoked = true
			}
		}))
		// By its token, where a new one is not to be had within the deadline.
		require.Contains(w.t, []string{"rejectedsession_missing", "rejected"}, w.pay())
		w.look()
		w.put("midas/"+appID, map[string]any{"midas_key": key, "midas_key_sandbox": app.MidasKeySandbox, "app_secret": app.Secret})
		w.paysNot()
		w.put("midas/"+appID+"/sessions/"+player, map[string]any{"session_key": session})
		w.paysAgain()
	}
}

// paysNot pays once, whatever becomes of it.
func (w *leakWorld) paysNot() { _ = w.pay() }

func (w *leakWorld) vaultIsAway() {
	moods := []http.HandlerFunc{reset, w.moody.hang}
	for _, status := range []int{400, 403, 404, 429, 500, 503} {
		moods = append(moods, answers(status, 0))
	}
	for _, mood := range moods {
		w.vaultIs(mood)
	}
	w.forget()
	w.moody.refuse(w.t)
	w.paysNot()
	w.look()
	w.moody.accept(w.t)
	w.paysAgain()

	w.vault.seal(w.t)
	w.paysNot() // with what is in memory
	w.forget()
	w.paysNot()
	w.look()
	w.vault.unseal(w.t)
	w.paysAgain()

	w.role.revokeTokens(w.t)
	w.forget()
	w.paysNot()
	w.paysAgain()
	w.role.allow(w.t, "secret/data/nothing")
	w.forget()
	w.paysNot()
	w.look()
	w.allow()
	w.paysAgain()
	w.role.delete(w.t)
	w.role.revokeTokens(w.t)
	w.forget()
	w.paysNot()
	w.look()
	w.role.restore(w.t)
	w.paysAgain()
}

// vaultIs lets a mood of Vault strike the reads and the logins.
func (w *leakWorld) vaultIs(mood http.HandlerFunc) {
	for range 2 {
		w.moody.is(mood)
		w.forget()
		w.paysNot()
		w.ask(w.t.Context(), http.MethodGet, "http://"+w.admin+"/midas/status", "")
		w.ask(w.t.Context(), http.MethodGet, w.sidecar+"/midas/health/ready", "")
		w.moody.is(nil)
		w.role.revokeTokens(w.t) // so that the next one strikes a login
	}
	w.paysAgain()
}

func (w *leakWorld) vaultEchoes() {
	for _, shape := range echoes {
		w.vaultIs(echo(shape))
	}
	w.vaultIs(echo(func(said string) string { // in Vault's own words
		body := fmt.Sprintf(`{"errors":[%q]}`, said)
		return fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}))
}

// valuesAreBroken stores what no key can be.
func (w *leakWorld) valuesAreBroken() {
	app := w.weChat.State().Apps[appID]
	good := map[string]any{"midas_key": app.MidasKey, "midas_key_sandbox": app.MidasKeySandbox, "app_secret": app.Secret}
	for _, field := range []string{"midas_key", "app_secret"} {
		text := app.Secret
		for _, value := range []any{
			text + "\n", " " + text, "", 12345, []string{text}, map[string]string{"value": text}, true, text + "\x00", strings.Repeat(text, 3000),
		} {
			broken := maps.Clone(good)
			broken[field] = value
			w.put("midas/"+appID, broken)
			w.forget()
			w.paysNot()
			w.ask(w.t.Context(), http.MethodGet, "http://"+w.admin+"/midas/status", "")
		}
		wrong := maps.Clone(good)
		delete(wrong, field)
		w.put("midas/"+appID, wrong)
		w.forget()
		w.paysNot()
	}
	w.put("midas/"+appID, good)
	session := w.weChat.State().Apps[appID].Players[player].SessionKey
	for _, value := range []any{session + "\r\n", "", 7, []string{session}} {
		w.put("midas/"+appID+"/sessions/"+player, map[string]any{"session_key": value})
		w.forget()
		w.paysNot()
	}
	w.put("midas/"+appID+"/sessions/"+player, map[string]any{"session_key": session})
	w.paysAgain()
}

// reload changes the config to what it was at first, but for one change.
func (w *leakWorld) reload(from, to string) {
	require.Contains(w.t, w.text, from)
	w.write(strings.Replace(w.text, from, to, 1))
	w.command("reload", "--config", w.config, "--address", w.admin)
}

// areTakenBack cancels what has an unknown end, in all ways in which that may go.
func (w *leakWorld) areTakenBack() {
	w.reload("deadline 600ms", "deadline 600ms\n on_unknown cancel")
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

func (w *leakWorld) reloads() {
	closed := "http://127.0.0.1:" + freePort(w.t)
	for _, change := range [][2]string{
		{"midas {", "midas {"},
		{"deadline 600ms", "deadline 700ms"},
		{"timeout 300ms", "timeout 400ms"},
		{"upstream " + w.front.URL, "upstream " + closed},
		{"upstream " + w.front.URL, "upstream " + strings.Replace(w.front.URL, "http:", "https:", 1)},
		{"upstream " + w.front.URL, "upstream " + closed + " " + w.front.URL},
		{"/secret_id}", "/nothing}"},
		{"offer_id 12345678", "offer_id {file." + w.dir + "/nothing}"},
		{"deadline 600ms", "deadline 1ms"},
		{"deadline 600ms", "deadline {file." + w.dir + "/secret_id}"},
		{"offer_id 12345678", "offer_id 12345678\n session midas"},
		{"trace", "tracing"},
		{"midas_health", "midas_wealth"},
	} {
		w.reload(change[0], change[1])
		w.paysNot()
		w.forget()
		w.paysNot()
		w.look()
	}
	doomed := httptest.NewServer(w.front.Config.Handler)
	w.reload("upstream "+w.front.URL, "upstream "+doomed.URL)
	w.paysAgain()
	doomed.Close()
	require.Eventually(w.t, func() bool { return w.pay() == "not_sentupstream_unreachable" }, 15*time.Second, 50*time.Millisecond)
	w.write(w.text)
	w.command("reload", "--config", w.config, "--address", w.admin, "--force")
	w.paysAgain()
	w.ask(w.t.Context(), http.MethodPost, "http://"+w.admin+"/load", `{"admin":{"listen":"`+w.admin+`"},"apps":{"midas":{"app":{}}}}`)
	for _, body := range []string{`{"appid":"` + appID + `","openid":"` + player + `"}`, `{"appid":"x","openid":"` + player + `"}`, `{"openid":"` + player + `"}`, `{"x":1}`, "x"} {
		w.post("http://"+w.admin+"/midas/forget", body)
	}
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

// end stops the process with an order in flight.
func (w *leakWorld) end() {
	var last sync.WaitGroup
	last.Go(func() { w.paysNot() })
	time.Sleep(50 * time.Millisecond)
	require.NoError(w.t, w.process.Process.Signal(syscall.SIGTERM))
	last.Wait()
	select {
	case err := <-w.process.ended:
		require.NoError(w.t, err)
	case <-time.After(20 * time.Second):
		require.Fail(w.t, "the process did not end")
	}
	w.places.add("printed by run", w.process.output.String())
}
