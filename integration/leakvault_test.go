package integration

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
)

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
