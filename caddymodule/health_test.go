package caddymodule_test

import (
	"encoding/json"
	"io"
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
