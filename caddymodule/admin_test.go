package caddymodule_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// askAdmin asks the admin API as Caddy does.
func askAdmin(t *testing.T, method, path, body string) (status int, text string) {
	t.Helper()
	for _, info := range caddy.GetModules("admin.api") {
		router, ok := info.New().(caddy.AdminRouter)
		if !ok || info.ID.Name() != "midas" {
			continue
		}
		for _, route := range router.Routes() {
			if route.Pattern != path {
				continue
			}
			recorder := httptest.NewRecorder()
			err := route.Handler.ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
			if refused, ok := errors.AsType[caddy.APIError](err); ok {
				return refused.HTTPStatus, refused.Err.Error()
			}
			require.NoError(t, err)
			return recorder.Code, recorder.Body.String()
		}
	}
	require.Fail(t, "no such route", path)
	return 0, ""
}

// state is what the status shows.
type state struct {
	InFlight int      `json:"in_flight"`
	Sessions int      `json:"sessions"`
	Trouble  *trouble `json:"trouble"`
	Apps     map[string]map[string]struct {
		Age     *float64   `json:"age_seconds"`
		Expires *time.Time `json:"expires_at"`
		Trouble *trouble   `json:"trouble"`
	} `json:"apps"`
}

type trouble struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

func status(t *testing.T) (s state, text string) {
	t.Helper()
	code, text := askAdmin(t, http.MethodGet, "/midas/status", "")
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, json.Unmarshal([]byte(text), &s))
	return s, text
}

func TestTheStatusOfASidecarThatHasDoneNothing(t *testing.T) {
	newWorld(t, "", "")
	_, text := status(t)
	text = regexp.MustCompile(`"clock_offset_seconds":[^,]*,`).ReplaceAllString(text, "") // which is no secret
	require.JSONEq(t, `{"in_flight":0,"sessions":0,"apps":{"`+appID+`":{}}}`, text)
}

func TestTheStatusShowsTheAgesOfWhatIsUsed(t *testing.T) {
	w := newWorld(t, "", "")
	w.post("/cgi-bin/midas/pay", pay("b1", 1))
	s, _ := status(t)
	require.Equal(t, 1, s.Sessions)
	require.Nil(t, s.Trouble)
	require.Len(t, s.Apps[appID], 3, "a player's key is none of them, nor one that was not needed")
	for _, field := range []string{"midas_key", "app_secret"} {
		require.NotNil(t, s.Apps[appID][field].Age, field)
		require.Less(t, *s.Apps[appID][field].Age, 60.0, field)
		require.Nil(t, s.Apps[appID][field].Trouble)
	}
	require.WithinDuration(t, time.Now().Add(2*time.Hour), *s.Apps[appID]["access_token"].Expires, time.Minute)
}

func TestTheStatusCountsCallsInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, "", "")
	w.moveTo(faulty(t, func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = rw.Write([]byte(`{"errcode":0}`))
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.post("/cgi-bin/midas/pay", pay("b1", 1))
	}()
	<-arrived
	s, _ := status(t)
	require.Equal(t, 1, s.InFlight)
	close(release)
	<-done
}

func TestTheStatusTellsSinceWhenAndWhySecretsCannotBeRead(t *testing.T) {
	began := time.Now()
	w, fails := vaulted(t, "", "")
	w.paysAnew()
	fails(http.StatusServiceUnavailable)
	var s state
	require.Eventually(t, func() bool {
		w.paysAnew()
		s, _ = status(t)
		return s.Trouble != nil && s.Apps[appID]["midas_key"].Trouble != nil
	}, 10*time.Second, 20*time.Millisecond)
	for _, seen := range []*trouble{s.Trouble, s.Apps[appID]["midas_key"].Trouble} {
		require.NotEmpty(t, seen.Error)
		require.WithinRange(t, seen.Since, began, time.Now())
	}
	require.NotNil(t, s.Apps[appID]["midas_key"].Age, "it is still used")

	fails(0)
	require.Eventually(t, func() bool {
		w.paysAnew()
		s, _ = status(t)
		return s.Trouble == nil && s.Apps[appID]["midas_key"].Trouble == nil
	}, 10*time.Second, 20*time.Millisecond)
}

func TestTheStatusShowsNoSecretAndNoPlayer(t *testing.T) {
	w, fails := vaulted(t, "", "")
	look := func() {
		_, text := status(t)
		for _, fields := range demoKeys {
			for _, secret := range fields {
				require.NotContains(t, text, secret)
			}
		}
		for _, token := range w.weChat.State().Tokens[appID].Issued {
			require.NotContains(t, text, token.AccessToken)
		}
		require.NotContains(t, text, player)
	}
	w.paysAnew()
	require.NotEmpty(t, w.weChat.State().Tokens[appID].Issued)
	look()
	fails(http.StatusForbidden)
	require.Eventually(t, func() bool {
		w.paysAnew()
		s, _ := status(t)
		return s.Apps[appID]["session_key"].Trouble != nil
	}, 10*time.Second, 20*time.Millisecond)
	look()
}

func TestAForgottenSessionIsReadAgainAndNothingElse(t *testing.T) {
	w := measured(t, "")
	w.paysAnew()
	code, text := askAdmin(t, http.MethodPost, "/midas/forget", `{"appid":"`+appID+`","openid":"`+player+`"}`)
	require.Equal(t, http.StatusNoContent, code)
	require.Empty(t, text)
	s, _ := status(t)
	require.Zero(t, s.Sessions)
	w.adds(map[string]float64{
		`midas_secret_reads_total{result="found",secret="session_key"}`: 1,
		`midas_secret_reads_total{result="found",secret="midas_key"}`:   0,
	}, w.paysAnew)
}

func TestAnotherPlayersSessionIsNotForgotten(t *testing.T) {
	w := measured(t, "")
	w.paysAnew()
	code, _ := askAdmin(t, http.MethodPost, "/midas/forget", `{"appid":"`+appID+`","openid":"another"}`)
	require.Equal(t, http.StatusNoContent, code)
	w.adds(map[string]float64{`midas_secret_reads_total{result="found",secret="session_key"}`: 0}, w.paysAnew)
}

func TestWhenAllIsForgottenAllIsReadAgain(t *testing.T) {
	w := measured(t, "")
	w.paysAnew()
	tokens := w.hits.count(wechat.StableTokenPath)
	code, _ := askAdmin(t, http.MethodPost, "/midas/forget", `{}`)
	require.Equal(t, http.StatusNoContent, code)
	_, text := status(t)
	text = regexp.MustCompile(`"clock_offset_seconds":[^,]*,`).ReplaceAllString(text, "") // which is no secret
	require.JSONEq(t, `{"in_flight":0,"sessions":0,"apps":{"`+appID+`":{}}}`, text)
	w.adds(map[string]float64{
		`midas_secret_reads_total{result="found",secret="session_key"}`: 1,
		`midas_secret_reads_total{result="found",secret="midas_key"}`:   1,
		`midas_secret_reads_total{result="found",secret="app_secret"}`:  1,
	}, w.paysAnew)
	require.Equal(t, tokens+1, w.hits.count(wechat.StableTokenPath))
}

func TestAWrongRequestToForgetIsRefusedAndForgetsNothing(t *testing.T) {
	w := newWorld(t, "", "")
	w.paysAnew()
	for _, c := range []struct {
		name, method, body string
		code               int
		want               string
	}{
		{"GET", "GET", "{}", 405, "method not allowed: must be POST"},
		{"DELETE", "DELETE", "{}", 405, "method not allowed: must be POST"},
		{"no body", "POST", "", 400, `must be {} or {"appid":"…","openid":"…"}`},
		{"no JSON", "POST", "all", 400, "must be {} or"},
		{"null and more", "POST", "null {}", 400, "must be {} or"},
		{"an array", "POST", "[]", 400, "must be {} or"},
		{"two objects", "POST", "{}{}", 400, "must be {} or"},
		{"another member", "POST", `{"app":"x"}`, 400, "must be {} or"},
		{"a member twice", "POST", `{"appid":"x","appid":"y","openid":"o"}`, 400, "must be {} or"},
		{"another case", "POST", `{"AppID":"` + appID + `","OpenID":"` + player + `"}`, 400, "must be {} or"},
		{"a number", "POST", `{"appid":1,"openid":"o"}`, 400, "must be {} or"},
		{"too large", "POST", "{" + strings.Repeat(" ", 4<<10) + "}", 400, "must be {} or"},
		{"an openid alone", "POST", `{"openid":"` + player + `"}`, 400, "must both be given, or neither"},
		{"an appid alone", "POST", `{"appid":"` + appID + `"}`, 400, "must both be given, or neither"},
		{"an unknown appid", "POST", `{"appid":"wx9","openid":"` + player + `"}`, 404, "appid: is not configured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, text := askAdmin(t, c.method, "/midas/forget", c.body)
			require.Equal(t, c.code, code)
			require.Contains(t, text, c.want)
			s, _ := status(t)
			require.Equal(t, 1, s.Sessions)
			require.Contains(t, s.Apps[appID], "midas_key")
		})
	}
}

func TestTheStatusIsOnlyRead(t *testing.T) {
	newWorld(t, "", "")
	code, text := askAdmin(t, http.MethodPost, "/midas/status", "{}")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	require.Equal(t, "method not allowed: must be GET", text)
}

func TestWithoutAnAppThereIsNothingToAdminister(t *testing.T) {
	for path, method := range map[string]string{"/midas/status": http.MethodGet, "/midas/forget": http.MethodPost} {
		code, text := askAdmin(t, method, path, "{}")
		require.Equal(t, http.StatusNotFound, code)
		require.Equal(t, "the midas app is not configured", text)
	}
}
