package caddymodule_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What WeChat's answers say beside their errcode, through the whole sidecar. This WeChat
// verifies nothing: the others do.

// newWorldWhere is a world whose WeChat answers payments with that body, and that logs to
// the file that is returned.
func newWorldWhere(t *testing.T, says string) (w *world, log string) {
	t.Helper()
	weChat := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "stable_token") {
			says := `{"access_token":"a-token","expires_in":7200}`
			fmt.Fprint(rw, says)
			return
		}
		fmt.Fprint(rw, says)
	}))
	t.Cleanup(weChat.Close)
	w = newWorld(t, "", "")
	log = filepath.Join(t.TempDir(), "log")
	w.config = regexp.MustCompile(`upstream \S+`).ReplaceAllString(w.config, "upstream "+weChat.URL+"\n deadline 1s\n attempt_timeout 1s")
	w.reload(strings.Replace(w.config, "output discard", "output file "+log, 1))
	return w, log
}

func logOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

const onePay = `{"openid":"` + player + `","amt":1,"bill_no":"b1"}`

func TestWeChatsTraceIsInTheLineOfTheOrder(t *testing.T) {
	for name, c := range map[string]struct{ says, outcome, field string }{
		"rid":                         {`{"errcode":90017,"errmsg":"no privilege rid: 5f9a-3c1d-canary"}`, "rejected", `"rid":"5f9a-3c1d-canary"`},
		"traceid":                     {`{"errcode":90018,"errmsg":"bad","traceid":"0a1b2c"}`, "rejected", `"traceid":"0a1b2c"`},
		"where the answer is our own": {`{"errcode":-1,"errmsg":"system busy rid: 5f9a-3c1d"}`, "unknown", `"rid":"5f9a-3c1d"`},
	} {
		t.Run(name, func(t *testing.T) {
			w, log := newWorldWhere(t, c.says)
			heard := w.listen("midas.order_unknown")
			answer := w.post(payPath, onePay)
			require.Equal(t, c.outcome, answer.header.Get("Midas-Outcome"))
			require.Contains(t, logOf(t, log), c.field)
			if c.outcome == "unknown" {
				require.Equal(t, "5f9a-3c1d", next(t, heard, "midas.order_unknown")["rid"])
			}
		})
	}
}

func TestAnEchoOfTheRequestIsInNoLog(t *testing.T) {
	w, log := newWorldWhere(t, `{"errcode":90018,"errmsg":"raw post_body: [{"remark":"canary-of-a-remark"}], base64: Y2FuYXJ5"}`)
	answer := w.post("/wxa/game/pay", `{"openid":"`+player+`","amount":1,"bill_no":"b1"}`)
	require.Equal(t, "rejected", answer.header.Get("Midas-Outcome"))
	require.Contains(t, answer.body, "canary-of-a-remark", "the caller gets WeChat's bytes")
	require.NotContains(t, logOf(t, log), "canary")
	require.NotContains(t, logOf(t, log), "Y2FuYXJ5")
}

func TestTooManyCallsAreToldToComeBackInAMinute(t *testing.T) {
	w, _ := newWorldWhere(t, `{"errcode":45011,"errmsg":"freq limit"}`)
	answer := w.post(payPath, onePay)
	require.Equal(t, "rejected", answer.header.Get("Midas-Outcome"))
	require.Equal(t, "1", answer.header.Get("Midas-Attempts"))
	require.Equal(t, "60", answer.header.Get("Retry-After"))
	require.JSONEq(t, `{"errcode":45011,"errmsg":"freq limit"}`, answer.body)
}

func TestAZoneThatGetsNothingButBusyIsToldOnce(t *testing.T) {
	w, log := newWorldWhere(t, `{"errcode":-1,"errmsg":"system busy"}`)
	for n := range 10 {
		w.post(payPath, fmt.Sprintf(`{"openid":%q,"amt":1,"bill_no":"b%d","zone_id":"9_9"}`, player, n))
	}
	require.Equal(t, 1, strings.Count(logOf(t, log), "WeChat answers -1 to everything"))
	require.Contains(t, logOf(t, log), `"zone_id":"9_9"`)
}
