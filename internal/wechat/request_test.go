package wechat_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/secrets/secretstest"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/signer"
)

var testKeys = wechat.Keys{
	Midas:       signer.NewKey("zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u"),
	Session:     signer.NewKey("V7Q38/i2KXaqrQyl2Yx9Hg=="),
	AccessToken: secrets.NewValue("ACCESSTOKEN"),
}

var testTime = time.Unix(1507530737, 0)

func sign(t testing.TB, r wechat.Request) wechat.Outbound {
	t.Helper()
	r, err := r.Complete("wx1234567", "12345678")
	require.NoError(t, err)
	return r.Sign(testKeys, testTime)
}

func decode(t testing.TB, path, body string) wechat.Request {
	t.Helper()
	r, err := wechat.Decode(endpoint(t, path), []byte(body))
	require.NoError(t, err)
	return r
}

func TestTheSignedCallIsExactlyTheseBytes(t *testing.T) {
	out := sign(t, decode(t, "/cgi-bin/midas/pay", `{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amt":123,"bill_no":"BillNo_123"}`))
	require.Equal(t, "/cgi-bin/midas/pay", out.Path())
	require.Equal(t, "access_token=ACCESSTOKEN", out.Query())
	require.Equal(t, `{"amt":123,"appid":"wx1234567","bill_no":"BillNo_123","offer_id":"12345678",`+
		`"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","pf":"android","ts":1507530737,"zone_id":"1",`+
		`"sig":"ada5ef41b2f185b9d6ba041ed0f4ba562ed5aeb6acce17be58865fa88c55aaab",`+
		`"mp_sig":"101c9de900169d556be97ceafce55a18bf1385bc39e0ddb4e8ca7c1d670c76da"}`, string(out.Body()))
}

// Every v1 vector, sent as a caller would send it, without what the sidecar
// fills in.
func TestUnsignedVectorsBecomeTheSignedOnes(t *testing.T) {
	text, err := os.ReadFile("../../signer/testdata/vectors.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Family, Path, Sig string
		Params                  map[string]json.RawMessage
		MidasKey                string `json:"midas_key"`
		SessionKey              string `json:"session_key"`
		AccessToken             string `json:"access_token"`
		MPSig                   string `json:"mp_sig"`
	}
	require.NoError(t, json.Unmarshal(text, &vectors))

	for _, v := range vectors {
		if v.Family != "v1" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			var now int64
			require.NoError(t, json.Unmarshal(v.Params["ts"], &now))
			for _, filled := range []string{"ts", "appid", "offer_id", "pf"} {
				delete(v.Params, filled)
			}
			unsigned, err := json.Marshal(v.Params)
			require.NoError(t, err)
			r, err := decode(t, v.Path, string(unsigned)).Complete("wx1234567", "12345678")
			require.NoError(t, err)

			out := r.Sign(wechat.Keys{
				Midas:       signer.NewKey(v.MidasKey),
				Session:     signer.NewKey(v.SessionKey),
				AccessToken: secrets.NewValue(v.AccessToken),
			}, time.Unix(now, 0))
			var sent struct {
				Sig   string
				MPSig string `json:"mp_sig"`
			}
			require.NoError(t, json.Unmarshal(out.Body(), &sent))
			require.Equal(t, v.Sig, sent.Sig)
			require.Equal(t, v.MPSig, sent.MPSig)
		})
	}
}

func TestEmptyOptionalsAreLeftOutOfBodyAndSignature(t *testing.T) {
	with := sign(t, decode(t, "/cgi-bin/midas/pay", `{"openid":"o1","amt":1,"bill_no":"b1","pay_item":"","app_remark":null,"user_ip":"","zone_id":"","pf":null,"ts":null}`))
	without := sign(t, decode(t, "/cgi-bin/midas/pay", `{"openid":"o1","amt":1,"bill_no":"b1"}`))
	require.Equal(t, string(without.Body()), string(with.Body()))
}

func TestACallersOwnZoneAndPlatformAreKept(t *testing.T) {
	body := string(sign(t, decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1","zone_id":"2_7","pf":"ios"}`)).Body())
	require.Contains(t, body, `"zone_id":"2_7"`)
	require.Contains(t, body, `"pf":"ios"`)
}

func TestACallersTsIsReplaced(t *testing.T) {
	body := string(sign(t, decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1","ts":5}`)).Body())
	require.Contains(t, body, `"ts":1507530737`)
}

func TestACallersAppMustBeTheConfiguredOne(t *testing.T) {
	for body, want := range map[string]string{
		`{"openid":"o1","appid":"wx1234567","offer_id":"12345678"}`: "",
		`{"openid":"o1","offer_id":"1"}`:                            "offer_id: must be the configured app's",
		`{"openid":"o1","appid":"wx9"}`:                             "appid: must be the configured app's",
	} {
		_, err := decode(t, "/cgi-bin/midas/getbalance", body).Complete("wx1234567", "12345678")
		if want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, want)
		}
	}
}

func TestWithoutASessionKeyThereIsNoMPSig(t *testing.T) {
	r, err := decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1"}`).Complete("wx1", "1")
	require.NoError(t, err)
	body := string(r.Sign(wechat.Keys{Midas: testKeys.Midas, AccessToken: testKeys.AccessToken}, testTime).Body())
	require.NotContains(t, body, "mp_sig")
	require.True(t, json.Valid([]byte(body)))
}

func TestTheOtherEnvironmentHasTheOtherPath(t *testing.T) {
	r := decode(t, "/cgi-bin/midas/pay", `{"openid":"o1","amt":1,"bill_no":"b1"}`).To(wechat.Sandbox)
	require.Equal(t, "/cgi-bin/midas/sandbox/pay", sign(t, r).Path())
	require.Equal(t, wechat.Sandbox, r.Endpoint().Environment)
}

func TestTheTokenIsEscapedInTheQuery(t *testing.T) {
	r, err := decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1"}`).Complete("wx1", "1")
	require.NoError(t, err)
	keys := testKeys
	keys.AccessToken = secrets.NewValue("a+b&c=d")
	require.Equal(t, "access_token=a%2Bb%26c%3Dd", r.Sign(keys, testTime).Query())
}

func TestAnOutboundMessageShowsOnlyItsPath(t *testing.T) {
	out := sign(t, decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1"}`))
	require.Equal(t, "POST /cgi-bin/midas/getbalance POST /cgi-bin/midas/getbalance", fmt.Sprintf("%v %+v", out, out))
	v2 := sign(t, decode(t, "/wxa/game/getbalance", `{"openid":"o1"}`))

	ask := wechat.StableToken("wx1", secrets.NewValue("ACCESSTOKEN"))
	type closed struct {
		o wechat.Outbound
		k wechat.Keys
	}
	for name, value := range map[string]any{
		"alone": out, "of v2": v2, "behind a pointer": &out, "in a slice": []wechat.Outbound{out}, "with an app secret": ask,
		"the keys": testKeys, "behind a pointer, the keys": &testKeys,
		"in a field": struct{ O, A wechat.Outbound }{out, ask}, "in an unexported field": closed{ask, testKeys}, "behind pointers": &closed{out, testKeys},
	} {
		t.Run(name, func(t *testing.T) {
			shown := secretstest.Printed(value)
			for _, secret := range []string{"ACCESSTOKEN", "zNLgAGgqsEWJOg1n", "V7Q38", "openid", "pay_sig"} {
				require.NotContains(t, shown, secret)
				require.NotContains(t, shown, hex.EncodeToString([]byte(secret)))
				require.NotContains(t, shown, strings.Trim(fmt.Sprint([]byte(secret)), "[]"), "in decimal")
			}
		})
	}
}

func TestCanonicalTextsAreMasked(t *testing.T) {
	r, err := decode(t, "/cgi-bin/midas/getbalance", `{"openid":"o1"}`).Complete("wx1", "1")
	require.NoError(t, err)
	sig, mpSig := r.CanonicalTexts(testTime)
	require.Equal(t, "appid=wx1&offer_id=1&openid=o1&pf=android&ts=1507530737&zone_id=1&org_loc=/cgi-bin/midas/getbalance&method=POST&secret=******", sig)
	require.Equal(t, "access_token=******&appid=wx1&offer_id=1&openid=o1&pf=android&sig=******&ts=1507530737&zone_id=1&org_loc=/cgi-bin/midas/getbalance&method=POST&session_key=******", mpSig)
}

// One payment's share of the work here: read, check, complete, sign, encode.
func BenchmarkDecodeAndSign(b *testing.B) {
	body := []byte(`{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amt":123,"bill_no":"BillNo_123"}`)
	e := endpoint(b, "/cgi-bin/midas/pay")
	b.ReportAllocs()
	for b.Loop() {
		r, err := wechat.Decode(e, body)
		if err != nil {
			b.Fatal(err)
		}
		if r, err = r.Complete("wx1234567", "12345678"); err != nil {
			b.Fatal(err)
		}
		_ = r.Sign(testKeys, testTime)
	}
}

func TestTheSameOrderHasTheSameFingerprintWheneverItIsSent(t *testing.T) {
	of := func(body string) [32]byte {
		r, err := decode(t, "/cgi-bin/midas/pay", body).Complete("wx1234567", "12345678")
		require.NoError(t, err)
		return r.Fingerprint()
	}
	order := of(`{"openid":"o1","amt":1,"bill_no":"b1"}`)
	for _, same := range []string{
		`{"bill_no":"b1","amt":1,"openid":"o1"}`,
		`{"openid":"o1","amt":1,"bill_no":"b1","ts":7}`,
		`{"openid":"o1","amt":1,"bill_no":"b1","appid":"wx1234567","offer_id":"12345678","zone_id":"1","pf":"android","pay_item":""}`,
	} {
		require.Equal(t, order, of(same), same)
	}
	for _, other := range []string{
		`{"openid":"o2","amt":1,"bill_no":"b1"}`,
		`{"openid":"o1","amt":2,"bill_no":"b1"}`,
		`{"openid":"o1","amt":1,"bill_no":"b2"}`,
		`{"openid":"o1","amt":1,"bill_no":"b1","zone_id":"2"}`,
		`{"openid":"o1","amt":1,"bill_no":"b1","pay_item":"x"}`,
		`{"openid":"o1","amt":1,"bill_no":"b1","app_remark":"x"}`,
	} {
		require.NotEqual(t, order, of(other), other)
	}
}

func TestTheCancelOfAPayNamesTheSameOrder(t *testing.T) {
	pay := decode(t, "/cgi-bin/midas/sandbox/pay", `{"openid":"o1","amt":1,"bill_no":"b1","app_remark":"x","pay_item":"sword","zone_id":"2"}`)
	cancel := decode(t, "/cgi-bin/midas/sandbox/cancelpay", `{"openid":"o1","bill_no":"b1","pay_item":"sword","zone_id":"2"}`)
	require.Equal(t, cancel, pay.Cancel())
}

func TestACancelNamesTheOrderThatItTakesBack(t *testing.T) {
	for path, body := range map[string]string{
		"/cgi-bin/midas/cancelpay": `{"openid":"o1","bill_no":"b1"}`,
		"/wxa/game/cancelpay":      `{"openid":"o1","amount":1,"bill_no":"r1","pay_bill_no":"b1"}`,
	} {
		r := decode(t, path, body)
		require.Equal(t, "b1", r.PayBillNo())
		require.True(t, r.Endpoint().API.Cancels())
		require.Same(t, r.Endpoint().API, r.Endpoint().API.CancelOf().Cancel)
	}
	pay := decode(t, "/wxa/game/pay", `{"openid":"o1","amount":1,"bill_no":"b1"}`)
	require.Empty(t, pay.PayBillNo())
	require.False(t, pay.Endpoint().API.Cancels())
}
