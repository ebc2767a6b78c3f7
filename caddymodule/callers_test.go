package caddymodule_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Callers as they are: what programs that sign for themselves send, whose base URL alone
// was changed. Each row is the shape of the requests of one that is known.
var signers = []struct {
	name, path, contentType, body string
	headers                       []string
}{
	{"sig and mp_sig in the body, token in the query", payPath + "?access_token=T", "application/json", `{"openid":"%s","appid":"wx1234567","offer_id":"12345678","ts":1700000000,"zone_id":"1","pf":"android","amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"without mp_sig", payPath + "?access_token=T", "application/json", `{"openid":"%s","appid":"wx1234567","offer_id":"12345678","ts":1700000000,"zone_id":"1","pf":"android","amt":1,"bill_no":"%s","sig":"S"}`, nil},
	{"without a content type", payPath + "?access_token=T", "", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"a form's content type", payPath + "?access_token=T", "application/x-www-form-urlencoded", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"a form's content type with a charset", payPath + "?access_token=T", "application/x-www-form-urlencoded; charset=UTF-8", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"a text's content type", payPath + "?access_token=T", "text/plain;charset=utf8", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"the token in the body, too", payPath + "?access_token=T", "application/json", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","access_token":"T","sig":"S","mp_sig":"M"}`, nil},
	{"the token in the body alone", payPath, "application/json;charset=utf8", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","access_token":"T","sig":"S","mp_sig":"M"}`, nil},
	{"numbers as text", payPath + "?access_token=T", "application/json", `{"openid":"%s","ts":"1700000000","amt":"1","bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"fields of its own", payPath + "?access_token=T", "application/json", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M","org_loc":"/cgi-bin/midas/pay","method":"POST","session_key":""}`, nil},
	{"empty optionals", payPath + "?access_token=T", "application/json", `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","pay_item":"","app_remark":"","user_ip":null,"sig":"S","mp_sig":"M"}`, nil},
	{"a byte order mark", payPath + "?access_token=T", "application/json", "\xef\xbb\xbf" + `{"openid":"%s","ts":1700000000,"amt":1,"bill_no":"%s","sig":"S","mp_sig":"M"}`, nil},
	{"v2, all in the query", "/wxa/game/pay?access_token=T&signature=S&sig_method=hmac_sha256&pay_sig=P", "application/json", `{"openid":"%s","offer_id":"12345678","ts":1700000000,"zone_id":"1","env":0,"amount":1,"bill_no":"%s"}`, nil},
	{"v2, without a content type, as text", "/wxa/game/pay?access_token=T&signature=S&sig_method=hmac_sha256&pay_sig=P", "", `{"openid":"%s","offer_id":"12345678","ts":"1700000000","zone_id":"1","env":"0","amount":"1","bill_no":"%s"}`, nil},
	{"v2, signatures in the body", "/wxa/game/pay?access_token=T", "text/json", `{"openid":"%s","ts":1700000000,"amount":1,"bill_no":"%s","pay_sig":"P","signature":"S","sig_method":"hmac_sha256"}`, nil},
}

func TestSignedResignTakesCallersAsTheyAre(t *testing.T) {
	w := newWorld(t, "", "midas {\n signed resign\n login\n }")
	log := filepath.Join(t.TempDir(), "log")
	w.reload(strings.Replace(w.config, "output discard", "output file "+log, 1))
	for n, c := range signers {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			for range 2 {
				a := w.do(http.MethodPost, c.path, fmt.Sprintf(c.body, player, fmt.Sprint("b", n)), contentType(c.contentType)...)
				require.Equal(t, "applied", a.header.Get("Midas-Outcome"), a.body)
			}
		})
	}
	text := logOf(t, log)
	for _, field := range []string{"org_loc", "method", "access_token", "mp_sig", "amt"} {
		require.Equal(t, 1, strings.Count(text, `"api":"v1 pay","field":"`+field+`"`), field)
	}
}

// Nothing of it weakens the default.
func TestSignedRejectTakesNoneOfThem(t *testing.T) {
	w := newWorld(t, "", "midas")
	for n, c := range signers {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			a := w.do(http.MethodPost, c.path, fmt.Sprintf(c.body, player, fmt.Sprint("b", n)), contentType(c.contentType)...)
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Equal(t, "invalid_request", a.header.Get("Midas-Error"), a.body)
		})
	}
	w.t = t
	unsigned := `{"openid":"` + player + `","amt":"1","bill_no":"b99"}`
	require.Equal(t, "amt: must be a number, got a string", w.post(payPath, unsigned).Errmsg)
	require.Equal(t, http.StatusUnsupportedMediaType, w.do(http.MethodPost, payPath, onePay).status)
	require.Zero(t, w.hits.payments())
}

func contentType(media string) []string {
	if media == "" {
		return nil
	}
	return []string{"Content-Type", media}
}

func TestSignedRejectNamesTheSameFieldEachTime(t *testing.T) {
	w := newWorld(t, "", "midas")
	for range 50 {
		a := w.do(http.MethodPost, "/wxa/game/pay?signature=S&pay_sig=P&access_token=T&sig_method=hmac_sha256",
			`{"openid":"`+player+`","amount":1,"bill_no":"b1"}`, "Content-Type", "application/json")
		require.Equal(t, "pay_sig: must not be sent: the sidecar signs", a.Errmsg)
	}
}

func TestCallersThatSignGetATokenThatIsWorthNothing(t *testing.T) {
	w := newWorld(t, "", "midas {\n signed resign\n }\n respond 404")
	for _, c := range []struct{ method, path, body string }{
		{http.MethodGet, "/cgi-bin/token?grant_type=client_credential&appid=wx1234567&secret=canary", ""},
		{http.MethodPost, "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"wx1234567","secret":"canary"}`},
		{http.MethodGet, "/cgi-bin/stable_token", ""},
	} {
		a := w.do(c.method, c.path, c.body)
		require.Equal(t, http.StatusOK, a.status)
		require.JSONEq(t, `{"access_token":"midas-sidecar-signs-with-a-token-of-its-own","expires_in":7200}`, a.body)
		require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
	}
	require.Equal(t, "not_found", w.do(http.MethodGet, "/cgi-bin//token", "").header.Get("Midas-Error"))
	require.Equal(t, http.StatusMethodNotAllowed, w.do(http.MethodPut, "/cgi-bin/token", "").status)
	require.Equal(t, "forbidden", w.do(http.MethodGet, "/cgi-bin/token", "", "Origin", "null").header.Get("Midas-Error"))
	require.Zero(t, w.hits.count("/cgi-bin/token"))

	a := w.do(http.MethodPost, payPath+"?access_token=midas-sidecar-signs-with-a-token-of-its-own", onePay, "Content-Type", "application/json")
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"), "which is not what is sent")
}

func TestPagesInBrowsersMayNotCall(t *testing.T) {
	w := newWorld(t, "", "midas {\n login\n signed resign\n }")
	for _, header := range [][]string{{"Origin", "https://game.example"}, {"Origin", "null"}, {"Origin", ""}, {"Sec-Fetch-Site", "none"}, {"Sec-Fetch-Site", "same-origin"}} {
		for _, call := range []struct{ method, path, body string }{
			{http.MethodPost, payPath, onePay}, {http.MethodGet, "/sns/jscode2session?js_code=abc", ""}, {http.MethodGet, "/cgi-bin/token", ""},
		} {
			a := w.do(call.method, call.path, call.body, append([]string{"Content-Type", "application/json"}, header...)...)
			require.Equal(t, http.StatusForbidden, a.status, header)
			require.Equal(t, "forbidden", a.header.Get("Midas-Error"))
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Equal(t, 90017, a.Errcode)
		}
	}
	require.Zero(t, w.hits.payments())
}

func TestAnyHostIsServed(t *testing.T) {
	w := newWorld(t, "", "")
	w.reload(strings.Replace(w.config, "http://127.0.0.1:0 {", "http://:0 {", 1))
	for n, host := range []string{"localhost:8080", "midas-sidecar", "10.1.2.3:8080", "[::1]:8080", "game.default.svc.cluster.local"} {
		a := w.raw(strings.Replace(posted(payPath, "", fmt.Sprintf(`{"openid":%q,"amt":1,"bill_no":"h%d"}`, player, n)), "Host: 127.0.0.1", "Host: "+host, 1))
		require.Equal(t, "applied", a.header.Get("Midas-Outcome"), host)
	}
}

func TestAPlayerWhoMustLogInIsToldSoInAFormThatEveryClientReads(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post(payPath, `{"openid":"oNobody","amt":1,"bill_no":"b1"}`)
	require.Equal(t, http.StatusUnauthorized, a.status)
	require.Equal(t, "Midas-Session", a.header.Get("WWW-Authenticate"))
}

func TestAByteOrderMarkIsNamed(t *testing.T) {
	w := newWorld(t, "", "")
	a := w.post(payPath, "\xef\xbb\xbf"+onePay)
	require.Equal(t, "body: must not begin with a byte order mark (EF BB BF)", a.Errmsg)
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, "applied", w.do(http.MethodPost, payPath, onePay, "Content-Type", `application/json; charset="UTF8"`).header.Get("Midas-Outcome"))
}

// The config of the README's site for Prometheus: Caddy orders respond before metrics.
func TestTheREADMEsMetricsAreServed(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	site := regexp.MustCompile(`(?s)\nhttp://:9180 \{\n(.*?)\n\}\n`).FindStringSubmatch(string(text))
	require.NotNil(t, site)
	w := newWorld(t, "", site[1])
	a := w.do(http.MethodGet, "/metrics", "")
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.body, "midas_orders_in_flight")
	require.Equal(t, http.StatusOK, w.do(http.MethodGet, "/midas/health/live", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, "/other", "").status)
}

func TestABodyThatDoesNotComeKeepsNoRefusedCallerWaiting(t *testing.T) {
	w := newWorld(t, "", "midas {\n login\n signed resign\n }")
	for name, head := range map[string]string{
		"a token":               "POST /cgi-bin/stable_token HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"a slip":                "POST //cgi-bin/token HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"a login by a page":     "POST /sns/jscode2session HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\n",
		"a login's slip":        "POST /sns/jscode2session/ HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"a login with GET":      "GET /sns/jscode2session HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"a payment by a page":   "POST " + payPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\n",
		"a login by a bad name": "PUT /sns/jscode2session HTTP/1.1\r\nHost: 127.0.0.1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			a := w.raw(head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
		})
	}
}

func TestTheLogHearsOfNotMoreFieldsThanItsBound(t *testing.T) {
	w := newWorld(t, "", "midas {\n signed resign\n }")
	log := filepath.Join(t.TempDir(), "log")
	w.reload(strings.Replace(w.config, "output discard", "output file "+log, 1))
	for n := range 30 {
		var fields strings.Builder
		for m := range 50 {
			fmt.Fprintf(&fields, `,"f%d_%d":1`, n, m)
		}
		w.post(payPath, `{"openid":"`+player+`"`+fields.String()+`}`)
	}
	require.LessOrEqual(t, strings.Count(logOf(t, log), "a field of a caller is not sent as it is"), 1000)
}
