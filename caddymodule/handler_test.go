package caddymodule_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func pay(billNo string, amt int) string {
	return fmt.Sprintf(`{"openid":"%s","amt":%d,"bill_no":"%s"}`, player, amt, billNo)
}

func TestAPaymentIsSignedSentAndAnswered(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 123))

	require.Equal(t, http.StatusOK, a.status)
	require.JSONEq(t, `{"errcode":0,"errmsg":"ok","bill_no":"b1","balance":9877,"used_gen_amt":0}`, a.body)
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
	require.Equal(t, "1", a.header.Get("Midas-Attempts"))
	require.Empty(t, a.header.Get("Midas-Error"))
	require.Equal(t, int64(9877), w.balance(wechat.Official))
}

func TestEveryAPIWorksInBothEnvironments(t *testing.T) {
	w := newWorld(t, "", "")
	for _, prefix := range []string{"/cgi-bin/midas/", "/cgi-bin/midas/sandbox/"} {
		for _, c := range []struct{ api, body, want string }{
			{"pay", pay("b1", 100), `"balance":9900`},
			{"cancelpay", `{"openid":"` + player + `","bill_no":"b1"}`, `"errcode":0`},
			{"pay", pay("b1", 100), `"errcode":90012`},
			{"present", `{"openid":"` + player + `","present_counts":7,"bill_no":"g1"}`, `"balance":10007`},
			{"getbalance", `{"openid":"` + player + `"}`, `"gen_balance":7`},
		} {
			require.Contains(t, w.post(prefix+c.api, c.body).body, c.want, prefix+c.api)
		}
	}
}

func TestNothingOfTheCallersHeadersGoesUpstream(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.do(http.MethodPost, "/cgi-bin/midas/pay", pay("b1", 1), "Content-Type", "application/json; charset=UTF-8",
		"Cookie", "canary", "Authorization", "canary", "X-Forwarded-For", "1.2.3.4", "Idempotency-Key", "canary",
		"Traceparent", "canary", "Accept-Encoding", "br")
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))

	var names []string
	for name := range w.hits.last.Header {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"Content-Length", "Content-Type", "User-Agent"}, names)
	require.Equal(t, "application/json", w.hits.last.Header.Get("Content-Type"))
	require.NotContains(t, w.hits.body, "access_token")
}

// Section by section what is refused before anything is sent. The rules of the
// body's fields are tested where they are decided; here, that they arrive.
func TestRefusalsReachTheCallerAndNothingReachesWeChat(t *testing.T) {
	w := newWorld(t, "", "")
	const path = "/cgi-bin/midas/pay"
	for _, c := range []struct {
		name, method, path, body, contentType string
		status                                int
		errmsg                                string
	}{
		{"not POST", "GET", path, "", "", 405, "method: must be POST"},
		{"PUT", "PUT", path, pay("b1", 1), "application/json", 405, "method: must be POST"},
		{"a form", "POST", path, "openid=o1&amt=1", "application/x-www-form-urlencoded", 415, "content-type: must be application/json in UTF-8"},
		{"no type", "POST", path, pay("b1", 1), "", 415, "content-type: must be application/json in UTF-8"},
		{"another charset", "POST", path, pay("b1", 1), "application/json; charset=gbk", 415, "content-type: must be application/json in UTF-8"},
		{"too large", "POST", path, pay("b1", 1) + strings.Repeat(" ", 16<<10), "application/json", 413, "body: must not be larger than 16384 bytes"},
		{"a query", "POST", path + "?debug=1", pay("b1", 1), "application/json", 400, "query: must be empty"},
		{"an empty query", "POST", path + "?", pay("b1", 1), "application/json", 400, "query: must be empty"},
		{"a token in the query", "POST", path + "?access_token=x", pay("b1", 1), "application/json", 400, "access_token: must not be sent: the sidecar signs"},
		{"a token and more in the query", "POST", path + "?access_token=x&y=z", pay("b1", 1), "application/json", 400, "access_token: must not be sent: the sidecar signs"},
		{"a signature", "POST", path, `{"openid":"o1","amt":1,"bill_no":"b1","sig":"x"}`, "application/json", 400, "sig: must not be sent: the sidecar signs"},
		{"not JSON", "POST", path, "{", "application/json", 400, "body: is not JSON: it ends too early"},
		{"trailing data", "POST", path, pay("b1", 1) + "1", "application/json", 400, "body: must be one JSON object, with nothing after it"},
		{"a duplicate", "POST", path, `{"amt":1,"amt":2}`, "application/json", 400, "amt: appears twice"},
		{"bad UTF-8", "POST", path, "{\"openid\":\"\xff\"}", "application/json", 400, "body: must be UTF-8"},
		{"nested", "POST", path, `{"openid":{}}`, "application/json", 400, "openid: must not be nested"},
		{"a wrong type", "POST", path, `{"openid":1}`, "application/json", 400, "openid: must be a string, got a number"},
		{"amt 0", "POST", path, pay("b1", 0), "application/json", 400, "amt: must be a positive integer, got 0"},
		{"a bad bill_no", "POST", path, pay("b*1", 1), "application/json", 400, "bill_no: must be 1 to 63 characters of A-Z a-z 0-9 _ -"},
		{"no amt", "POST", path, `{"openid":"o1","bill_no":"b1"}`, "application/json", 400, "amt: is missing"},
		{"another offer", "POST", path, `{"openid":"o1","amt":1,"bill_no":"b1","offer_id":"9"}`, "application/json", 400, "offer_id: must be the configured app's"},
		{"an unknown app", "POST", path, `{"openid":"o1","amt":1,"bill_no":"b1","appid":"wx9"}`, "application/json", 403, "appid: is not configured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			a := w.do(c.method, c.path, c.body, "Content-Type", c.contentType)
			require.Equal(t, c.status, a.status)
			require.Equal(t, c.errmsg, a.Errmsg)
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Equal(t, "0", a.header.Get("Midas-Attempts"))
			require.Equal(t, a.Error, a.header.Get("Midas-Error"))
			require.Equal(t, "application/json", a.header.Get("Content-Type"))
			require.NotZero(t, a.Errcode)
		})
	}
	require.Zero(t, w.hits.payments())
	require.Zero(t, w.hits.count(wechat.StableTokenPath))
}

func TestARefusalIsExactlyWhatTheContractSays(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 0))
	require.Equal(t, `{"errcode":90018,"errmsg":"amt: must be a positive integer, got 0","error":"invalid_request","outcome":"not_sent","attempts":0,"bill_no":"b1"}`, a.body)
}

func TestMethodNotAllowedNamesTheMethodThatIs(t *testing.T) {
	require.Equal(t, "POST", newWorld(t, "", "").do(http.MethodGet, "/cgi-bin/midas/pay", "").header.Get("Allow"))
}

func TestABodyOfUnknownLengthIsBoundedToo(t *testing.T) {
	w := newWorld(t, "", "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.sidecar+"/cgi-bin/midas/pay",
		struct{ *strings.Reader }{strings.NewReader(pay("b1", 1) + strings.Repeat(" ", 17<<10))})
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
}

func TestEverythingElseGoesToTheNextHandler(t *testing.T) {
	w := newWorld(t, "", "midas\n reverse_proxy 127.0.0.1:1\n respond /health ok")
	for _, path := range []string{"/health", "/cgi-bin/midas/refund", "/cgi-bin/midas/../midas/refund"} {
		a := w.post(path, pay("b1", 1))
		require.Empty(t, a.header.Get("Midas-Outcome"), path)
	}
	require.Equal(t, "ok", w.post("/health", "").body)
	require.Zero(t, w.hits.payments())
}

func TestEnvironmentSandboxSendsOfficialPathsToTheSandbox(t *testing.T) {
	w := newWorld(t, "", "midas {\n environment sandbox\n }")
	for _, path := range []string{"/cgi-bin/midas/pay", "/cgi-bin/midas/sandbox/pay"} {
		require.Equal(t, "applied", w.post(path, pay(strings.ReplaceAll(path, "/", "_"), 1)).header.Get("Midas-Outcome"))
	}
	require.Equal(t, int64(10000), w.balance(wechat.Official))
	require.Equal(t, int64(9998), w.balance(wechat.Sandbox))
}

func TestEnvironmentOfficialRefusesSandboxPaths(t *testing.T) {
	w := newWorld(t, "", "midas {\n environment official\n }")
	a := w.post("/cgi-bin/midas/sandbox/pay", pay("b1", 1))
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "forbidden", a.Error)
	require.Equal(t, 90017, a.Errcode)
	require.Equal(t, "environment: the sandbox is not allowed here", a.Errmsg)
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
}

func TestOnlyTheListedAPIsAreServed(t *testing.T) {
	w := newWorld(t, "", "midas {\n apis getbalance cancelpay\n }")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "forbidden", a.Error)
	require.Equal(t, "api: pay is not allowed here", a.Errmsg)
	require.Equal(t, "applied", w.post("/cgi-bin/midas/getbalance", `{"openid":"`+player+`"}`).header.Get("Midas-Outcome"))
}

func TestMaxAmountBoundsOneOrderPerMatcher(t *testing.T) {
	w := newWorld(t, "", "@ingame header X-Caller ingame\n midas @ingame {\n max_amount 1000\n }\n midas")
	a := w.do(http.MethodPost, "/cgi-bin/midas/pay", pay("b1", 1001), "Content-Type", "application/json", "X-Caller", "ingame")
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "amt: must be at most 1000 here", a.Errmsg)
	require.Equal(t, "b1", a.BillNo)

	a = w.do(http.MethodPost, "/cgi-bin/midas/present", `{"openid":"`+player+`","present_counts":1001,"bill_no":"g1"}`, "Content-Type", "application/json", "X-Caller", "ingame")
	require.Equal(t, "forbidden", a.Error)
	require.Zero(t, w.hits.payments())

	a = w.do(http.MethodPost, "/cgi-bin/midas/pay", pay("b1", 1000), "Content-Type", "application/json", "X-Caller", "ingame")
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b2", 1001)).header.Get("Midas-Outcome"))
}

const signedBody = `{"openid":"` + player + `","amt":1,"bill_no":"b1","ts":1,"sig":"canary","mp_sig":"canary"}`

func TestSignedResignStripsAndSigns(t *testing.T) {
	w := newWorld(t, "", "midas {\n signed resign\n }")
	a := w.post("/cgi-bin/midas/pay?access_token=canary", signedBody)
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
	require.NotContains(t, w.hits.body+w.hits.last.URL.RawQuery, "canary")
	for _, query := range []string{"?x=y", "?", "?sig_method=hmac_sha256"} {
		require.Equal(t, "query: must be empty", w.post("/cgi-bin/midas/pay"+query, pay("b2", 1)).Errmsg, query)
	}
	require.Equal(t, "query: must be empty", w.post("/cgi-bin/midas/pay?access_token=canary&x=y", signedBody).Errmsg)
}

func TestSignedPassHandsTheCallOnUntouched(t *testing.T) {
	w := newWorld(t, "", "route {\n midas {\n signed pass\n }\n respond \"next: {http.request.uri} {http.request.body}\"\n }")
	require.Equal(t, "next: /cgi-bin/midas/pay?access_token=canary "+signedBody, w.post("/cgi-bin/midas/pay?access_token=canary", signedBody).body)
	require.Equal(t, "next: /cgi-bin/midas/pay?access_token=canary "+pay("b1", 1), w.post("/cgi-bin/midas/pay?access_token=canary", pay("b1", 1)).body)
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
}

func TestWithSeveralAppsTheAppidPicksOne(t *testing.T) {
	w := newWorld(t, "app wx1234567 {\n offer_id 12345678\n }\n app wx2 {\n offer_id 2\n }", "")
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "appid: is missing: several apps are configured", a.Errmsg)
	require.Equal(t, "invalid_request", a.Error)

	a = w.post("/cgi-bin/midas/pay", `{"appid":"wx1234567","openid":"`+player+`","amt":1,"bill_no":"b1"}`)
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"))

	a = w.post("/cgi-bin/midas/pay", `{"appid":"wx2","openid":"`+player+`","amt":1,"bill_no":"b1"}`)
	require.Equal(t, "secrets_unavailable", a.Error, "wx2 has no secret in the store")
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "2", a.header.Get("Retry-After"))
	require.Equal(t, -1, a.Errcode)
}

func TestAPlayerWithoutASessionKeyMustLogIn(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post("/cgi-bin/midas/pay", `{"openid":"nobody","amt":1,"bill_no":"b1"}`)
	require.Equal(t, http.StatusUnauthorized, a.status)
	require.Equal(t, "session_missing", a.Error)
	require.Equal(t, 90010, a.Errcode)
	require.Zero(t, w.hits.payments())
}

func TestWithMPSigOffNoSessionIsNeeded(t *testing.T) {
	w := newWorld(t, "app wx1234567 {\n offer_id 12345678\n mp_sig off\n }", "")
	w.store(keys{"midas/wx1234567": demoKeys["midas/wx1234567"]})
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, "rejected", a.header.Get("Midas-Outcome"), "the simulated app insists on mp_sig")
	require.NotContains(t, w.hits.body, "mp_sig")
}

func TestWithTheWrongKeyWeChatRefusesAndTheAnswerSaysSo(t *testing.T) {
	w := newWorld(t, "", "")
	w.store(keys{
		"midas/" + appID:                         {"midas_key": "wrong", "app_secret": demoKeys["midas/"+appID]["app_secret"]},
		"midas/" + appID + "/sessions/" + player: demoKeys["midas/"+appID+"/sessions/"+player],
	})
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, 90011, a.Errcode)
	require.Equal(t, "rejected", a.header.Get("Midas-Outcome"))
	require.Equal(t, "secrets_unavailable", w.post("/cgi-bin/midas/sandbox/pay", pay("b1", 1)).Error)
}

func TestATokenFromTheSecretStoreIsUsed(t *testing.T) {
	w := newWorld(t, "app wx1234567 {\n offer_id 12345678\n access_token secret tokens/{appid} current\n }", "")
	w.store(keys{
		"midas/" + appID:                         demoKeys["midas/"+appID],
		"midas/" + appID + "/sessions/" + player: demoKeys["midas/"+appID+"/sessions/"+player],
		"tokens/" + appID:                        {"current": "never-issued"},
	})
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, 40014, a.Errcode)
	require.Equal(t, "access_token=never-issued", w.hits.last.URL.RawQuery)
	require.Zero(t, w.hits.count(wechat.StableTokenPath))
}

func TestAnAppSecretThatWeChatRefusesIsTokenUnavailable(t *testing.T) {
	w := newWorld(t, "", "")
	w.store(keys{
		"midas/" + appID:                         {"midas_key": "k", "app_secret": "wrong"},
		"midas/" + appID + "/sessions/" + player: demoKeys["midas/"+appID+"/sessions/"+player],
	})
	a := w.post("/cgi-bin/midas/pay", pay("b1", 1))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "token_unavailable", a.Error)
	require.Equal(t, "2", a.header.Get("Retry-After"))
	require.Zero(t, w.hits.payments())
}

func TestManyPaymentsAskForOneToken(t *testing.T) {
	w := newWorld(t, "", "")
	for i := range 5 {
		require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay(fmt.Sprint("b", i), 1)).header.Get("Midas-Outcome"))
	}
	require.Equal(t, 1, w.hits.count(wechat.StableTokenPath))
}

// As written, respond stands before reverse_proxy; a site that refuses all else must
// not refuse payments too.
func TestPaymentsComeBeforeASitesRefusalOfAllElse(t *testing.T) {
	w := newWorld(t, "", "respond 404\n midas")
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	require.Equal(t, http.StatusNotFound, w.post("/cgi-bin/other", "{}").status)
}
