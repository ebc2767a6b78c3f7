package simulator

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheBooksTellTheStateWithoutItsSecrets(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.pay("b1", 30).Errcode)
	r := httptest.NewRecorder()
	w.sim.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/simulator/books", nil))
	order, _ := w.sim.Order(official("b1"))
	at, err := json.Marshal(order.Time)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"apps": {"wx1234567": {"offer_id": "12345678", "players": {"odkx20ENSNa2w5y3g_qOkOvBNM1g": {
			"logged_in": true,
			"official": {"balance": 9970, "cost_sum": 30},
			"sandbox": {"balance": 10000}
		}}}},
		"orders": {"wx1234567/official/b1": {"api": "pay", "openid": "odkx20ENSNa2w5y3g_qOkOvBNM1g", "amount": 30, "time": `+string(at)+`, "applied": 1}},
		"attempts": {"wx1234567/official/b1": {"pay": 1}}
	}`, r.Body.String())
	require.Equal(t, 405, w.do("POST", "/simulator/books", "", "").status)

	require.Zero(t, w.payV2("b1", 30).Errcode)
	require.Zero(t, w.refund("r1", "b1", 10).Errcode)
	books := w.do(http.MethodGet, "/simulator/books", "", "").text
	for _, part := range []string{
		`"wx1234567/official/` + openID + `/1/b1":{"api":"pay","openid":"` + openID + `","amount":30,`,
		`"applied":1,"refunded":10}`,
		`"wx1234567/official/` + openID + `/1/r1":{"api":"cancelpay",`,
		`"applied":1,"of":"b1"}`,
		`"wx1234567/official/` + openID + `/1/r1":{"cancelpay":1}`,
	} {
		require.Contains(t, books, part)
	}
}

// Canaries in every secret, every refusal provoked: they are in no log line, in
// no errmsg and not in the books.
func TestNoSecretIsShown(t *testing.T) {
	const canary = "CANARY"
	state := State{
		Apps: map[string]*App{appID: {
			OfferID: offerID, Secret: canary + "1", MidasKey: canary + "2", MidasKeySandbox: canary + "3",
			Players: map[string]*Player{openID: {SessionKey: canary + "4", OldSessionKey: canary + "5", Official: Purse{Balance: 100}}},
		}},
		Tokens: map[string]*Tokens{appID: {Issued: []*Token{{AccessToken: canary + "6", Expires: time.Now().Add(time.Hour)}}}},
	}
	var shown bytes.Buffer
	log := slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sim, err := New(state, Options{Log: log})
	require.NoError(t, err)
	w := &world{t: t, sim: sim, options: Options{}.withDefaults(), log: &lockedBuffer{}}

	bends := []func(*draft){
		func(*draft) {}, without("sig"), with("sig", "0"), with("mp_sig", "0"), without("amt"), with("amt", int64(1000)),
		with("ts", int64(1)), with(canary, "x"), with("pay_item", canary), with("access_token", canary+"6"), with("openid", canary+"/"),
		func(d *draft) { d.midasKey = canary + "3"; d.sign() },
		func(d *draft) { d.sessionKey = canary + "5"; d.sign() },
		func(d *draft) { d.token = canary + "7" },
		func(d *draft) { d.query = "access_token=" + canary + "6&sig=" + canary },
		func(d *draft) { d.method = http.MethodGet },
	}
	for _, bend := range bends {
		d := w.draft(payPath, map[string]any{"bill_no": "b1", "amt": int64(5)})
		d.token, d.midasKey, d.sessionKey = canary+"6", canary+"2", canary+"4"
		d.sign()
		signatures := []string{d.fields["sig"].(string), d.fields["mp_sig"].(string)}
		bend(d)
		answer := w.send(d)
		shown.WriteString(answer.text)
		for _, signature := range signatures {
			require.NotContains(t, shown.String(), signature)
		}
	}
	for _, bend := range []func(*draft){
		func(*draft) {}, func(d *draft) { d.signature = "0" }, func(d *draft) { d.paySig = "0" }, with("amount", int64(1000)), with(canary, "x"),
		func(d *draft) { d.raw = d.body() + " " },
		func(d *draft) { d.midasKey = canary + "3"; d.sign() },
		func(d *draft) { d.sessionKey = canary + "5"; d.sign() },
		func(d *draft) { d.query = d.sentQuery() + "&" + canary + "=1" },
		func(d *draft) { d.query = strings.Replace(d.sentQuery(), "hmac_sha256", canary, 1) },
	} {
		d := w.draft(payPathV2, map[string]any{"bill_no": "b1", "amount": int64(5)})
		d.token, d.midasKey, d.sessionKey = canary+"6", canary+"2", canary+"4"
		bend(d.sign())
		shown.WriteString(w.send(d).text)
	}
	for _, query := range []string{"?secret=CANARY1", "?appid=wx1234567&secret=CANARY1&grant_type=authorization_code&js_code=CANARY"} {
		shown.WriteString(w.do(http.MethodGet, code2SessionPath+query, "", "").text)
	}
	shown.WriteString(w.do("POST", stableTokenPath, "", `{"secret":"CANARY1","grant_type":"CANARY"}`).text)
	shown.WriteString(w.do("POST", stableTokenPath, "", `CANARY`).text)
	w.do("POST", stableTokenPath, "", `{"grant_type":"client_credential","appid":"wx1234567","secret":"CANARY1"}`)
	w.do(http.MethodGet, "/cgi-bin/token?secret=CANARY1", "", "")
	shown.WriteString(w.do(http.MethodGet, "/simulator/books", "", "").text)

	// The one thing that a caller may bring in is a short name of a field.
	text := strings.ReplaceAll(shown.String(), "parameter error: CANARY: is not a field", "")
	require.NotContains(t, text, canary)
	require.NotRegexp(t, `[0-9a-f]{64}`, text)
	require.Contains(t, text, "errcode=90011")
	require.Contains(t, text, "errcode=90009")
}
