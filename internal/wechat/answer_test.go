package wechat_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

func TestAnswersThatSayNothingAboutTheOrder(t *testing.T) {
	for _, body := range []string{
		``, ` `, `null`, `[]`, `"ok"`, `0`, `{}`, `{"errmsg":"ok"}`, `<html>busy</html>`,
		`{"errcode":0`, `{"errcode":0}x`, `{"errcode":0}{}`, `{"errcode":"0"}`, `{"errcode":0.0}`, `{"errcode":null}`,
		`{"errcode":1e1}`, `{"errcode":[0]}`, `{"errcode":0,"errcode":-1}`, "{\"errcode\":0,\"errmsg\":\"\xff\"}",
		`{"errcode":99999999999999999999}`,
	} {
		_, err := wechat.ReadAnswer([]byte(body))
		require.Error(t, err, body)
	}
}

func TestAnswersAreReadWhateverElseTheyHold(t *testing.T) {
	a, err := wechat.ReadAnswer([]byte(` {"balance":1e999,"nested":{"errcode":7},"errcode":-1,"errmsg":"sys\u0074em busy"} `))
	require.NoError(t, err)
	require.Equal(t, wechat.Answer{Errcode: -1, Errmsg: "system busy"}, a)
}

func TestTheSameCodeMeansWhatItMeansForTheAPI(t *testing.T) {
	for _, c := range []struct {
		api  *wechat.API
		a    wechat.Answer
		want wechat.Action
	}{
		{wechat.Pay, wechat.Answer{Errcode: 0}, wechat.Applied},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "system busy"}, wechat.Unsure},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "1034-131-0 balance not enough"}, wechat.Refused},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "1034-131-0"}, wechat.Refused},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "1034-131-07"}, wechat.Unsure},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "no 1034-131-0"}, wechat.Unsure},
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "1021-1021-0: currency"}, wechat.Refused},
		{wechat.Pay, wechat.Answer{Errcode: 90013, Errmsg: "1034-131-0"}, wechat.Refused},
		{wechat.Pay, wechat.Answer{Errcode: 90012}, wechat.Done},
		{wechat.Present, wechat.Answer{Errcode: 90012}, wechat.Done},
		{wechat.CancelPay, wechat.Answer{Errcode: 90012}, wechat.Refused},
		{wechat.CancelPay, wechat.Answer{Errcode: 90015}, wechat.Done},
		{wechat.Pay, wechat.Answer{Errcode: 90015}, wechat.Refused},
		{wechat.CancelPay, wechat.Answer{Errcode: 90016}, wechat.Unsure},
		{wechat.Pay, wechat.Answer{Errcode: 90016}, wechat.Refused},
		{wechat.Pay, wechat.Answer{Errcode: 42001}, wechat.TokenRefused},
		{wechat.Pay, wechat.Answer{Errcode: 90009}, wechat.SessionRefused},
		{wechat.Pay, wechat.Answer{Errcode: 90010}, wechat.SessionRefused},
		{wechat.Pay, wechat.Answer{Errcode: 90011}, wechat.KeyRefused},
		{wechat.Pay, wechat.Answer{Errcode: 123456}, wechat.Refused},

		{wechat.PayV2, wechat.Answer{Errcode: 0}, wechat.Applied},
		{wechat.PayV2, wechat.Answer{Errcode: -1, Errmsg: "system busy"}, wechat.Unsure},
		{wechat.PayV2, wechat.Answer{Errcode: 90012}, wechat.Done},
		{wechat.PresentV2, wechat.Answer{Errcode: 90012}, wechat.Done},
		{wechat.CancelPayV2, wechat.Answer{Errcode: 90012}, wechat.Done},
		{wechat.GetBalanceV2, wechat.Answer{Errcode: 90012}, wechat.Refused},
		{wechat.CancelPayV2, wechat.Answer{Errcode: 90000}, wechat.Refused},
		{wechat.CancelPayV2, wechat.Answer{Errcode: 90015}, wechat.Refused},
		{wechat.PayV2, wechat.Answer{Errcode: 90009}, wechat.Refused},
		{wechat.PayV2, wechat.Answer{Errcode: 90010}, wechat.SessionRefused},
		{wechat.PayV2, wechat.Answer{Errcode: 90011}, wechat.KeyRefused},
		{wechat.PayV2, wechat.Answer{Errcode: 90016}, wechat.SessionRefused},
		{wechat.CancelPayV2, wechat.Answer{Errcode: 90016}, wechat.SessionRefused},
		{wechat.QueryOrderInfo, wechat.Answer{Errcode: 90016}, wechat.SessionRefused},
		{wechat.QueryOrderInfo, wechat.Answer{Errcode: 90019}, wechat.Refused},
	} {
		require.Equal(t, c.want, c.a.Action(c.api), "%s %s %d %q", c.api.Family.Name, c.api, c.a.Errcode, c.a.Errmsg)
	}
}

func TestEveryErrcodeHasOneMeaningPerAPI(t *testing.T) {
	for _, api := range wechat.APIs {
		seen := map[int]string{}
		for _, row := range wechat.Errcodes {
			require.NotEmpty(t, row.Meaning)
			if row.APIs == nil || slices.Contains(row.APIs, api) {
				require.Empty(t, seen[row.Code], "%s %s %d", api.Family.Name, api, row.Code)
				seen[row.Code] = row.Meaning
			}
		}
	}
}

func TestStableTokenIsAskedForInNormalMode(t *testing.T) {
	out := wechat.StableToken("wx1", secrets.NewValue(`s"1`))
	require.Equal(t, "/cgi-bin/stable_token", out.Path())
	require.Empty(t, out.Query())
	require.JSONEq(t, `{"grant_type":"client_credential","appid":"wx1","secret":"s\"1"}`, string(out.Body()))
	require.NotContains(t, fmt.Sprintf("%+v", out), `s"1`)
}

func TestATokenAndItsLifeAreRead(t *testing.T) {
	token, life, err := wechat.ReadToken([]byte(`{"access_token":"T","expires_in":7200}`))
	require.NoError(t, err)
	require.Equal(t, "T", token.Reveal())
	require.Equal(t, 2*time.Hour, life)
}

func TestATokenThatIsRefusedNamesTheErrcodeAndQuotesNothing(t *testing.T) {
	_, _, err := wechat.ReadToken([]byte(`{"errcode":40125,"errmsg":"invalid appsecret canary"}`))
	require.Equal(t, wechat.TokenError{Errcode: 40125}, err)
	require.EqualError(t, err, "WeChat refuses an access_token: errcode 40125 (the app secret is wrong)")
}

func TestATokenAnswerThatMakesNoSenseIsAnError(t *testing.T) {
	for _, body := range []string{
		``, `{}`, `{"access_token":"T"}`, `{"access_token":"","expires_in":7200}`,
		`{"access_token":7,"expires_in":7200}`, `{"access_token":"T","expires_in":-1}`, `{"access_token":"T","expires_in":"7200"}`, `<html>`,
	} {
		_, _, err := wechat.ReadToken([]byte(body))
		require.Error(t, err, body)
	}
}

func TestOnlyFewRefusalsOfACancelProveThatNothingWasDone(t *testing.T) {
	for _, api := range wechat.APIs {
		for _, row := range wechat.Errcodes {
			want := api == wechat.CancelPay && (row.Code == 90000 || row.Code == 90014) || api == wechat.CancelPayV2 && row.Code == 90000
			require.Equal(t, want, api.Explain(row.Code).Proves(), "%s %s %d", api.Family.Name, api, row.Code)
		}
		require.False(t, api.Explain(123456).Proves())
	}
}
