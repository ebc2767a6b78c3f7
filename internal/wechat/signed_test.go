package wechat_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestDecodeSigned(t *testing.T) {
	for name, c := range map[string]struct {
		api     *wechat.API
		body    string
		changed []string
	}{
		"numbers as text":              {wechat.Pay, `{"openid":"o1","amt":"5","bill_no":"b1","ts":"1700000000"}`, []string{"amt converted", "ts converted"}},
		"texts as numbers":             {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","zone_id":1,"offer_id":12345678}`, []string{"offer_id converted", "zone_id converted"}},
		"fields of its own":            {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","org_loc":"/cgi-bin/midas/pay","method":"POST"}`, []string{"method dropped", "org_loc dropped"}},
		"a nested field":               {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","extra":{"a":[1]}}`, []string{"extra dropped"}},
		"token and signatures":         {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","access_token":"canary","sig":"canary","mp_sig":"canary"}`, []string{"access_token dropped", "mp_sig dropped", "sig dropped"}},
		"empty optionals":              {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","pay_item":"","app_remark":null}`, nil},
		"names that are nearly others": {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","appid":"wx1234567","appId":"wx1234567","billNo":"b1","env":"0"}`, []string{"appId dropped", "billNo dropped", "env dropped"}},
		"empty numbers":                {wechat.PayV2, `{"openid":"o1","amount":5,"bill_no":"b1","env":"","ts":""}`, []string{"env converted", "ts converted"}},
		"a byte order mark":            {wechat.Pay, "\xef\xbb\xbf" + `{"openid":"o1","amt":5,"bill_no":"b1"}`, nil},
		"v2":                           {wechat.PayV2, `{"openid":"o1","amount":"5","bill_no":"b1","env":"0","pay_sig":"canary","signature":"canary"}`, []string{"amount converted", "env converted", "pay_sig dropped", "signature dropped"}},
		"a name that may be a key":     {wechat.Pay, `{"openid":"o1","amt":5,"bill_no":"b1","zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u":1,"a b":2}`, []string{"another field dropped"}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := make(map[string]bool)
			r, err := wechat.DecodeSigned(wechat.At(c.api, wechat.Official), []byte(c.body), func(field, change string) { changed[field+" "+change] = true })
			require.NoError(t, err)
			require.EqualValues(t, 5, r.Amount())
			require.Equal(t, "b1", r.BillNo())
			require.Equal(t, c.changed, slices.Sorted(maps.Keys(changed)))
		})
	}
}

// What would be misread is refused as ever, and no text of the caller's is quoted.
func TestDecodeSigned_refuses(t *testing.T) {
	for body, want := range map[string]string{
		`{"openid":"o1","amt":"5.0","bill_no":"b1"}`:                      "amt: must be a number, got a string",
		`{"openid":"o1","amt":"0","bill_no":"b1"}`:                        "amt: must be a positive integer, got 0",
		`{"openid":"o1","amt":"-5","bill_no":"b1"}`:                       "amt: must be a number, got a string",
		`{"openid":"o1","amt":" 5","bill_no":"b1"}`:                       "amt: must be a number, got a string",
		`{"openid":"o1","amt":"","bill_no":"b1"}`:                         "amt: is missing",
		`{"openid":"o1","amt":5.0,"bill_no":"b1"}`:                        "amt: must be a positive integer, got 5.0",
		`{"openid":"o1","amt":[5],"bill_no":"b1"}`:                        "amt: must not be nested",
		`{"openid":"o1","amt":5,"bill_no":1.5}`:                           "bill_no: must be a string, got a number",
		`{"openid":"o1","amt":5,"bill_no":true}`:                          "bill_no: must be a string, got a boolean",
		`{"openid":"o1","amt":5,"bill_no":"b1","ts":"canary"}`:            "ts: must be a number, got a string",
		`{"openid":"o1","amt":5,"amt":5,"bill_no":"b1"}`:                  "amt: appears twice",
		`{"openid":"o1","amt":5,"bill_no":"b1","x":1,"x":2}`:              "x: appears twice",
		`{"openid":"o1","amt":5,"bill_no":"b1"}{}`:                        "body: must be one JSON object, with nothing after it",
		"{\"openid\":\"o1\",\"amt\":5,\"bill_no\":\"b1\",\"x\":\"\xff\"}": "body: must be UTF-8",
		`openid=o1&amt=5&bill_no=b1`:                                      "body: must be a JSON object, got a form",
		`{"openid":"o1","amount":5,"bill_no":"b1"}`:                       "amt: is missing",
		`{"openid":"o1","Amt":5,"bill_no":"b1"}`:                          "Amt: is not a field of pay, which has amt",
		`{"openid":"o1","amt":5,"bill_no":"b1","zoneId":"7"}`:             "zoneId: is not a field of pay, which has zone_id",
		`{"openid":"o1","amt":5,"bill_no":"b1","env":1}`:                  "env: is not a field here: the path names the environment",
	} {
		_, err := wechat.DecodeSigned(wechat.At(wechat.Pay, wechat.Official), []byte(body), func(string, string) {})
		require.EqualError(t, err, want, body)
	}
}

func TestDecodeNamesTheSameSignatureWhateverTheOrder(t *testing.T) {
	names := []string{"access_token", "signature", "pay_sig", "mp_sig", "sig"}
	for i := range names {
		body := `{"openid":"o1"`
		for j := range names {
			body += fmt.Sprintf(`,%q:"x"`, names[(i+j)%len(names)])
		}
		r, _ := wechat.Decode(wechat.At(wechat.GetBalanceV2, wechat.Official), []byte(body+"}"))
		require.Equal(t, "sig", r.CallerSigned())
	}
}

func TestDecodeSignedLogin(t *testing.T) {
	var changed []string
	note := func(field, change string) { changed = append(changed, field+" "+change) }
	for _, c := range []struct{ query, body string }{
		{"appid=wx1&secret=canary&js_code=code&grant_type=authorization_code", ""},
		{"", `{"appid":"wx1","secret":"canary","js_code":"code","grant_type":"authorization_code"}`},
	} {
		changed = nil
		login, err := wechat.DecodeSignedLogin(c.query, []byte(c.body), note)
		require.NoError(t, err)
		require.Equal(t, "wx1", login.AppID)
		require.Equal(t, "code", login.JSCode.Reveal())
		require.ElementsMatch(t, []string{"grant_type dropped", "secret dropped"}, changed)
		_, err = wechat.DecodeLogin(c.query, []byte(c.body))
		require.Error(t, err)
	}
	changed = nil
	_, err := wechat.DecodeSignedLogin("js_code=code&zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u=1&a%20b=2", nil, note)
	require.NoError(t, err)
	require.Equal(t, []string{"another field dropped", "another field dropped"}, changed, "a name may be a secret")
}

func TestCleanPath(t *testing.T) {
	for _, api := range wechat.APIs {
		for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
			require.Equal(t, wechat.At(api, env).Path, wechat.CleanPath(wechat.At(api, env).Path), "WeChat's own are clean")
		}
	}
	for path, want := range map[string]string{
		"//cgi-bin/midas/pay": "/cgi-bin/midas/pay", "/cgi-bin/midas/pay/": "/cgi-bin/midas/pay", "/CGI-bin/midas/cancelPay": "/cgi-bin/midas/cancelpay",
		"/cgi-bin/midas/sandbox//pay;a=1": "/cgi-bin/midas/sandbox/pay", "/../a/./b/..": "/a", "": "/", "/": "/", ";": "/",
		"/cgi-bin/midas/pay.json": "/cgi-bin/midas/pay.json",
	} {
		require.Equal(t, want, wechat.CleanPath(path), path)
		require.Equal(t, want, wechat.CleanPath(want), "clean once is clean")
	}
}

// A second reader finds the same order, and what a caller may say unsigned is taken alike.
func FuzzDecodeSigned(f *testing.F) {
	for _, body := range []string{
		`{"openid":"o1","amt":"5","bill_no":"b1","ts":"1700000000","sig":"S"}`, `{"openid":"o1","amt":5,"bill_no":"b1","zoneId":"7","x":{"a":[1]}}`,
		`{"openid":"o1","amount":5,"bill_no":"b1","env":"1","zone_id":1}`, "\xef\xbb\xbf{}", `a=b`, `{"openid":"o1","amt":5,"bill_no":"b1","env":1}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range []*wechat.API{wechat.Pay, wechat.PayV2} {
			e := wechat.At(api, wechat.Official)
			told := 0
			signed, err := wechat.DecodeSigned(e, body, func(string, string) { told++ })
			strict, refusal := wechat.Decode(e, body)
			if refusal == nil {
				require.NoError(t, err)
				if strict.CallerSigned() == "" {
					require.Equal(t, strict, signed)
					require.Zero(t, told)
				}
			}
			if err != nil {
				continue
			}
			members := plain(t, bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
			require.Equal(t, members["openid"], signed.OpenID())
			require.Equal(t, textOf(t, members[signed.AmountField()]), fmt.Sprint(signed.Amount()))
		}
	})
}
