package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
)

// logged starts a world whose log has the format, lets it act, and returns the lines of
// the log whose message begins with msg.
func logged(t *testing.T, format, options, msg string, act func(*world)) (lines []map[string]any) {
	t.Helper()
	w := newWorld(t, options, "")
	log := filepath.Join(t.TempDir(), "log")
	w.reload(strings.Replace(w.config, "output discard", fmt.Sprintf("output file %q\n %s", log, format), 1))
	act(w)
	require.NoError(t, caddy.Stop())
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if text, _ := fields["msg"].(string); strings.HasPrefix(text, msg) {
			lines = append(lines, fields)
		}
	}
	return lines
}

func TestAnOrdersLineNamesPlayerZoneAndAmount(t *testing.T) {
	lines := logged(t, "format json", "", "order", func(w *world) {
		w.post("/cgi-bin/midas/pay", pay("b1", 7))
		w.post("/cgi-bin/midas/cancelpay", `{"openid":"`+player+`","bill_no":"b1"}`)
		w.post("/wxa/game/pay", `{"openid":"`+player+`","zone_id":"2","amount":3,"bill_no":"b2","user_ip":"203.0.113.9","ts":1}`)
		w.post("/cgi-bin/midas/pay", `{`)
	})
	require.Len(t, lines, 4)
	for i, want := range []map[string]any{
		{"openid": player, "zone_id": "1", "amount": 7.0},
		{"openid": player, "zone_id": "1", "amount": nil},
		{"openid": player, "zone_id": "2", "amount": 3.0},
		{"openid": nil, "zone_id": nil, "amount": nil},
	} {
		for field, value := range want {
			require.Equal(t, value, lines[i][field], "%s of %v", field, lines[i])
		}
	}
}

func TestTheLogsFilterHashesOrDropsAPlayer(t *testing.T) {
	lines := logged(t, "format filter {\n openid hash\n amount delete\n wrap json\n }", "", "order", func(w *world) {
		w.post("/cgi-bin/midas/pay", pay("b1", 7))
	})
	require.Len(t, lines, 1)
	require.Regexp(t, `^[0-9a-f]{8}$`, lines[0]["openid"])
	require.NotContains(t, lines[0], "amount")
	require.Equal(t, "b1", lines[0]["bill_no"])
}

func TestEachConfigBeginsWithALineThatSaysWhatIsServed(t *testing.T) {
	lines := logged(t, "format json", "app "+appID+" {\n offer_id 1\n }\n app wx2 {\n offer_id 2\n }", "serving", func(w *world) {
		w.reload(strings.Replace(w.config, "midas\n", "midas {\n environment sandbox\n }\n", 1))
	})
	require.Len(t, lines, 2)
	first := lines[0]
	require.Equal(t, "midas", first["logger"])
	require.Equal(t, "info", first["level"])
	require.Equal(t, []any{appID, "wx2"}, first["apps"])
	require.Equal(t, []any{"127.0.0.1:0"}, first["sites"])
	require.Equal(t, []any{"official", "sandbox"}, first["environments"])
	require.Regexp(t, `^file /.*keys\.json$`, first["secrets"])
	require.Len(t, first["upstreams"], 1)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, first["upstreams"].([]any)[0])
	require.Equal(t, "midas", first["transport"])
	require.NotEmpty(t, first["version"])
}

// With one version of the key, as in a secrets file, nothing but WeChat can tell that it is wrong.
func TestAWrongMidasKeyIsToldEverywhere(t *testing.T) {
	lines := logged(t, "format json", "", "WeChat ", func(w *world) {
		w.do(http.MethodGet, readyPath, "")
		wrong := keys{}
		maps.Copy(wrong, demoKeys)
		wrong["midas/"+appID] = maps.Clone(demoKeys["midas/"+appID])
		wrong["midas/"+appID]["midas_key"] = "wrong"
		w.store(wrong)
		w.reload(strings.Replace(w.config, "127.0.0.1\n\t\tmidas", "127.0.0.1\n\t\tmidas_health\n metrics /metrics\n midas", 1))
		require.Equal(t, http.StatusOK, w.do(http.MethodGet, readyPath, "").status)
		for i := range 3 {
			a := w.post("/cgi-bin/midas/pay", pay(fmt.Sprint("b", i), 1))
			require.Equal(t, "rejected", a.header.Get("Midas-Outcome"))
			require.Equal(t, 90011, a.Errcode)
		}
		a := w.do(http.MethodGet, readyPath, "")
		require.Equal(t, http.StatusServiceUnavailable, a.status)
		require.JSONEq(t, `{"status":"unready","missing":{"`+appID+`":"midas_key"}}`, a.body)
		refused := func(is int) string {
			return fmt.Sprintf(`midas_key_refused{appid=%q,secret="midas_key"} %d`, appID, is)
		}
		require.Contains(t, w.do(http.MethodGet, "/metrics", "").body, refused(1))
		require.Contains(t, adminAsked(t, "/midas/status"), "90011")

		w.store(demoKeys)
		require.Eventually(t, func() bool {
			return w.do(http.MethodGet, readyPath, "").status == http.StatusOK
		}, 10*time.Second, 100*time.Millisecond)
		require.Equal(t, "applied", w.post("/cgi-bin/midas/pay", pay("b9", 1)).header.Get("Midas-Outcome"))
		require.Contains(t, w.do(http.MethodGet, "/metrics", "").body, refused(0))
	})
	require.Len(t, lines, 2)
	require.Equal(t, "error", lines[0]["level"])
	require.Equal(t, "midas_key", lines[0]["secret"])
	require.Equal(t, "WeChat refuses the Midas key, and there is no other: it is wrong, or not that of this environment", lines[0]["msg"])
	require.Equal(t, "WeChat takes the Midas key", lines[1]["msg"])
}

func TestASecretThatWasNeverHadIsStale(t *testing.T) {
	w := newWorld(t, "", "midas_health\n metrics /metrics\n midas")
	require.NoError(t, os.Remove(w.keys))
	require.Equal(t, "secrets_unavailable", w.post("/cgi-bin/midas/pay", pay("b1", 1)).Error)
	require.Contains(t, w.do(http.MethodGet, "/metrics", "").body, fmt.Sprintf(`midas_secret_stale{appid=%q,secret="midas_key"} 1`, appID))
}

const readyPath = "/midas/health/ready"

// adminAsked is what the admin API answers to GET.
func adminAsked(t *testing.T, path string) string {
	t.Helper()
	for _, m := range caddy.GetModules("admin.api") {
		if router, ok := m.New().(caddy.AdminRouter); ok && m.ID.Name() == "midas" {
			for _, route := range router.Routes() {
				if route.Pattern == path {
					recorder := httptest.NewRecorder()
					require.NoError(t, route.Handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil)))
					return recorder.Body.String()
				}
			}
		}
	}
	require.Fail(t, "no such route", path)
	return ""
}
