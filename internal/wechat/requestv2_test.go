package wechat_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

func TestTheSignedCallOfV2IsExactlyTheseBytes(t *testing.T) {
	out := sign(t, decode(t, "/wxa/game/pay", `{"remark":"a=1&b=2","openid":"oUrsfxxxxxxxxxx","amount":100,"bill_no":"BillNo_123","payitem":"屠龙"}`))
	const body = `{"amount":100,"bill_no":"BillNo_123","env":0,"offer_id":"12345678","openid":"oUrsfxxxxxxxxxx",` +
		`"payitem":"屠龙","remark":"a=1&b=2","ts":1507530737,"zone_id":"1"}`
	require.Equal(t, "/wxa/game/pay", out.Path())
	require.Equal(t, body, string(out.Body()))
	require.Equal(t, "access_token=ACCESSTOKEN&signature="+naive(body, "V7Q38/i2KXaqrQyl2Yx9Hg==")+
		"&sig_method=hmac_sha256&pay_sig="+naive("/wxa/game/pay&"+body, "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u"), out.Query())
}

// naive is the formula of the documentation, with the standard library alone.
func naive(text, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestTheTokenIsEscapedInTheQueryOfV2(t *testing.T) {
	r, err := decode(t, "/wxa/game/getbalance", `{"openid":"o1"}`).Complete("wx1", "1")
	require.NoError(t, err)
	keys := testKeys
	keys.AccessToken = secrets.NewValue("a+b&c=d")
	out := r.Sign(keys, testTime)
	require.True(t, strings.HasPrefix(out.Query(), "access_token=a%2Bb%26c%3Dd&signature="), out.Query())
	require.NotContains(t, string(out.Body()), "a+b")
}

// Whatever callers send of the fields that there are, what leaves is signed as a second
// reading of the documentation signs it, and says what the caller said.
func TestRandomCallsOfV2AreSignedAsASecondImplementationSignsThem(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	letters := []rune("aZ9_-|*@ &=%+\"\\/<>屠龙é\u2028😀")
	text := func() string {
		var s []rune
		for range random.IntN(20) {
			s = append(s, letters[random.IntN(len(letters))])
		}
		return string(s)
	}
	for range 5_000 {
		api := []*wechat.API{wechat.PayV2, wechat.CancelPayV2, wechat.PresentV2, wechat.GetBalanceV2, wechat.QueryOrderInfo}[random.IntN(5)]
		given := map[string]any{"openid": fmt.Sprint("o", random.Uint32())}
		number := func(name string) { given[name] = fmt.Sprint("b", random.Uint64()) }
		switch api {
		case wechat.PayV2:
			number("bill_no")
			given["amount"], given["payitem"], given["remark"] = 1+random.Int64N(1<<53-1), text(), text()
		case wechat.CancelPayV2:
			number("bill_no")
			number("pay_bill_no")
			given["amount"] = 1 + random.Int64N(1000)
		case wechat.PresentV2:
			number("bill_no")
			given["amount"] = 1 + random.Int64N(1000)
		case wechat.GetBalanceV2:
			given["coin_type"] = random.IntN(2)
		default:
			given["out_trade_no"], given["biz_id"] = "t"+text(), 1+random.IntN(2)
		}
		if random.IntN(2) == 0 {
			given["env"] = random.IntN(2)
		}
		if random.IntN(2) == 0 {
			given["zone_id"], given["user_ip"] = text(), "203.0.113.7"
		}
		said, err := json.Marshal(given)
		require.NoError(t, err)
		r, err := wechat.Decode(wechat.At(api, wechat.Official), said)
		require.NoError(t, err, "%s", said)
		out := sign(t, r)

		query, err := url.ParseQuery(out.Query())
		require.NoError(t, err)
		require.Equal(t, url.Values{
			"access_token": {"ACCESSTOKEN"}, "sig_method": {"hmac_sha256"},
			"signature": {naive(string(out.Body()), "V7Q38/i2KXaqrQyl2Yx9Hg==")},
			"pay_sig":   {naive("/wxa/game/"+api.Name+"&"+string(out.Body()), "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u")},
		}, query)

		want := map[string]any{"offer_id": "12345678", "zone_id": "1", "env": 0}
		for name, value := range given {
			if value != "" {
				want[name] = value
			}
		}
		want["ts"] = testTime.Unix()
		wanted, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, string(wanted), string(out.Body()))
	}
}

func TestTheBodyOfV2SaysWhichEnvironment(t *testing.T) {
	for member, want := range map[string]wechat.Environment{
		``: wechat.Official, `,"env":null`: wechat.Official, `,"env":0`: wechat.Official, `,"env":1`: wechat.Sandbox,
	} {
		r := decode(t, "/wxa/game/getbalance", `{"openid":"o1"`+member+`}`)
		require.Equal(t, wechat.At(wechat.GetBalanceV2, want), r.Endpoint(), member)
		number := map[wechat.Environment]string{wechat.Official: "0", wechat.Sandbox: "1"}[want]
		require.Contains(t, string(sign(t, r).Body()), `"env":`+number, member)
	}
}

func TestARefusedCallOfV2StillKnowsItsEnvironment(t *testing.T) {
	r, err := wechat.Decode(endpoint(t, "/wxa/game/pay"), []byte(`{"openid":"o1","env":1,"amount":0}`))
	require.Error(t, err)
	require.Equal(t, wechat.Sandbox, r.Endpoint().Environment)
}

func TestV2WithoutEnvGoesWhereTheEndpointSays(t *testing.T) {
	for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
		r, err := wechat.Decode(wechat.At(wechat.GetBalanceV2, env), []byte(`{"openid":"o1"}`))
		require.NoError(t, err)
		require.Equal(t, env, r.Endpoint().Environment)
		require.Equal(t, string(sign(t, r.To(env)).Body()), string(sign(t, r).Body()))
	}
}

func TestTheOtherEnvironmentOfV2HasTheSamePathAndTheOtherEnv(t *testing.T) {
	r := decode(t, "/wxa/game/pay", `{"openid":"o1","amount":1,"bill_no":"b1"}`)
	sandbox := r.To(wechat.Sandbox)
	require.Equal(t, wechat.At(wechat.PayV2, wechat.Sandbox), sandbox.Endpoint())
	require.Equal(t, "/wxa/game/pay", sign(t, sandbox).Path())
	require.Contains(t, string(sign(t, sandbox).Body()), `"env":1`)
	require.Equal(t, string(sign(t, r).Body()), string(sign(t, sandbox.To(wechat.Official)).Body()))
	require.NotEqual(t, r.Fingerprint(), sandbox.Fingerprint())
}

func TestTheAppidOfV2PicksTheAppAndStaysHere(t *testing.T) {
	r := decode(t, "/wxa/game/getbalance", `{"openid":"o1","appid":"wx1234567","offer_id":"12345678"}`)
	require.Equal(t, "wx1234567", r.AppID())
	require.Equal(t, `{"env":0,"offer_id":"12345678","openid":"o1","ts":1507530737,"zone_id":"1"}`, string(sign(t, r).Body()))

	_, err := decode(t, "/wxa/game/getbalance", `{"openid":"o1","appid":"wx9"}`).Complete("wx1234567", "12345678")
	require.EqualError(t, err, "appid: must be the configured app's")
	r, err = decode(t, "/wxa/game/getbalance", `{"openid":"o1"}`).Complete("wx1234567", "12345678")
	require.NoError(t, err)
	require.Equal(t, "wx1234567", r.AppID(), "it is part of what an order is known by")
}

func TestEmptyOptionalsOfV2AreLeftOut(t *testing.T) {
	with := sign(t, decode(t, "/wxa/game/pay", `{"openid":"o1","amount":1,"bill_no":"b1","payitem":"","remark":null,"user_ip":"","zone_id":"","ts":null,"env":null,"appid":""}`))
	without := sign(t, decode(t, "/wxa/game/pay", `{"openid":"o1","amount":1,"bill_no":"b1"}`))
	require.Equal(t, string(without.Body()), string(with.Body()))
	require.Equal(t, without.Query(), with.Query())
	require.NotContains(t, string(with.Body()), "payitem")
}

func TestACallersSignaturesInV2AreNotedAndNotKept(t *testing.T) {
	for _, name := range []string{"sig", "mp_sig", "pay_sig", "signature", "access_token"} {
		r, err := wechat.Decode(endpoint(t, "/wxa/game/getbalance"), []byte(`{"openid":"o1","`+name+`":"canary"}`))
		require.NoError(t, err)
		require.Equal(t, name, r.CallerSigned())
		signed := sign(t, r)
		require.NotContains(t, string(signed.Body())+signed.Query(), "canary")
	}
}

func TestTheCanonicalTextsOfV2AreTheBody(t *testing.T) {
	r, err := decode(t, "/wxa/game/getbalance", `{"openid":"o1"}`).Complete("wx1", "1")
	require.NoError(t, err)
	byMidasKey, bySessionKey := r.CanonicalTexts(testTime)
	require.Equal(t, string(r.Sign(testKeys, testTime).Body()), bySessionKey)
	require.Equal(t, "/wxa/game/getbalance&"+bySessionKey, byMidasKey)
}

func TestOrdersOfV2AreOnesOfAPlayerInAZone(t *testing.T) {
	scope := func(body string) string {
		r, err := decode(t, "/wxa/game/pay", body).Complete("wx1", "1")
		require.NoError(t, err)
		return r.Scope()
	}
	one := scope(`{"openid":"o1","amount":1,"bill_no":"b1"}`)
	require.Equal(t, one, scope(`{"openid":"o1","amount":2,"bill_no":"b2","zone_id":"1"}`))
	require.NotEqual(t, one, scope(`{"openid":"o2","amount":1,"bill_no":"b1"}`))
	require.NotEqual(t, one, scope(`{"openid":"o1","amount":1,"bill_no":"b1","zone_id":"2"}`))

	require.Empty(t, decode(t, "/cgi-bin/midas/pay", `{"openid":"o1","amt":1,"bill_no":"b1"}`).Scope())
}

func TestTheCancelOfAPayOfV2GivesAllOfItBackUnderANumberOfItsOwn(t *testing.T) {
	pay := decode(t, "/wxa/game/pay", `{"openid":"o1","amount":100,"bill_no":"b1","remark":"x","payitem":"sword","zone_id":"2","env":1,"ts":5,"user_ip":"::1"}`)
	cancel := pay.Cancel()
	callers := decode(t, "/wxa/game/cancelpay", `{"openid":"o1","amount":100,"zone_id":"2","env":1,"ts":5,"user_ip":"::1","bill_no":"r1","pay_bill_no":"b1"}`)
	require.Equal(t, callers.Endpoint(), cancel.Endpoint())
	for _, field := range []string{"openid", "amount", "zone_id", "env", "ts", "user_ip", "pay_bill_no"} {
		require.Equal(t, callers.Get(field), cancel.Get(field), field)
	}
	require.Regexp(t, `^midas-sidecar-[0-9a-f]{40}$`, cancel.BillNo())

	require.Equal(t, cancel, pay.Cancel(), "the same each time")
	for _, other := range []string{
		`{"openid":"o1","amount":100,"bill_no":"b2","zone_id":"2","env":1}`,
		`{"openid":"o2","amount":100,"bill_no":"b1","zone_id":"2","env":1}`,
		`{"openid":"o1","amount":100,"bill_no":"b1","zone_id":"1","env":1}`,
	} {
		require.NotEqual(t, cancel.BillNo(), decode(t, "/wxa/game/pay", other).Cancel().BillNo(), other)
	}
}

func TestTheSameRefundHasTheSameFingerprintWheneverItIsSent(t *testing.T) {
	of := func(body string) [32]byte {
		r, err := decode(t, "/wxa/game/cancelpay", body).Complete("wx1234567", "12345678")
		require.NoError(t, err)
		return r.Fingerprint()
	}
	refund := of(`{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b1"}`)
	for _, same := range []string{
		`{"pay_bill_no":"b1","bill_no":"r1","amount":1,"openid":"o1"}`,
		`{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b1","ts":7,"user_ip":"203.0.113.7"}`,
		`{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b1","appid":"wx1234567","offer_id":"12345678","zone_id":"1","env":0}`,
	} {
		require.Equal(t, refund, of(same), same)
	}
	for _, other := range []string{
		`{"openid":"o2","amount":1,"bill_no":"r1","pay_bill_no":"b1"}`,
		`{"openid":"o1","amount":2,"bill_no":"r1","pay_bill_no":"b1"}`,
		`{"openid":"o1","amount":1,"bill_no":"r2","pay_bill_no":"b1"}`,
		`{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b2"}`,
	} {
		require.NotEqual(t, refund, of(other), other)
	}
}
