package simulator

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

var demoKeys = Keys{
	Midas:        Demo().Apps[appID].MidasKey,
	MidasSandbox: Demo().Apps[appID].MidasKeySandbox,
	Session:      Demo().Apps[appID].Players[openID].SessionKey,
	OldSession:   "oldSessionKeyOfThePlayer==",
	AppSecret:    secret,
	Tokens:       []string{theToken, "EARLIERTOKEN"},
}

// order is a pay as it should be, on either path, before it is signed.
func order(path string) Message {
	return Message{Path: path, AccessToken: theToken, Fields: []Field{
		{Name: "openid", Value: openID},
		{Name: "appid", Value: appID},
		{Name: "offer_id", Value: offerID},
		{Name: "ts", Value: "1507530737"},
		{Name: "zone_id", Value: "1"},
		{Name: "pf", Value: "android"},
		{Name: "amt", Value: "123"},
		{Name: "bill_no", Value: "BillNo_123"},
		{Name: "pay_item", Value: "a b"},
	}}
}

func (m Message) plus(name, value string) Message {
	m.Fields = append(slices.Clone(m.Fields), Field{Name: name, Value: value})
	return m
}

func (m Message) at(path string) Message {
	m.Path = path
	return m
}

func (m Message) minus(name string) Message {
	m.Fields = slices.DeleteFunc(slices.Clone(m.Fields), func(f Field) bool { return f.Name == name })
	return m
}

// signOver signs a text as those do who write the formula by hand.
func signOver(params, path, tail, key string) string {
	return hexHMAC(params+"&org_loc="+path+"&method=POST"+tail, key)
}

func TestExplainSigNamesTheMistake(t *testing.T) {
	sandbox, official := order(sandboxPayPath), order(payPath)
	sorted := sortedPairs(official.signed())
	midas := demoKeys.Midas
	for want, c := range map[string]struct {
		sent Message
		sig  string
	}{
		"": {official, sigOf(official, midas)},
		"with the official key: the sandbox path needs midas_key_sandbox":                                             {sandbox, sigOf(sandbox, midas)},
		"with the sandbox key: the official path needs midas_key":                                                     {official, sigOf(official, demoKeys.MidasSandbox)},
		"over the path without sandbox/: org_loc is the path that is called":                                          {sandbox, sigOf(official, demoKeys.MidasSandbox)},
		"over the path with sandbox/":                                                                                 {official, sigOf(sandbox, midas)},
		"with the official key and over the path without sandbox/: the sandbox path needs midas_key_sandbox; org_loc": {sandbox, sigOf(official, midas)},
		"over the path of getbalance":                                                                                 {official, sigOf(official.at(balancePath), midas)},
		"over the whole URL":                                                                                          {official, sigOf(official.at("https://api.weixin.qq.com"+payPath), midas)},
		"over the path without its first /":                                                                           {official, sigOf(official.at(payPath[1:]), midas)},
		"with the session_key: sig needs the Midas key":                                                               {official, sigOf(official, demoKeys.Session)},
		"with the AppSecret: sig needs the Midas key":                                                                 {official, sigOf(official, secret)},
		"with access_token in the text":                                                                               {official, sigOf(official.plus("access_token", theToken), midas)},
		"with its key named session_key in the text":                                                                  {official, signOver(sorted, payPath, "&session_key="+midas, midas)},
		"without the key at the end of the text":                                                                      {official, signOver(sorted, payPath, "", midas)},
		"with the method in lower case":                                                                               {official, hexHMAC(sorted+"&org_loc="+payPath+"&method=post&secret="+midas, midas)},
		"with the method GET":                                                                                         {official, hexHMAC(sorted+"&org_loc="+payPath+"&method=GET&secret="+midas, midas)},
		"with the optional field app_remark signed as empty: a field that is not sent is not signed":                  {official, sigOf(official.plus("app_remark", ""), midas)},
		"without the optional fields in the text":                                                                     {official, sigOf(official.minus("pay_item"), midas)},
		"without zone_id in the text":                                                                                 {official, sigOf(official.minus("zone_id"), midas)},
		"with the fields in the body's order":                                                                         {official, signOver(pairs(official.Fields), payPath, "&secret="+midas, midas)},
		"with appid before app_remark": {official.plus("app_remark", "r"), signOver(
			strings.Replace(sorted, "&bill_no", "&app_remark=r&bill_no", 1), payPath, "&secret="+midas, midas)},
		"with access_token in the text and with the fields in the body's order": {official, signOver(
			pairs(official.Fields)+"&access_token="+theToken, payPath, "&secret="+midas, midas)},
		"with its values URL-encoded":                                 {official, sigOf(official.minus("pay_item").plus("pay_item", url.QueryEscape("a b")), midas)},
		"with its values percent-encoded":                             {official, sigOf(official.minus("pay_item").plus("pay_item", url.PathEscape("a b")), midas)},
		"if it were lower case":                                       {official, strings.ToUpper(sigOf(official, midas))},
		"it covers ts 1507530732: whoever changes ts must sign again": {official, sigOf(official.minus("ts").plus("ts", "1507530732"), midas)},
		"no usual mistake leads to it":                                {official, sigOf(official, "a key of nobody's")},
	} {
		t.Run(want, func(t *testing.T) {
			got := ExplainSig(c.sent.plus("sig", c.sig), demoKeys)
			require.Contains(t, got, want)
			requireNoSecret(t, got)
			if want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, "sig is wrong: ")
		})
	}
}

func TestExplainMPSigNamesTheMistake(t *testing.T) {
	m := order(payPath)
	m = m.plus("sig", sigOf(m, demoKeys.Midas))
	otherToken := m
	otherToken.AccessToken = "EARLIERTOKEN"
	encoded, escaped := m, m
	encoded.AccessToken, escaped.AccessToken = "a+b/c=", url.QueryEscape("a+b/c=")
	raw, err := base64.StdEncoding.DecodeString(demoKeys.Session)
	require.NoError(t, err)
	session := demoKeys.Session
	sorted := sortedPairs(m.signedByPlayer())
	for want, c := range map[string]struct {
		sent  Message
		mpSig string
	}{
		"": {m, mpSigOf(m, session)},
		"with the base64-decoded session_key: the session_key is used as the text that it is": {m, signOver(sorted, payPath, "&session_key="+session, string(raw))},
		"with the base64-decoded session_key":                                                 {m, mpSigOf(m, string(raw))},
		"with another access_token: mp_sig covers the access_token of the query":              {m, mpSigOf(otherToken, session)},
		"without access_token in the text":                                                    {m, signOver(sortedPairs(m.minus("mp_sig").Fields), payPath, "&session_key="+session, session)},
		"with the access_token URL-encoded in the text":                                       {encoded, mpSigOf(escaped, session)},
		"without sig in the text":                                                             {m, signOver(sortedPairs(m.plus("access_token", theToken).minus("sig").Fields), payPath, "&session_key="+session, session)},
		"with the sig that the body should carry":                                             {m.minus("sig").plus("sig", "0"), mpSigOf(m, session)},
		"with the fields in the body's order: they are sorted": {m, signOver(
			pairs(m.Fields[:len(m.Fields)-1])+"&access_token="+theToken+"&sig="+m.get("sig"), payPath, "&session_key="+session, session)},
		"with sig and access_token after the fields in the body's order: access_token and sig are sorted": {m, signOver(
			pairs(m.Fields)+"&access_token="+theToken, payPath, "&session_key="+session, session)},
		"with access_token and sig after the sorted fields": {m, signOver(
			sortedPairs(m.minus("sig").Fields)+"&access_token="+theToken+"&sig="+m.get("sig"), payPath, "&session_key="+session, session)},
		"with sig and access_token after the sorted fields": {m, signOver(
			sortedPairs(m.minus("sig").Fields)+"&sig="+m.get("sig")+"&access_token="+theToken, payPath, "&session_key="+session, session)},
		"with the Midas key and with sig and access_token after the fields in the body's order": {m, signOver(
			pairs(m.Fields)+"&access_token="+theToken, payPath, "&session_key="+demoKeys.Midas, demoKeys.Midas)},
		"with the Midas key: mp_sig needs the player's session_key":                   {m, mpSigOf(m, demoKeys.Midas)},
		"with the player's earlier session_key: the player has logged in again since": {m, mpSigOf(m, demoKeys.OldSession)},
		"with its key named secret in the text":                                       {m, signOver(sorted, payPath, "&secret="+session, session)},
		"over the path with sandbox/":                                                 {m, mpSigOf(m.at(sandboxPayPath), session)},
		"no usual mistake leads to it":                                                {m, "0"},
	} {
		t.Run(want, func(t *testing.T) {
			got := ExplainMPSig(c.sent.plus("mp_sig", c.mpSig), demoKeys)
			require.Contains(t, got, want)
			requireNoSecret(t, got)
			if want == "" {
				require.Empty(t, got)
			}
		})
	}
}

func TestExplainTakesAnything(t *testing.T) {
	for _, m := range []Message{{}, {Path: "/nowhere"}, {Path: payPath, Fields: []Field{{Name: "sig"}}}} {
		require.NotEmpty(t, ExplainSig(m, Keys{}))
		require.NotEmpty(t, ExplainMPSig(m, Keys{}))
	}
}

// requireNoSecret checks a text for every key and token there is.
func requireNoSecret(t testing.TB, text string) {
	t.Helper()
	for _, secret := range append(demoKeys.Tokens, demoKeys.Midas, demoKeys.MidasSandbox, demoKeys.Session, demoKeys.OldSession, demoKeys.AppSecret) {
		require.NotContains(t, text, secret)
	}
}

// The log's words for the mistakes that are made most.
func TestTheLogSaysWhyASignatureIsWrong(t *testing.T) {
	w := newWorld(t)
	d := w.draft(sandboxPayPath, map[string]any{"bill_no": "b1", "amt": int64(5)})
	d.midasKey = demoKeys.Midas
	require.Equal(t, 90011, w.send(d.sign()).Errcode)
	w.requireLogged(`why="sig is wrong: it would be right with the official key: the sandbox path needs midas_key_sandbox"`)

	d = w.payment(nil)
	d.fields["sig"] = "0"
	require.Equal(t, 90009, w.send(d).Errcode)
	w.requireLogged("with the sig that the body should carry")
	w.requireLogged("besides, sig is wrong: no usual mistake")
	require.Equal(t, int64(10000), w.sim.Purse(appID, openID, wechat.Sandbox).Balance)
}
