package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

const loginPath = wechat.Code2SessionPath

// kv is a Vault with one token and one mount of version 1, which can be written.
type kv struct {
	mu      sync.Mutex
	secrets keys
	status  int // of writes, 0 for success
}

func (v *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path, isSecret := strings.CutPrefix(r.URL.Path, "/v1/secret/")
	switch {
	case strings.HasSuffix(r.URL.Path, "/ui/mounts/secret"):
		_, _ = io.WriteString(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"1"}}}`)
	case isSecret && r.Method == http.MethodPut && v.status != 0:
		w.WriteHeader(v.status)
		_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
	case isSecret && r.Method == http.MethodPut:
		var fields map[string]string
		_ = json.NewDecoder(r.Body).Decode(&fields)
		v.secrets[path] = fields
		w.WriteHeader(http.StatusNoContent)
	case isSecret && v.secrets[path] != nil:
		_ = json.NewEncoder(w).Encode(map[string]any{"data": v.secrets[path]})
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[]}`)
	}
}

func (v *kv) session(openid string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.secrets["midas/"+appID+"/sessions/"+openid]["session_key"]
}

// loggingIn is a world whose store can be written, and whose handler has more lines.
func loggingIn(t *testing.T, options, handler string) (*world, *kv, func() string) {
	t.Helper()
	store := &kv{secrets: keys{"midas/" + appID: demoKeys["midas/"+appID]}}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	log := filepath.Join(t.TempDir(), "log.json")
	w := newWorld(t, demoApp+options, "metrics /metrics\n midas {\n login\n "+handler+"\n}\n @logins path_regexp (?i)sns\n respond @logins 404")
	config := strings.Replace(w.config, fmt.Sprintf("secrets file %q", w.keys), "secrets vault "+server.URL+" {\n auth token t\n }", 1)
	w.reload(strings.Replace(config, "output discard", fmt.Sprintf("output file %q\n level DEBUG", log), 1))
	return w, store, func() string {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		return string(text)
	}
}

// jsCode is what the player's client gets from wx.login.
func (w *world) jsCode() string {
	w.t.Helper()
	code, err := w.weChat.Login(appID, player)
	require.NoError(w.t, err)
	return code
}

func (w *world) sessionKey() string { return w.weChat.State().Apps[appID].Players[player].SessionKey }

func logins(outcome string, errcode int) string {
	return fmt.Sprintf(`midas_logins_total{appid=%q,errcode="%d",outcome=%q}`, appID, errcode, outcome)
}

func TestAPlayerLogsInAndPaysAndTheCallerNeverSeesTheSessionKey(t *testing.T) {
	w, store, log := loggingIn(t, "", "apis pay\n max_amount 5")
	var all strings.Builder
	for i, login := range []func(code string) answer{
		func(code string) answer { return w.do(http.MethodGet, loginPath+"?js_code="+code, "") },
		func(code string) answer { return w.do(http.MethodGet, loginPath+"?appid="+appID+"&js_code="+code, "") },
		func(code string) answer { return w.do(http.MethodPost, loginPath+"?js_code="+code, "") },
		func(code string) answer { return w.post(loginPath, `{"js_code":"`+code+`"}`) },
		func(code string) answer { return w.post(loginPath+"?appid="+appID, `{"js_code":"`+code+`"}`) },
	} {
		code := w.jsCode()
		var a answer
		w.adds(map[string]float64{logins("applied", 0): 1}, func() { a = login(code) })
		require.Equal(t, http.StatusOK, a.status, a.body)
		require.JSONEq(t, `{"openid":"`+player+`"}`, a.body)
		require.Equal(t, "applied", a.header.Get("Midas-Outcome"))
		require.Equal(t, "1", a.header.Get("Midas-Attempts"))
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		require.Equal(t, w.sessionKey(), store.session(player))
		paid := w.post(payPath, pay(fmt.Sprint("b", i), 1))
		require.Equal(t, "applied", paid.header.Get("Midas-Outcome"), paid.body)
		all.WriteString(a.body + fmt.Sprint(a.header))
		require.NotContains(t, log()+all.String(), code)
		require.NotContains(t, log()+all.String(), w.sessionKey())
	}
	require.NotContains(t, strings.ReplaceAll(log(), `"msg":"order","appid":"`+appID+`","openid":"`+player, ""), player, "only orders name their player")
	require.NotContains(t, log(), "demo-app-secret")
	require.Contains(t, log(), `"msg":"login","appid":"`+appID+`","outcome":"applied","errcode":0,"attempts":1,"duration":`)
	require.Equal(t, http.MethodGet, func() string {
		w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "")
		return w.hits.last.Method
	}())
}

func TestWeChatsWordsAboutACodeArePassedOn(t *testing.T) {
	w, _, log := loggingIn(t, hasty, "")
	code := w.jsCode()
	require.Equal(t, "applied", w.do(http.MethodGet, loginPath+"?js_code="+code, "").header.Get("Midas-Outcome"))
	w.adds(map[string]float64{logins("rejected", 40163): 1, logins("rejected", 40029): 1}, func() {
		require.Equal(t, 40163, w.do(http.MethodGet, loginPath+"?js_code="+code, "").Errcode)
		require.Equal(t, 40029, w.do(http.MethodGet, loginPath+"?js_code=never", "").Errcode)
	})
	for _, kind := range simulator.LoginKinds() {
		if kind.Name == "none" || kind.Name == "drip_after" {
			continue
		}
		w.weChat.Forget()
		require.NoError(t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{{API: "jscode2session", Faults: []simulator.Fault{{Kind: kind.Name}}, Rate: 1}}}))
		before := w.hits.count(loginPath)
		code := w.jsCode()
		a := w.do(http.MethodGet, loginPath+"?js_code="+code, "")
		sent := w.hits.count(loginPath) - before
		require.LessOrEqual(t, sent, 1, "%s: a js_code is sent once", kind.Name)
		switch {
		case strings.HasPrefix(kind.Name, "gzip_"), strings.HasPrefix(kind.Name, "dead_"):
		case a.header.Get("Midas-Error") == "":
			require.Contains(t, []int{-1, 40125, 40029, 40163, 40226, 45011}, a.Errcode, kind.Name)
		default:
			require.Equal(t, "outcome_unknown", a.Error, kind.Name)
			require.Equal(t, http.StatusGatewayTimeout, a.status, kind.Name)
			require.Contains(t, a.Errmsg, "wx.login again")
		}
		require.NotContains(t, a.body, w.sessionKey(), kind.Name)
		require.NotContains(t, log(), code, kind.Name)
	}
	require.NotContains(t, log(), w.sessionKey())
	require.NotContains(t, log(), "demo-app-secret")
}

func TestIntoAFileNobodyLogsInAndTheCodeIsNotUsedUp(t *testing.T) {
	w := newWorld(t, "", "midas {\n login\n }")
	a := w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "")
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "secrets_unavailable", a.Error)
	require.Equal(t, "not_sent", a.Outcome)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Zero(t, w.hits.count(loginPath))
}

func TestAKeyThatVaultDoesNotTakeIsDropped(t *testing.T) {
	w, store, log := loggingIn(t, "", "")
	store.status = http.StatusForbidden
	a := w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "")
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "secrets_unavailable", a.Error)
	require.Equal(t, "rejected", a.Outcome)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.NotContains(t, a.body+log(), w.sessionKey())
	require.Contains(t, log(), `"cause":"writing midas/`+appID+`/sessions/{openid}: permission denied`)
	require.NotContains(t, log(), player)
	require.Equal(t, "session_missing", w.post(payPath, pay("b1", 1)).Error)
}

func TestAnAppSecretThatWasReplacedIsReadAgainForALogin(t *testing.T) {
	w, store, _ := loggingIn(t, "", "")
	require.Zero(t, w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "").Errcode)
	require.NoError(t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].Secret = "another-app-secret-of-the-simulator" }))
	store.mu.Lock()
	store.secrets["midas/"+appID] = map[string]string{"midas_key": demoKeys["midas/"+appID]["midas_key"], "app_secret": "another-app-secret-of-the-simulator"}
	store.mu.Unlock()
	a := w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "")
	require.Equal(t, "applied", a.header.Get("Midas-Outcome"), a.body)
	require.Equal(t, "2", a.header.Get("Midas-Attempts"))
}

func TestWithoutTheOptionALoginIsTheNextHandlers(t *testing.T) {
	w := newWorld(t, "", "midas\n respond 404")
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, loginPath+"?js_code=c", "").status)
	require.Zero(t, w.hits.count(loginPath))
}

func TestHostileLoginsAreRefusedAndNothingReachesWeChat(t *testing.T) {
	w, _, log := loggingIn(t, "app wx2 {\n offer_id 2\n }\n", "")
	get := func(query string) string { return "GET " + loginPath + query + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" }
	good := `{"appid":"` + appID + `","js_code":"canary"}`
	for _, c := range []struct {
		name, request string
		status        int
		errmsg        string // how it begins
	}{
		{"PUT", strings.Replace(posted(loginPath, "", good), "POST", "PUT", 1), 405, "method: must be GET or POST"},
		{"HEAD is no GET", "DELETE " + loginPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405, "method"},
		{"GET with a body", strings.Replace(posted(loginPath, "", good), "POST", "GET", 1), 400, "body: must not be sent with GET"},
		{"GET with chunks", "GET " + loginPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + chunked + "\r\n" + chunks(good), 400, "body: must not be sent with GET"},
		{"a form", strings.Replace(posted(loginPath, "", "js_code=canary"), "application/json", "application/x-www-form-urlencoded", 1), 415, "content-type"},
		{"gzip", posted(loginPath, "Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"), 415, "content-encoding"},
		{"too large", posted(loginPath, "", `{"js_code":"`+strings.Repeat("c", 17<<10)+`"}`), 413, "body: must not be larger"},
		{"nothing", get(""), 400, "js_code: is missing"},
		{"an empty query", get("?"), 400, "js_code: is missing"},
		{"no app among several", get("?js_code=canary"), 400, "appid: is missing: several apps"},
		{"another's app", get("?js_code=canary&appid=wx0"), 403, "appid: is not configured"},
		{"an app that climbs", get("?js_code=canary&appid=../" + appID), 400, "appid: must be"},
		{"a secret", get("?appid=" + appID + "&js_code=canary&secret=canary"), 400, "secret: must not be sent"},
		{"a secret in JSON", posted(loginPath, "", `{"js_code":"canary","secret":"canary"}`), 400, "secret: must not be sent"},
		{"a grant_type", get("?appid=" + appID + "&js_code=canary&grant_type=x"), 400, "grant_type: must not be sent"},
		{"a parameter smuggled into the code", get("?appid=" + appID + "&js_code=canary%26appid%3Dwx2"), 400, "js_code: must be"},
		{"a line end in the code", get("?appid=" + appID + "&js_code=canary%0d%0aX:1"), 400, "js_code: must be"},
		{"a semicolon", get("?appid=" + appID + ";js_code=canary"), 400, "query: cannot be read"},
		{"twice", get("?appid=" + appID + "&js_code=canary&js_code=canary"), 400, "js_code: appears twice"},
		{"twice in two places", posted(loginPath+"?js_code=canary", "", good), 400, "js_code: appears twice"},
		{"an openid of the caller's", posted(loginPath, "", `{"js_code":"canary","openid":"`+player+`"}`), 400, "openid: is not a field"},
		{"a code that is none", posted(loginPath, "", `{"js_code":{"canary":1}}`), 400, "js_code: must be a string"},
		{"bad UTF-8", posted(loginPath, "", "{\"js_code\":\"canary\xff\"}"), 400, "body: must be UTF-8"},
		{"two objects", posted(loginPath, "", good+good), 400, "body: must be one JSON object"},
		{"no JSON", posted(loginPath, "", "canary"), 400, "body: must be a JSON object"},
	} {
		a := w.raw(c.request)
		require.Equal(t, c.status, a.status, "%s: %s", c.name, a.body)
		require.True(t, strings.HasPrefix(a.Errmsg, c.errmsg), "%s: %s", c.name, a.Errmsg)
		require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"), c.name)
		require.NotContains(t, a.body, "canary", c.name)
		if c.status == http.StatusMethodNotAllowed {
			require.Equal(t, "GET, POST", a.header.Get("Allow"))
		}
	}
	require.Zero(t, w.hits.count(loginPath))
	require.NotContains(t, log(), "canary")

	for _, path := range []string{loginPath + "/", "/sns//jscode2session", "/sns/jscode2sessio%6e/x", "/SNS/jscode2session"} {
		a := w.do(http.MethodGet, path+"?"+url.Values{"js_code": {"c"}}.Encode(), "")
		require.NotEqual(t, http.StatusOK, a.status, path)
	}
	require.Zero(t, w.hits.count(loginPath))
}

func TestTheUnionidIsPassedOn(t *testing.T) {
	w, _, _ := loggingIn(t, "", "")
	require.NoError(t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].Players[player].UnionID = "u-1" }))
	a := w.do(http.MethodGet, loginPath+"?js_code="+w.jsCode(), "")
	require.JSONEq(t, `{"openid":"`+player+`","unionid":"u-1"}`, a.body)
}

// One login after the other may bring the same key, as a js_code of another environment
// or two logins that cross do. The next one that brings a good key heals it.
func TestALoginThatBringsTheRefusedKeyAgainIsSaidNotToHaveHelped(t *testing.T) {
	w, store, log := loggingIn(t, "", "")
	holds := func(key string) {
		require.NoError(t, w.weChat.Edit(func(s *simulator.State) { s.Apps[appID].Players[player].SessionKey = key }))
	}
	const refused, good = "V7Q38/i2KXaqrQyl2Yx9Hg==", "AAQ38/i2KXaqrQyl2Yx9Hg=="
	bringing := func(key string) {
		code := w.jsCode()
		holds(key)
		require.Equal(t, "applied", w.do(http.MethodGet, loginPath+"?js_code="+code, "").header.Get("Midas-Outcome"))
		require.Equal(t, key, store.session(player))
		holds(good)
	}
	const first = "openid: WeChat refuses the session_key, and the secret store has no other; have the client call wx.login and log the player in again"
	const helpless = "logging in again has not helped"
	n := 0
	paying := func() answer {
		n++
		return w.post(payPath, pay(fmt.Sprint("b", n), 1))
	}
	bringing(refused)
	for range 2 {
		a := paying()
		require.Equal(t, "session_missing", a.Error)
		require.Equal(t, first, a.Errmsg)
	}
	for range 2 {
		bringing(refused)
		a := paying()
		require.Equal(t, "session_missing", a.Error)
		require.Equal(t, "rejected", a.Outcome)
		require.Contains(t, a.Errmsg, helpless)
	}
	bringing(good)
	require.Equal(t, "applied", paying().header.Get("Midas-Outcome"))

	// A key that is refused anew is new trouble.
	holds(refused)
	require.Equal(t, first, paying().Errmsg)
	require.NotContains(t, log(), refused)
	require.NotContains(t, log(), good)
}
