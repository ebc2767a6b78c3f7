package simulator

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const orderV2 = `{"openid":"odkx20","offer_id":"12345678","ts":1668136271,"zone_id":"1","env":0,"amount":5,"bill_no":"b/1","payitem":"<屠龙😀>"}`

// sentV2 is an order as it arrives with these signatures.
func sentV2(body, paySig, signature string) MessageV2 {
	return MessageV2{payPathV2, "access_token=" + theToken + "&signature=" + signature + "&sig_method=hmac_sha256&pay_sig=" + paySig, []byte(body)}
}

func TestExplainPaySigNamesTheMistake(t *testing.T) {
	midas, session := demoKeys.Midas, demoKeys.Session
	sandbox := strings.Replace(orderV2, `"env":0`, `"env":1`, 1)
	over := func(path, body, key string) string { return hexHMAC(path+"&"+body, key) }
	good := over(payPathV2, orderV2, midas)
	raw, err := hex.DecodeString(good)
	require.NoError(t, err)
	for want, c := range map[string]struct{ body, paySig string }{
		"": {orderV2, good},
		"with the sandbox key: env 0 needs midas_key":              {orderV2, over(payPathV2, orderV2, demoKeys.MidasSandbox)},
		"with the official key: env 1 needs midas_key_sandbox":     {sandbox, over(payPathV2, sandbox, midas)},
		"with the session_key: pay_sig needs the Midas key of env": {orderV2, over(payPathV2, orderV2, session)},
		"with the AppSecret": {orderV2, over(payPathV2, orderV2, secret)},
		"as the signature: pay_sig and signature stand in each other's": {orderV2, hexHMAC(orderV2, session)},
		"over the body alone: pay_sig covers the path, & and the body":  {orderV2, hexHMAC(orderV2, midas)},
		"over path and body without & between them":                     {orderV2, hexHMAC(payPathV2+orderV2, midas)},
		"over the path with its query: pay_sig covers the path":         {orderV2, over(payPathV2+"?access_token="+theToken, orderV2, midas)},
		"over the whole URL":                                                {orderV2, over("https://api.weixin.qq.com"+payPathV2, orderV2, midas)},
		"over the path without its first /":                                 {orderV2, over(payPathV2[1:], orderV2, midas)},
		"over the path of getbalance":                                       {orderV2, over(balancePathV2, orderV2, midas)},
		"over the path of v1":                                               {orderV2, over(payPath, orderV2, midas)},
		"over the name of the API":                                          {orderV2, over("pay", orderV2, midas)},
		"over the body as it is written with a blank after : and ,":         {orderV2, over(payPathV2, strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(orderV2), midas)},
		"over the body as it is with a line's end after it: what is signed": {orderV2, over(payPathV2, orderV2+"\n", midas)},
		"it covers ts 1668136280":                                           {orderV2, over(payPathV2, strings.Replace(orderV2, "6271", "6280", 1), midas)},
		"if it were lower case":                                             {orderV2, strings.ToUpper(good)},
		"if it were hex":                                                    {orderV2, base64.URLEncoding.EncodeToString(raw)},
		"no usual mistake leads to it":                                      {orderV2, "0"},
		"with the sandbox key and over the path with its query":             {orderV2, over(payPathV2+"?access_token="+theToken, orderV2, demoKeys.MidasSandbox)},
	} {
		t.Run(want, func(t *testing.T) {
			if want == "if it were hex" {
				c.paySig = strings.ReplaceAll(base64.StdEncoding.EncodeToString(raw), "+", "%2B")
			}
			got := ExplainPaySig(sentV2(c.body, c.paySig, ""), demoKeys)
			require.Contains(t, got, want)
			requireNoSecret(t, got)
			if want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, "pay_sig is wrong: ")
		})
	}
}

func TestExplainSignatureNamesTheMistake(t *testing.T) {
	session := demoKeys.Session
	raw, err := base64.StdEncoding.DecodeString(session)
	require.NoError(t, err)
	const sortedBody = `{"amount":5,"bill_no":"b/1","env":0,"offer_id":"12345678","openid":"odkx20","payitem":"<屠龙😀>","ts":1668136271,"zone_id":"1"}`
	const ascii = `\u5c60\u9f99\ud83d\ude00`
	for want, signature := range map[string]string{
		"": hexHMAC(orderV2, session),
		"with the player's earlier session_key: the player has logged in": hexHMAC(orderV2, demoKeys.OldSession),
		"with the Midas key: signature needs the player's session_key":    hexHMAC(orderV2, demoKeys.Midas),
		"with the base64-decoded session_key: the session_key is used":    hexHMAC(orderV2, string(raw)),
		"as the pay_sig: pay_sig and signature stand in each other's":     hexHMAC(payPathV2+"&"+orderV2, demoKeys.Midas),
		"over path, & and body: signature covers the body alone":          hexHMAC(payPathV2+"&"+orderV2, session),
		"over nothing": hexHMAC("", session),
		"over the body as it is written without blanks, sorted by name":                      hexHMAC(sortedBody, session),
		"written without blanks, sorted by name, with <, > and & escaped":                    hexHMAC(strings.NewReplacer("<", `\u003c`, ">", `\u003e`).Replace(sortedBody), session),
		"written without blanks, with all but ASCII escaped":                                 hexHMAC(strings.Replace(orderV2, "屠龙😀", ascii, 1), session),
		"written without blanks, with all but ASCII and with / escaped":                      hexHMAC(strings.NewReplacer("屠龙😀", ascii, "/", `\/`).Replace(orderV2), session),
		"with the base64-decoded session_key and over the body as it is with a line's end":   hexHMAC(orderV2+"\n", string(raw)),
		"it covers ts 1668136270: whoever changes ts must sign again":                        hexHMAC(strings.Replace(orderV2, "6271", "6270", 1), session),
		"no usual mistake leads to it: compare the key, and see that nothing changes the bo": hexHMAC(orderV2, "a key of nobody's"),
	} {
		t.Run(want, func(t *testing.T) {
			got := ExplainSignature(sentV2(orderV2, "", signature), demoKeys)
			require.Contains(t, got, want)
			requireNoSecret(t, got)
			if want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, "signature is wrong: ")
		})
	}
}

func TestExplainTakesAnythingOfV2(t *testing.T) {
	for _, m := range []MessageV2{{}, {Path: "/nowhere", Body: []byte("{")}, {payPath, "%zz", []byte(`{"ts":1}`)}, {payPathV2, "&&", []byte("null")}} {
		require.NotEmpty(t, ExplainPaySig(m, Keys{}))
		require.NotEmpty(t, ExplainSignature(m, Keys{}))
	}
}
