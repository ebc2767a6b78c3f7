package signer_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets/secretstest"
	"midas-sidecar/signer"
)

// vector is one row of testdata/vectors.json: the documentation's own values
// ("official") and values computed by two independent programs ("computed").
type vector struct {
	Name        string
	Path        string
	Params      map[string]json.RawMessage
	MidasKey    string `json:"midas_key"`
	SessionKey  string `json:"session_key"`
	AccessToken string `json:"access_token"`
	Sig         string
	MPSig       string `json:"mp_sig"`
}

func v1Vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var rows []vector
	require.NoError(t, json.Unmarshal(text, &rows))
	rows = slices.DeleteFunc(rows, func(v vector) bool { return v.MidasKey == "" })
	require.Len(t, rows, 37)
	return rows
}

// request turns a vector's JSON into strings: a number as it is written, never
// through a float.
func (v vector) request(t testing.TB) signer.V1 {
	t.Helper()
	r := signer.V1{Path: v.Path}
	for name, raw := range v.Params {
		value := string(raw)
		if strings.HasPrefix(value, `"`) {
			require.NoError(t, json.Unmarshal(raw, &value))
		}
		r.Params = append(r.Params, signer.Param{Name: name, Value: value})
	}
	return r
}

func TestSignaturesMatchTheVectors(t *testing.T) {
	for _, v := range v1Vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			r := v.request(t)
			require.Equal(t, v.Sig, string(r.AppendSig(nil, signer.NewKey(v.MidasKey))))
			require.Equal(t, v.MPSig, string(r.AppendMPSig(nil, signer.NewKey(v.SessionKey), v.AccessToken, v.Sig)))
		})
	}
}

// The hex values on WeChat's pages of pay, cancelpay, present and getbalance
// follow from no published key. A test that expects them is wrong.
func TestNoVectorCarriesAHexThatWeChatPrintedInError(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	for _, prefix := range []string{"f705c735", "168704ac", "8bd582a6", "2651b0ee", "e53e5241", "39271a12", "d1f0a412"} {
		require.NotContains(t, string(text), prefix)
	}
}

func TestSignaturesAreAppended(t *testing.T) {
	r := signer.V1{Path: "/p", Params: []signer.Param{{Name: "a", Value: "1"}}}
	got := r.AppendSig([]byte(`"sig":"`), signer.NewKey("k"))
	require.Equal(t, `"sig":"`, string(got[:7]))
	require.Len(t, got, 7+signer.Size)
}

func TestTextsShowEveryFieldInByteOrder(t *testing.T) {
	r := signer.V1{Path: "/cgi-bin/midas/pay", Params: []signer.Param{
		{Name: "zone_id", Value: "1"},
		{Name: "appid", Value: "wx"},
		{Name: "app_remark", Value: "a b&c"},
		{Name: "ts", Value: "7"},
		{Name: "pf", Value: "android"},
	}}
	require.Equal(t, "app_remark=a b&c&appid=wx&pf=android&ts=7&zone_id=1"+
		"&org_loc=/cgi-bin/midas/pay&method=POST&secret=****", string(r.AppendSigText(nil, "****")))
	require.Equal(t, "access_token=T&app_remark=a b&c&appid=wx&pf=android&sig=S&ts=7&zone_id=1"+
		"&org_loc=/cgi-bin/midas/pay&method=POST&session_key=****", string(r.AppendMPSigText(nil, "****", "T", "S")))
}

func TestAKeyNeverShowsItself(t *testing.T) {
	key := signer.NewKey("canary-key")
	type open struct{ K *signer.Key }
	type closed struct{ k *signer.Key }
	for name, value := range map[string]any{
		"alone": key, "the value": *key, "in a slice": []*signer.Key{key},
		"in a field": open{key}, "in an unexported field": closed{key}, "behind pointers": &closed{key},
	} {
		t.Run(name, func(t *testing.T) {
			shown := secretstest.Printed(value)
			require.NotContains(t, shown, "canary")
			require.NotContains(t, shown, hex.EncodeToString([]byte("canary")))
			require.NotContains(t, shown, "99 97 110 97 114 121", "in decimal")
		})
	}
	require.Contains(t, secretstest.Printed(key), "REDACTED")
}

func TestOneKeySignsForManyAtOnce(t *testing.T) {
	key := signer.NewKey("shared")
	want := string(benchmarkRequest.AppendSig(nil, key))
	for range 8 {
		t.Run("caller", func(t *testing.T) {
			t.Parallel()
			for range 200 {
				require.Equal(t, want, string(benchmarkRequest.AppendSig(nil, key)))
			}
		})
	}
}

// naive is the formula of the documentation, written as simply as possible.
func naive(params map[string]string, path, keyName, key string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		pairs = append(pairs, name+"="+params[name])
	}
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s&org_loc=%s&method=POST&%s=%s", strings.Join(pairs, "&"), path, keyName, key)
	return hex.EncodeToString(mac.Sum(nil))
}

func FuzzSignaturesMatchTheNaiveFormula(f *testing.F) {
	f.Add("/cgi-bin/midas/pay", "amt", "123", "pay_item", "屠龙", "midas", "session", "token")
	f.Add("/cgi-bin/midas/sandbox/pay", "zone_id", "1", "app_remark", "a=1&b=2", strings.Repeat("k", 65), "", "")
	f.Fuzz(func(t *testing.T, path, name1, value1, name2, value2, midasKey, sessionKey, token string) {
		params := map[string]string{"appid": "wx1", "ts": "1507530737"}
		params[name1], params[name2] = value1, value2
		delete(params, "sig")
		delete(params, "access_token")
		r := signer.V1{Path: path}
		for name, value := range params {
			r.Params = append(r.Params, signer.Param{Name: name, Value: value})
		}

		sig := naive(params, path, "secret", midasKey)
		require.Equal(t, sig, string(r.AppendSig(nil, signer.NewKey(midasKey))))

		params["access_token"], params["sig"] = token, sig
		require.Equal(t, naive(params, path, "session_key", sessionKey),
			string(r.AppendMPSig(nil, signer.NewKey(sessionKey), token, sig)))
	})
}

var benchmarkRequest = signer.V1{Path: "/cgi-bin/midas/pay", Params: []signer.Param{
	{Name: "amt", Value: "123"},
	{Name: "appid", Value: "wx1234567"},
	{Name: "bill_no", Value: "BillNo_123"},
	{Name: "offer_id", Value: "12345678"},
	{Name: "openid", Value: "odkx20ENSNa2w5y3g_qOkOvBNM1g"},
	{Name: "pf", Value: "android"},
	{Name: "ts", Value: "1507530737"},
	{Name: "zone_id", Value: "1"},
}}

const (
	benchmarkMidasKey   = "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u"
	benchmarkSessionKey = "V7Q38/i2KXaqrQyl2Yx9Hg=="
)

// A real access_token is about this long; 512 characters is what WeChat asks to
// reserve.
var benchmarkToken = strings.Repeat("T", 157)

func BenchmarkBothSignatures(b *testing.B) {
	midas, session := signer.NewKey(benchmarkMidasKey), signer.NewKey(benchmarkSessionKey)
	var room [2 * signer.Size]byte
	b.ReportAllocs()
	for b.Loop() {
		sig := benchmarkRequest.AppendSig(room[:0], midas)
		_ = benchmarkRequest.AppendMPSig(room[signer.Size:signer.Size], session, benchmarkToken, benchmarkSigText)
		_ = sig
	}
}

var benchmarkSigText = strings.Repeat("5", signer.Size)

// The floor: two HMACs over the same bytes with their states reused, no text to
// build and no hex to write.
func BenchmarkTwoBareHMACs(b *testing.B) {
	sigText := benchmarkRequest.AppendSigText(nil, benchmarkMidasKey)
	mpText := benchmarkRequest.AppendMPSigText(nil, benchmarkSessionKey, benchmarkToken, benchmarkSigText)
	midas := hmac.New(sha256.New, []byte(benchmarkMidasKey))
	session := hmac.New(sha256.New, []byte(benchmarkSessionKey))
	var sum [sha256.Size]byte
	b.ReportAllocs()
	for b.Loop() {
		midas.Reset()
		midas.Write(sigText)
		midas.Sum(sum[:0])
		session.Reset()
		session.Write(mpText)
		session.Sum(sum[:0])
	}
}

func TestKeysAreEqualIfTheySignAlike(t *testing.T) {
	require.True(t, signer.NewKey("a").Equal(signer.NewKey("a")))
	require.False(t, signer.NewKey("a").Equal(signer.NewKey("b")))
	require.False(t, signer.NewKey("a").Equal(nil))
}

// Vectors of v2, and of two others whose formulas are the same: those of mini programs
// and of the login state.
func TestSignaturesOfV2MatchTheVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var rows []struct {
		Name, Family, Status, Path, Body, Signature string
		AppKey                                      string `json:"app_key"`
		SessionKey                                  string `json:"session_key"`
		PaySig                                      string `json:"pay_sig"`
	}
	require.NoError(t, json.Unmarshal(text, &rows))
	paySigs, signatures, official := 0, 0, 0
	for _, v := range rows {
		if v.Family != "v2" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			r := signer.V2{Path: v.Path, Body: []byte(v.Body)}
			if v.PaySig != "" {
				paySigs++
				require.Equal(t, v.PaySig, string(r.AppendPaySig(nil, signer.NewKey(v.AppKey))))
			}
			if v.Signature != "" {
				signatures++
				require.Equal(t, v.Signature, string(r.AppendSignature(nil, signer.NewKey(v.SessionKey))))
			}
			if v.Status == "official" {
				official++
			}
		})
	}
	require.Equal(t, []int{9, 11, 3}, []int{paySigs, signatures, official})
}

// naiveV2 is the formula of the documentation, written as simply as possible.
func naiveV2(text, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func FuzzSignaturesOfV2MatchTheNaiveFormula(f *testing.F) {
	f.Add("/wxa/game/pay", []byte(`{"amount":1,"payitem":"屠龙"}`), "midas", "session", "query=")
	f.Add("/wxa/game/getbalance", []byte(nil), strings.Repeat("k", 65), "", "")
	f.Fuzz(func(t *testing.T, path string, body []byte, midasKey, sessionKey, before string) {
		r := signer.V2{Path: path, Body: body}
		require.Equal(t, before+naiveV2(path+"&"+string(body), midasKey), string(r.AppendPaySig([]byte(before), signer.NewKey(midasKey))))
		require.Equal(t, before+naiveV2(string(body), sessionKey), string(r.AppendSignature([]byte(before), signer.NewKey(sessionKey))))
	})
}
