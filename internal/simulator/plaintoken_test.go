package simulator

import (
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func (w *world) plainToken() answer {
	w.t.Helper()
	return w.do("GET", plainTokenPath+"?"+url.Values{"grant_type": {"client_credential"}, "appid": {appID}, "secret": {secret}}.Encode(), "", "")
}

// paysWith pays a coin with a token.
func (w *world) paysWith(token, billNo string) int {
	w.t.Helper()
	d := w.draft(payPath, map[string]any{"bill_no": billNo, "amt": int64(1)})
	d.token = token
	return w.send(d.sign()).Errcode
}

func TestEachCallForATokenEndsTheOneBeforeInFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stable := w.stableToken(false).AccessToken
		first := w.plainToken()
		require.Equal(t, 7200, first.ExpiresIn)
		require.NotEmpty(t, first.AccessToken)
		time.Sleep(time.Hour)
		second := w.plainToken()
		require.NotEqual(t, first.AccessToken, second.AccessToken)
		require.Zero(t, w.paysWith(first.AccessToken, "b1"), "both are good for five minutes")
		require.Zero(t, w.paysWith(second.AccessToken, "b2"))
		time.Sleep(5 * time.Minute)
		require.Equal(t, 42001, w.paysWith(first.AccessToken, "b3"))
		require.Zero(t, w.paysWith(second.AccessToken, "b4"))

		require.Equal(t, stable, w.stableToken(false).AccessToken, "the two endpoints have nothing to do with each other")
		require.Zero(t, w.paysWith(stable, "b5"))
		w.stableToken(true)
		require.Equal(t, 40001, w.paysWith(stable, "b6"))
		require.Zero(t, w.paysWith(second.AccessToken, "b7"))

		_, err := w.sim.State().clone()
		require.NoError(t, err)
	})
}

func TestATokenIsForTheApp(t *testing.T) {
	w := newWorld(t)
	for query, code := range map[string]int{
		"grant_type=client_credential&secret=x":                  41002,
		"grant_type=client_credential&appid=wx1234567":           41004,
		"grant_type=client_credential&appid=wx1234567&secret=x":  40125,
		"grant_type=client_credential&appid=wx9&secret=x":        40013,
		"grant_type=authorization_code&appid=wx1234567&secret=x": 40002,
	} {
		require.Equal(t, code, w.do("GET", plainTokenPath+"?"+query, "", "").Errcode, query)
	}
	require.Equal(t, 43001, w.do("POST", plainTokenPath, "application/json", "{}").Errcode)

	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{{API: plainToken, Faults: []Fault{{Kind: "ip_40164"}}}}}))
	require.Equal(t, 40164, w.plainToken().Errcode)
	require.Zero(t, w.plainToken().Errcode)
}
