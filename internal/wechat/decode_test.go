package wechat_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func endpoint(t testing.TB, path string) wechat.Endpoint {
	t.Helper()
	e, ok := wechat.EndpointOf(path)
	require.True(t, ok, path)
	return e
}

func TestEveryRefusalNamesTheFieldAndTheRule(t *testing.T) {
	const words = "must be 1 to 63 characters of A-Z a-z 0-9 _ -"
	const id = "must be 1 to 128 characters of A-Z a-z 0-9 _ -"
	with := func(member string) string { return `{"openid":"o1","amt":1,"bill_no":"b1",` + member + `}` }

	for _, c := range []struct{ name, api, body, field, rule string }{
		{"empty", "pay", ``, "body", "must be a JSON object, got nothing"},
		{"blank", "pay", " \n", "body", "must be a JSON object, got nothing"},
		{"array", "pay", `[]`, "body", "must be a JSON object"},
		{"string", "pay", `"pay"`, "body", "must be a JSON object"},
		{"null", "pay", `null`, "body", "must be a JSON object"},
		{"form", "pay", `openid=o1&amt=1`, "body", "must be a JSON object"},
		{"byte order mark", "pay", "\ufeff" + `{"openid":"o1"}`, "body", "must not begin with a byte order mark (EF BB BF)"},
		{"cut off", "pay", `{"openid":"o1"`, "body", "is not JSON: it ends too early"},
		{"cut off in a name", "pay", `{"open`, "body", "is not JSON: it ends too early"},
		{"no comma", "pay", `{"openid":"o1" "amt":1}`, "body", "is not JSON"},
		{"comment", "pay", with(`/* x */"pf":"android"`), "body", "is not JSON"},
		{"leading zero", "pay", `{"openid":"o1","amt":01,"bill_no":"b1"}`, "body", "is not JSON"},
		{"trailing data", "pay", `{"openid":"o1","amt":1,"bill_no":"b1"}x`, "body", "must be one JSON object, with nothing after it"},
		{"two objects", "pay", `{"openid":"o1","amt":1,"bill_no":"b1"} {}`, "body", "must be one JSON object, with nothing after it"},
		{"duplicate", "pay", with(`"amt":2`), "amt", "appears twice"},
		{"duplicate by escape", "pay", with(`"\u0061mt":2`), "amt", "appears twice"},
		{"duplicate after a broken rule", "pay", `{"amt":0,"openid":"o1","openid":"o2"}`, "openid", "appears twice"},
		{"bad UTF-8", "pay", with("\"pay_item\":\"\xff\""), "body", "must be UTF-8"},
		{"lone surrogate", "pay", with(`"pay_item":"\ud800"`), "body", "must be UTF-8"},
		{"nested object", "pay", with(`"pay_item":{"a":1}`), "pay_item", "must not be nested"},
		{"nested array", "pay", with(`"pay_item":["a"]`), "pay_item", "must not be nested"},
		{"unknown field", "pay", with(`"amount":1`), "amount", "is not a field of pay, which has amt, app_remark, appid, bill_no, offer_id, openid, pay_item, pf, ts, user_ip, zone_id"},
		{"unknown nested field", "pay", with(`"extra":{"a":[1]}`), "extra", "is not a field of pay, which has amt, app_remark, appid, bill_no, offer_id, openid, pay_item, pf, ts, user_ip, zone_id"},
		{"unknown field, unfit to be quoted", "getbalance", `{"openid":"o1","a b":1}`, "body", "has a field that getbalance does not have; it has appid, offer_id, openid, pf, ts, user_ip, zone_id"},
		{"another API's field", "cancelpay", `{"openid":"o1","bill_no":"b1","amt":1}`, "amt", "is not a field of cancelpay, which has appid, bill_no, offer_id, openid, pay_item, pf, ts, user_ip, zone_id"},
		{"names are case-sensitive", "pay", with(`"Amt":1`), "Amt", "is not a field of pay, which has amt, app_remark, appid, bill_no, offer_id, openid, pay_item, pf, ts, user_ip, zone_id"},

		{"amt zero", "pay", `{"openid":"o1","amt":0,"bill_no":"b1"}`, "amt", "must be a positive integer, got 0"},
		{"amt negative", "pay", `{"openid":"o1","amt":-1,"bill_no":"b1"}`, "amt", "must be a positive integer, got -1"},
		{"amt with a fraction", "pay", `{"openid":"o1","amt":1.0,"bill_no":"b1"}`, "amt", "must be a positive integer, got 1.0"},
		{"amt with an exponent", "pay", `{"openid":"o1","amt":1e2,"bill_no":"b1"}`, "amt", "must be a positive integer, got 1e2"},
		{"amt as text", "pay", `{"openid":"o1","amt":"1","bill_no":"b1"}`, "amt", "must be a number, got a string"},
		{"amt as a boolean", "pay", `{"openid":"o1","amt":true,"bill_no":"b1"}`, "amt", "must be a number, got a boolean"},
		{"amt that readers round", "pay", `{"openid":"o1","amt":9007199254740992,"bill_no":"b1"}`, "amt", "must be at most 9007199254740991"},
		{"amt of a thousand digits", "pay", `{"openid":"o1","amt":` + strings.Repeat("9", 1000) + `,"bill_no":"b1"}`, "amt", "must be at most 9007199254740991"},
		{"a long literal is quoted in part", "pay", `{"openid":"o1","amt":0.` + strings.Repeat("9", 1000) + `,"bill_no":"b1"}`, "amt", "must be a positive integer, got 0." + strings.Repeat("9", 30)},
		{"present_counts zero", "present", `{"openid":"o1","present_counts":0,"bill_no":"b1"}`, "present_counts", "must be a positive integer, got 0"},
		{"bill_no too long", "pay", `{"openid":"o1","amt":1,"bill_no":"` + strings.Repeat("b", 64) + `"}`, "bill_no", words},
		{"bill_no with a star", "pay", `{"openid":"o1","amt":1,"bill_no":"b*1"}`, "bill_no", words},
		{"bill_no with a blank", "pay", `{"openid":"o1","amt":1,"bill_no":"b1 "}`, "bill_no", words},
		{"bill_no with a look-alike", "pay", `{"openid":"o1","amt":1,"bill_no":"bі1"}`, "bill_no", words},
		{"bill_no with NUL", "pay", `{"openid":"o1","amt":1,"bill_no":"b\u0000"}`, "bill_no", words},
		{"bill_no as a number", "pay", `{"openid":"o1","amt":1,"bill_no":1}`, "bill_no", "must be a string, got a number"},
		{"user_ip", "pay", with(`"user_ip":"localhost"`), "user_ip", "must be an IP address"},
		{"user_ip with a port", "pay", with(`"user_ip":"203.0.113.7:80"`), "user_ip", "must be an IP address"},
		{"user_ip with a zone", "pay", with(`"user_ip":"fe80::1%eth0"`), "user_ip", "must be an IP address"},
		{"control character", "pay", with(`"app_remark":"a\nb"`), "app_remark", "must not contain control characters"},
		{"C1 control character", "pay", with(`"pay_item":"a\u0085b"`), "pay_item", "must not contain control characters"},
		{"DEL", "pay", with(`"zone_id":"1\u007f"`), "zone_id", "must not contain control characters"},
		{"openid that climbs", "pay", `{"openid":"../o1","amt":1,"bill_no":"b1"}`, "openid", id},
		{"openid with a blank", "pay", `{"openid":"o1 ","amt":1,"bill_no":"b1"}`, "openid", id},
		{"appid with a slash", "pay", with(`"appid":"a/b"`), "appid", id},
		{"ts as text", "pay", with(`"ts":"1507530737"`), "ts", "must be a number, got a string"},
		{"ts with a fraction", "pay", with(`"ts":1.5`), "ts", "must be UNIX seconds, got 1.5"},
		{"zone_id as a number", "pay", with(`"zone_id":1`), "zone_id", "must be a string, got a number"},

		{"no openid", "pay", `{"amt":1,"bill_no":"b1"}`, "openid", "is missing"},
		{"empty openid", "pay", `{"openid":"","amt":1,"bill_no":"b1"}`, "openid", "is missing"},
		{"null openid", "pay", `{"openid":null,"amt":1,"bill_no":"b1"}`, "openid", "is missing"},
		{"no amt", "pay", `{"openid":"o1","bill_no":"b1"}`, "amt", "is missing"},
		{"null amt", "pay", `{"openid":"o1","amt":null,"bill_no":"b1"}`, "amt", "is missing"},
		{"no bill_no", "cancelpay", `{"openid":"o1"}`, "bill_no", "is missing"},
		{"no present_counts", "present", `{"openid":"o1","bill_no":"b1"}`, "present_counts", "is missing"},
		{"nothing at all", "getbalance", `{}`, "openid", "is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/"+c.api), []byte(c.body))
			var refusal *wechat.FieldError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, wechat.FieldError{Field: c.field, Rule: c.rule}, *refusal)
		})
	}
}

func TestEveryRefusalInV2NamesTheFieldAndTheRule(t *testing.T) {
	const words = "must be 1 to 63 characters of A-Z a-z 0-9 _ -"
	const ofPay = "which has amount, appid, bill_no, env, offer_id, openid, payitem, remark, ts, user_ip, zone_id"
	with := func(member string) string { return `{"openid":"o1","amount":1,"bill_no":"b1",` + member + `}` }

	for _, c := range []struct{ name, api, body, field, rule string }{
		{"amount zero", "pay", `{"openid":"o1","amount":0,"bill_no":"b1"}`, "amount", "must be a positive integer, got 0"},
		{"amount with an exponent", "pay", `{"openid":"o1","amount":1e2,"bill_no":"b1"}`, "amount", "must be a positive integer, got 1e2"},
		{"amount as text", "present", `{"openid":"o1","amount":"1","bill_no":"b1"}`, "amount", "must be a number, got a string"},
		{"no amount", "pay", `{"openid":"o1","bill_no":"b1"}`, "amount", "is missing"},
		{"a refund of no amount", "cancelpay", `{"openid":"o1","bill_no":"r1","pay_bill_no":"b1"}`, "amount", "is missing"},
		{"a refund of nothing", "cancelpay", `{"openid":"o1","amount":1,"bill_no":"r1"}`, "pay_bill_no", "is missing"},
		{"a refund without a number", "cancelpay", `{"openid":"o1","amount":1,"pay_bill_no":"b1"}`, "bill_no", "is missing"},
		{"bill_no of WeChat's own", "pay", `{"openid":"o1","amount":1,"bill_no":"_b1"}`, "bill_no", "must not begin with _"},
		{"bill_no of our own", "pay", `{"openid":"o1","amount":1,"bill_no":"midas-sidecar-1"}`, "bill_no", "must not begin with midas-sidecar-"},
		{"bill_no of our own, of a refund", "cancelpay", `{"openid":"o1","amount":1,"bill_no":"midas-sidecar-1","pay_bill_no":"b1"}`, "bill_no", "must not begin with midas-sidecar-"},
		{"bill_no of WeChat's own, of a refund", "cancelpay", `{"openid":"o1","amount":1,"bill_no":"_r1","pay_bill_no":"b1"}`, "bill_no", "must not begin with _"},
		{"pay_bill_no of WeChat's own", "cancelpay", `{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"_b1"}`, "pay_bill_no", "must not begin with _"},
		{"pay_bill_no with a blank", "cancelpay", `{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b 1"}`, "pay_bill_no", words},
		{"bill_no too long", "pay", `{"openid":"o1","amount":1,"bill_no":"` + strings.Repeat("b", 64) + `"}`, "bill_no", words},
		{"env of neither", "pay", with(`"env":2`), "env", "must be 0 or 1, got 2"},
		{"env as text", "pay", with(`"env":"1"`), "env", "must be a number, got a string"},
		{"env as a boolean", "pay", with(`"env":true`), "env", "must be a number, got a boolean"},
		{"env with a fraction", "pay", with(`"env":1.0`), "env", "must be 0 or 1, got 1.0"},
		{"env below zero", "pay", with(`"env":-0`), "env", "must be 0 or 1, got -0"},
		{"coin_type", "getbalance", `{"openid":"o1","coin_type":2}`, "coin_type", "must be 0 or 1, got 2"},
		{"biz_id", "queryorderinfo", `{"openid":"o1","out_trade_no":"t1","biz_id":0}`, "biz_id", "must be 1 or 2, got 0"},
		{"no biz_id", "queryorderinfo", `{"openid":"o1","out_trade_no":"t1"}`, "biz_id", "is missing"},
		{"no out_trade_no", "queryorderinfo", `{"openid":"o1","biz_id":1}`, "out_trade_no", "is missing"},
		{"pf", "pay", with(`"pf":"android"`), "pf", "is not a field of pay, " + ofPay},
		{"v1's amt", "pay", with(`"amt":1`), "amt", "is not a field of pay, " + ofPay},
		{"v1's pay_item", "pay", with(`"pay_item":"sword"`), "pay_item", "is not a field of pay, " + ofPay},
		{"a cancel's field", "pay", with(`"pay_bill_no":"b0"`), "pay_bill_no", "is not a field of pay, " + ofPay},
		{"control character", "pay", with(`"remark":"a\tb"`), "remark", "must not contain control characters"},
		{"appid with a slash", "pay", with(`"appid":"a/b"`), "appid", "must be 1 to 128 characters of A-Z a-z 0-9 _ -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := wechat.Decode(endpoint(t, "/wxa/game/"+c.api), []byte(c.body))
			var refusal *wechat.FieldError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, wechat.FieldError{Field: c.field, Rule: c.rule}, *refusal)
		})
	}
}

func TestOnlyV2KeepsNumbersThatBeginWithAnUnderscoreForItself(t *testing.T) {
	r, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/pay"), []byte(`{"openid":"o1","amt":1,"bill_no":"_b1"}`))
	require.NoError(t, err)
	require.Equal(t, "_b1", r.BillNo())
}

func TestANumberThatTheGamesClientGaveIsAskedForAsItIs(t *testing.T) {
	r, err := wechat.Decode(endpoint(t, "/wxa/game/queryorderinfo"), []byte(`{"openid":"o1","out_trade_no":"a|b*c@d","biz_id":2}`))
	require.NoError(t, err)
	require.Contains(t, string(sign(t, r).Body()), `"out_trade_no":"a|b*c@d"`)
	require.Empty(t, r.BillNo())
}

func TestARefusalStillKnowsTheBillNo(t *testing.T) {
	r, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/pay"), []byte(`{"amt":0,"openid":7,"bill_no":"b1"}`))
	require.EqualError(t, err, "amt: must be a positive integer, got 0")
	require.Equal(t, "b1", r.BillNo())
}

func TestACallersSignaturesAreNotedAndNotKept(t *testing.T) {
	for _, name := range []string{"sig", "mp_sig", "pay_sig", "signature", "access_token"} {
		r, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/getbalance"), []byte(`{"openid":"o1","`+name+`":"canary"}`))
		require.NoError(t, err)
		require.Equal(t, name, r.CallerSigned())
		signed := sign(t, r)
		require.NotContains(t, string(signed.Body())+signed.Query(), "canary")
	}
}

func TestEscapesAndOddSpacingAreUnderstood(t *testing.T) {
	r, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/pay"),
		[]byte("\t{ \"open\\u0069d\" : \"o\\u0031\" , \"amt\":12 ,\"bill_no\":\"b1\",\"app_remark\":\"say \\\"hi\\\"\"}\n"))
	require.NoError(t, err)
	require.Equal(t, "o1", r.OpenID())
	require.Equal(t, int64(12), r.Amount())
	require.Equal(t, `say "hi"`, r.Get("app_remark"))
	require.Contains(t, string(sign(t, r).Body()), `"app_remark":"say \"hi\""`)
}

func TestDeepNestingIsRefusedWithoutDescending(t *testing.T) {
	deep := `{"openid":` + strings.Repeat("[", 100_000)
	_, err := wechat.Decode(endpoint(t, "/cgi-bin/midas/getbalance"), []byte(deep))
	require.Error(t, err)
}
