package caddymodule_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

func TestASidecarIsReadyOnceEveryAppsKeyAndTokenCouldBeHad(t *testing.T) {
	w := newWorld(t, "", "midas_health\n midas")
	a := w.do(http.MethodGet, "/midas/health/ready", "")
	require.Equal(t, http.StatusOK, a.status)
	require.JSONEq(t, `{"status":"ready"}`, a.body)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Zero(t, w.hits.payments())
}

func TestASidecarIsNotReadyWithout(t *testing.T) {
	for missing, spoil := range map[string]func(*world){
		"midas_key": func(w *world) {
			w.store(keys{"midas/" + appID: {"app_secret": demoKeys["midas/"+appID]["app_secret"]}})
		},
		"access_token": func(w *world) { w.store(keys{"midas/" + appID: {"midas_key_sandbox": "only one is needed"}}) },
	} {
		t.Run(missing, func(t *testing.T) {
			w := newWorld(t, "", "midas_health\n midas")
			spoil(w)
			a := w.do(http.MethodGet, "/midas/health/ready", "")
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.JSONEq(t, `{"status":"unready","missing":{"`+appID+`":"`+missing+`"}}`, a.body)
			require.Equal(t, http.StatusOK, w.do(http.MethodGet, "/midas/health/live", "").status)
		})
	}
}

func TestASidecarBecomesReadyWhenItsKeysAppear(t *testing.T) {
	w := newWorld(t, "", "midas_health\n midas")
	w.store(keys{})
	require.Equal(t, http.StatusServiceUnavailable, w.do(http.MethodGet, "/midas/health/ready", "").status)
	w.store(demoKeys)
	require.Eventually(t, func() bool {
		return w.do(http.MethodGet, "/midas/health/ready", "").status == http.StatusOK
	}, 10*time.Second, 100*time.Millisecond)
}

func TestOnlyTheTwoHealthPathsAreAnsweredAndOnlyToReaders(t *testing.T) {
	w := newWorld(t, "", "midas_health\n midas\n respond 404")
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, "/midas/health", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, "/midas/health/ready/", "").status)
	require.Equal(t, http.StatusOK, w.do(http.MethodHead, "/midas/health/live", "").status)
	a := w.do(http.MethodPost, "/midas/health/live", "")
	require.Equal(t, http.StatusMethodNotAllowed, a.status)
	require.Equal(t, "GET, HEAD", a.header.Get("Allow"))
}

// The admin API's routes are made before there is an app, and outlive it.
func TestTheAdminAPIAnswersHealthChecks(t *testing.T) {
	routes := map[string]caddy.AdminHandler{}
	for _, m := range caddy.GetModules("admin.api") {
		if router, ok := m.New().(caddy.AdminRouter); ok && m.ID.Name() == "midas" {
			for _, route := range router.Routes() {
				routes[route.Pattern] = route.Handler
			}
		}
	}
	ask := func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		err := routes[path].ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil {
			var refused caddy.APIError
			require.ErrorAs(t, err, &refused)
			return refused.HTTPStatus, ""
		}
		return recorder.Code, recorder.Body.String()
	}
	status, _ := ask("/midas/health/ready")
	require.Equal(t, http.StatusNotFound, status, "no app")

	newWorld(t, "", "")
	for _, path := range []string{"/midas/health/live", "/midas/health/ready"} {
		status, body := ask(path)
		require.Equal(t, http.StatusOK, status)
		require.True(t, json.Valid([]byte(body)))
	}
}

func TestAReloadForgetsNoSecretAndNoToken(t *testing.T) {
	w := newWorld(t, "", "")
	require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b1", 1)).header.Get("Midas-Outcome"))
	token := w.hits.count("/cgi-bin/stable_token")
	require.Equal(t, 1, token)
	for _, change := range []string{"deadline 9s", "deadline 8s", "on_unknown cancel"} {
		w.reload(strings.Replace(w.config, "secrets file", change+"\n secrets file", 1))
		require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b"+strings.ReplaceAll(change, " ", ""), 1)).header.Get("Midas-Outcome"))
		w.config = strings.Replace(w.config, change+"\n secrets file", "secrets file", 1)
	}
	require.Equal(t, token, w.hits.count("/cgi-bin/stable_token"))
}

func TestAnotherWeChatIsNotSentTheTokenOfTheFirst(t *testing.T) {
	w := newWorld(t, "", "")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	asked := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		_, _ = io.WriteString(rw, `{"errcode":40013,"errmsg":"invalid appid"}`)
	}))
	defer other.Close()
	before, _, _ := strings.Cut(w.config, "upstream")
	_, after, _ := strings.Cut(w.config, "upstream")
	_, after, _ = strings.Cut(after, "\n")
	w.reload(before + "upstream " + other.URL + "\n" + after)
	require.Equal(t, "token_unavailable", w.post("/cgi-bin/midas/pay", pay("b2", 1)).Error)
	require.Equal(t, "/cgi-bin/stable_token", <-asked)
}

func TestReadinessNamesAMalformedFieldAndNothingIsSignedWithIt(t *testing.T) {
	const canary = "canary-5ecret"
	app, session := "midas/"+appID, "midas/"+appID+"/sessions/"+player
	const base64Rule = "must be standard base64 text, neither URL-encoded nor changed by a form"
	for _, c := range []struct {
		field, value, rule string
		path               string
		problem            string
		status             int // of the readiness check
	}{
		{"midas_key", canary + "\u200b", "must be printable ASCII, has U+200B", app, "secrets_unavailable", 503},
		{"midas_key", "\ufeff" + canary, "must be printable ASCII, has U+FEFF", app, "secrets_unavailable", 503},
		{"app_secret", canary + "\u200b", "must be printable ASCII, has U+200B", app, "token_unavailable", 503},
		{"session_key", canary + "%2F", base64Rule, session, "secrets_unavailable", 200},
		{"session_key", "V7Q38/i2KXaq rQyl2Yx9Hg==", base64Rule, session, "secrets_unavailable", 200},
	} {
		t.Run(c.field+" "+c.rule, func(t *testing.T) {
			w := newWorld(t, "", "midas_health\n midas")
			spoilt := keys{}
			for path, fields := range demoKeys {
				spoilt[path] = maps.Clone(fields)
			}
			spoilt[c.path][c.field] = c.value
			w.store(spoilt)
			a := w.post("/cgi-bin/midas/pay", `{"openid":"`+player+`","amt":1,"bill_no":"b1"}`)
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.Equal(t, c.problem, a.header.Get("Midas-Error"))
			require.Equal(t, "not_sent", a.header.Get("Midas-Outcome"))
			require.Contains(t, a.body, c.field+": is malformed in the secret store: "+c.rule)
			require.Zero(t, w.hits.payments())
			ready := w.do(http.MethodGet, "/midas/health/ready", "")
			require.Equal(t, c.status, ready.status)
			require.Contains(t, ready.body, `"malformed":{"`+appID+`":{"`+c.field+`":"`+c.rule+`"}}`)
			for _, shown := range []string{a.body, ready.body} {
				require.NotContains(t, shown, canary)
				require.NotContains(t, shown, "V7Q38")
			}
		})
	}
}
