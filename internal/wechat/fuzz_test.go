package wechat_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// plain reads a JSON object as another reader does. Numbers keep their letters.
func plain(t *testing.T, body []byte) (members map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	require.NoError(t, d.Decode(&members))
	require.False(t, d.More())
	return members
}

// textOf is a member as it is signed, "" where it says nothing.
func textOf(t *testing.T, value any) string {
	t.Helper()
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	require.Failf(t, "neither text nor number", "%v", value)
	return ""
}

// What was accepted says the same to any reader of JSON, before it is signed and
// after; and what is signed is what the caller and the sidecar said, no more.
func FuzzDecodeNeverAcceptsWhatItShouldNot(f *testing.F) {
	for i := range wechat.APIs {
		for _, body := range []string{
			`{"openid":"o1","amt":1,"bill_no":"b1"}`,
			`{"openid":"o1","present_counts":7,"bill_no":"b1"}`,
			`{"openid":"o1","amt":1,"bill_no":"b1","pay_item":"屠龙","ts":5,"user_ip":"::1","sig":"x"}`,
			`{"openid":"o1","appid":"wx1234567","offer_id":"12345678","zone_id":"2","pf":"ios","bill_no":"b1"}`,
			`{"openid":"o\u0031","amt":9007199254740991,"bill_no":"b-_1","app_remark":"\"\\\/ \u2028\ud83d\ude00","user_ip":null}`,
			`{"openid":"o1","amt":1e3,"bill_no":"b1"}`,
			`{"openid":"o1","openid":"o1"}`,
			"\t{ \"openid\" :\r\n\"o1\" } ",
			`{"openid":"o1","amount":100,"bill_no":"b1","env":1,"payitem":"屠龙","remark":"a&b"}`,
			`{"openid":"o1","amount":40,"bill_no":"r1","pay_bill_no":"b1","appid":"wx1234567","env":null}`,
			`{"openid":"o1","coin_type":1,"pay_sig":"x","ts":1e3}`,
			`{"openid":"o1","biz_id":2,"out_trade_no":"t|1","zone_id":""}`,
			`{"openid":"o1","amount":1,"bill_no":"_b1","env":2}`,
		} {
			f.Add(i, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		api := wechat.APIs[uint(which)%uint(len(wechat.APIs))]
		r, err := wechat.Decode(wechat.At(api, wechat.Official), body)
		if err != nil {
			var refusal *wechat.FieldError
			require.ErrorAs(t, err, &refusal)
			require.Less(t, len(err.Error()), 300)
			return
		}
		v1 := api.Family == wechat.V1
		want := map[string]string{"zone_id": "1", "pf": "android"}
		if !v1 {
			want = map[string]string{"zone_id": "1", "env": "0"}
		}
		for name, value := range plain(t, body) {
			if wechat.IsSignature(name) {
				require.NotEmpty(t, r.CallerSigned())
				continue
			}
			if text := textOf(t, value); text != "" {
				require.Equal(t, text, r.Get(name), name)
				want[name] = text
			}
		}
		if api.MovesCoins && api != wechat.CancelPay {
			require.Positive(t, r.Amount())
			require.LessOrEqual(t, r.Amount(), int64(1<<53-1))
		} else {
			require.Zero(t, r.Amount())
		}
		if api.MovesCoins {
			require.Regexp(t, `^[A-Za-z0-9_-]{1,63}$`, r.BillNo())
			require.False(t, !v1 && r.BillNo()[0] == '_')
		} else {
			require.Empty(t, r.BillNo())
		}
		if !v1 {
			where := map[string]wechat.Environment{"0": wechat.Official, "1": wechat.Sandbox}[want["env"]]
			require.Equal(t, where, r.Endpoint().Environment)
		}
		require.Regexp(t, `^[A-Za-z0-9_-]{1,128}$`, r.OpenID())

		if _, err := r.Complete("wx1234567", "12345678"); err != nil {
			return // another app's
		}
		out := sign(t, r)
		signed, inBody := out.Body(), ""
		want["appid"], want["offer_id"] = "wx1234567", "12345678"
		want["ts"] = strconv.FormatInt(testTime.Unix(), 10)
		got := map[string]string{}
		for name, value := range plain(t, signed) {
			got[name] = textOf(t, value)
		}
		if v1 {
			require.Len(t, got["sig"], 64)
			require.Len(t, got["mp_sig"], 64)
			delete(got, "sig")
			delete(got, "mp_sig")
			inBody = "sig"
		} else {
			delete(want, "appid") // it is ours
			require.Equal(t, "access_token=ACCESSTOKEN&signature="+naive(string(signed), "V7Q38/i2KXaqrQyl2Yx9Hg==")+
				"&sig_method=hmac_sha256&pay_sig="+naive(out.Path()+"&"+string(signed), "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u"), out.Query())
		}
		require.Equal(t, want, got)

		again, err := wechat.Decode(wechat.At(api, wechat.Official), signed)
		require.NoError(t, err)
		require.Equal(t, inBody, again.CallerSigned())
		require.Equal(t, r.Endpoint(), again.Endpoint())
		require.Equal(t, want["bill_no"], again.BillNo())
	})
}

// Two readers that were written independently agree on every errcode that can be read. Where
// only the product finds one, it is a refusal that cannot mean that coins moved.
func FuzzReadAnswerAgreesWithASecondReader(f *testing.F) {
	for _, body := range []string{
		`{"errcode":0,"errmsg":"ok"}`, `{"errcode":-1`, `{"errcode":-1,"errmsg":"1034-131-0 balance"}`,
		` {"balance":1e999,"nested":{"errcode":7},"errcode":90012,"errmsg":"sys\u0074em busy"} `,
		`{"errcode":0,"errcode":-1}`, `{"errcode":"0"}`, `{"errcode":-0}`, `{"errcode":0.0}`, `{"Errcode":0}`,
		`{"errcode":9223372036854775808}`, `{"errcode":0,"errmsg":["ok"]}`, `{"errcode":0}{}`, "\ufeff{\"errcode\":0}",
		"{\"errcode\":90013,\"errmsg\":\"\xe4\xbd\x99\xe8\xb6\"}", "{\"errcode\":0,\"balance\":1,\"note\":\"a\x07b\"}",
		`{"errcode":90011,"errmsg":"raw post_body: [{"openid":"o_P1","amount":1}], base64: e30= rid: a-b-c"}`,
		`{"errcode":0,"errmsg":"raw post_body: [{"openid":"o_P1"}]"}`, `{"errcode":90013,"errmsg":"{"errcode":0}"}`,
		`{"errmsg":"a","errmsg":"b","errcode":0}`, `{"errc\u006fde":0}`, "{\"errcode\x01\":0}", `{"errcode":0,"a":"\ud800"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, failure := readSecond(string(body))
		for _, api := range wechat.APIs {
			a, err := wechat.ReadAnswer(body, api)
			switch {
			case failure == nil && err == nil:
				require.Equal(t, want, a.Errcode)
			case failure == nil:
				require.Greater(t, bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}), 1000, "deeper than the library goes")
			case err != nil:
				require.Zero(t, a)
			default:
				require.Contains(t, []wechat.Action{wechat.Refused, wechat.TokenRefused, wechat.SessionRefused, wechat.KeyRefused}, a.Action(api))
				require.NotContains(t, api.Explain(a.Errcode).Meaning, "not documented")
				require.True(t, bytes.HasPrefix(bytes.TrimSpace(body), []byte{'{'}) && bytes.HasSuffix(bytes.TrimSpace(body), []byte{'}'}))
				require.Equal(t, 1, bytes.Count(body, []byte("errcode")))
			}
			require.Regexp(t, `^[0-9A-Za-z_-]{0,64}$`, a.Trace.ID)
		}
	})
}

// A token is only taken from an answer that gives one, and an error quotes nothing.
func FuzzReadTokenTakesWhatIsGiven(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"canary","expires_in":7200}`, `{"access_token":"canary","expires_in":7200,"errcode":0}`,
		`{"errcode":40125,"errmsg":"invalid appsecret canary"}`, `{"access_token":"canary","expires_in":7200,"errcode":40001}`,
		`{"access_token":"canary","expires_in":-1}`, `{"access_token":"canary","expires_in":7200.0}`, `{"access_token":"canary","expires_in":99999999999}`,
		`{"access_token":"canary\u0000","expires_in":0}`, `{"access_token":{"canary":1},"expires_in":1}`, `canary`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, life, err := wechat.ReadToken(body)
		if err != nil {
			require.True(t, token.IsZero())
			require.Zero(t, life)
			require.NotContains(t, err.Error(), "canary")
			return
		}
		members := plain(t, body)
		require.Equal(t, members["access_token"], token.Reveal())
		require.NotEmpty(t, token.Reveal())
		seconds, err := members["expires_in"].(json.Number).Int64()
		require.NoError(t, err)
		require.EqualValues(t, seconds, life.Seconds())
		require.GreaterOrEqual(t, life.Seconds(), 0.0)
		if code, ok := members["errcode"].(json.Number); ok {
			n, err := code.Int64()
			require.True(t, err != nil || n == 0, code)
		}
	})
}
