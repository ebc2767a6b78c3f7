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
		`{"errcode":1e1}`, `{"errcode":[0]}`, `{"errcode":0,"errcode":-1}`, `{"errcode":0,"errcode":0}`,
		`{"errcode":99999999999999999999}`, "{\"errcode\xff\":0}", "{\"errcode\x07\":0}",

		// An errmsg with quotes in it, after a code that might mean that coins moved.
		`{"errcode":0,"errmsg":"raw post_body: [{"amount":1}]"}`,
		`{"errcode":90012,"errmsg":"raw post_body: [{"amount":1}]"}`,
		`{"errcode":-1,"errmsg":"raw post_body: [{"amount":1}]"}`,
		// Or after one that the table does not have, at the wrong place, or without an end.
		`{"errcode":91234,"errmsg":"raw post_body: [{"amount":1}]"}`,
		`{"errmsg":"raw post_body: [{"amount":1}]","errcode":90011}`,
		`{"errcode":90011,"errmsg":"raw post_body: [{"amount":1}]`,
		`{"errcode":90011,"errmsg":"raw post_body: [{"errcode":0}]"}`,
		`{"errcode":90011}garbage}`,
	} {
		_, err := wechat.ReadAnswer([]byte(body), wechat.PayV2)
		require.Error(t, err, body)
	}
}

func TestReadAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want wechat.Answer
	}{
		"other members": {
			` {"balance":1e999,"nested":{"errcode":7},"errcode":-1,"errmsg":"sys\u0074em busy"} `,
			wechat.Answer{Errcode: -1, Errmsg: "system busy"},
		},
		"a text that was cut within a character": {
			"{\"errcode\":90013,\"errmsg\":\"余额不\xe8\xb6\"}",
			wechat.Answer{Errcode: 90013, Errmsg: "余额不\uFFFD\uFFFD"},
		},
		"a raw control character": {"{\"errcode\":0,\"balance\":1,\"note\":\"a\x07b\"}", wechat.Answer{}},
		"a raw line break":        {"{\"note\":\"a\nb\",\"errcode\":90018}", wechat.Answer{Errcode: 90018}},
		"another member twice":    {`{"errmsg":"a","errcode":90018,"errmsg":"b"}`, wechat.Answer{Errcode: 90018, Errmsg: "b"}},
		"an unpaired surrogate":   {`{"errcode":90018,"note":"\ud800"}`, wechat.Answer{Errcode: 90018}},
		"a rid":                   {`{"errcode":90017,"errmsg":"no privilege rid: 5f9a8b7c-3c1d2e3f-1a2b3c4d"}`, wechat.Answer{Errcode: 90017, Errmsg: "no privilege rid: 5f9a8b7c-3c1d2e3f-1a2b3c4d", Trace: wechat.Trace{Name: "rid", ID: "5f9a8b7c-3c1d2e3f-1a2b3c4d"}}},
		"a traceid":               {`{"errcode":90018,"traceid":"0a1b_2-C"}`, wechat.Answer{Errcode: 90018, Trace: wechat.Trace{Name: "traceid", ID: "0a1b_2-C"}}},
		"a traceid that is none":  {`{"errcode":90018,"traceid":"a b"}`, wechat.Answer{Errcode: 90018}},
		"an echo of the request": {
			`{"errcode":90011,"errmsg":"[pay_sig] pay_sig is invalid, raw post_body: [{"openid":"o_P1","amount":1}], base64: e30= rid: a-b-c"}`,
			wechat.Answer{Errcode: 90011, Trace: wechat.Trace{Name: "rid", ID: "a-b-c"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := wechat.ReadAnswer([]byte(c.body), wechat.PayV2)
			require.NoError(t, err)
			require.Equal(t, c.want, a)
		})
	}
}

func TestAnswer_BusinessCode(t *testing.T) {
	for errmsg, want := range map[string]string{
		"1001-0-0 bad parameter(zoneid/pf)": "", "1034-131-0": "", "1021-1021-0: currency": "",
		"1034-131-07": "1034-131-07", "2001-7-0 something": "2001-7-0", "1034-131-0-1": "1034-131-0-1",
		"system busy": "", "no 2001-7-0": "", "2001-7": "", "": "",
	} {
		require.Equal(t, want, wechat.Answer{Errcode: -1, Errmsg: errmsg}.UnknownBusinessCode(), errmsg)
		require.Empty(t, wechat.Answer{Errcode: 90018, Errmsg: errmsg}.UnknownBusinessCode(), errmsg)
	}
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
		{wechat.Pay, wechat.Answer{Errcode: -1, Errmsg: "1001-0-0 bad parameter(zoneid/pf)"}, wechat.Refused},
		{wechat.PayV2, wechat.Answer{Errcode: -1, Errmsg: "2001-7-0 something new"}, wechat.Unsure},
		{wechat.Pay, wechat.Answer{Errcode: 90007, Errmsg: "invalid openid hint"}, wechat.Refused},
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
			require.Equal(t, want, api.Explain(row.Code).RulesOutApplied(), "%s %s %d", api.Family.Name, api, row.Code)
		}
		require.False(t, api.Explain(123456).RulesOutApplied())
	}
}
