package wechat_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

func TestARefusalOfATokenSaysWhatTheErrcodeMeansAndNothingElse(t *testing.T) {
	for code, want := range map[int]string{
		-1:    "WeChat refuses an access_token: errcode -1 (system busy)",
		50007: "WeChat refuses an access_token: errcode 50007 (the account is frozen)",
		12345: "WeChat refuses an access_token: errcode 12345 (not documented for stable_token)",
	} {
		_, _, err := wechat.ReadToken(fmt.Appendf(nil, `{"errcode":%d,"errmsg":"canary"}`, code))
		require.EqualError(t, err, want)
	}
}

func TestARefusedAddressIsNamedAndNothingElseOfTheText(t *testing.T) {
	const refused = "WeChat refuses an access_token: errcode 40164 (this IP address is not on the app's list"
	for errmsg, named := range map[string]string{
		"invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: canary": ": 203.0.113.7",
		"invalid ip 203.0.113.7, not in whitelist":                                     ": 203.0.113.7",
		"invalid ip 2001:db8::7 ipv6 2001:db8::7, not in whitelist rid: canary":        ": 2001:db8::7",
		"invalid ip ::ffff:203.0.113.7, not in whitelist":                              ": 203.0.113.7",
		"invalid ip fe80::1%canary, not in whitelist":                                  "",
		"invalid ip 203.0.113.777, not in whitelist":                                   "",
		"invalid ip deadbeef, not in whitelist":                                        "",
		"canary 203.0.113.7":                                                           "",
		"":                                                                             "",
	} {
		_, _, err := wechat.ReadToken(fmt.Appendf(nil, `{"errcode":40164,"errmsg":%q}`, errmsg))
		require.EqualError(t, err, refused+named+")", errmsg)
	}
	_, _, err := wechat.ReadToken([]byte(`{"errcode":40013,"errmsg":"invalid ip 203.0.113.7"}`))
	require.NotContains(t, err.Error(), "203.0.113.7", "another refusal")
}

func TestEachRefusalOfATokenHasItsCure(t *testing.T) {
	for code, want := range map[int]wechat.Cure{
		-1:    wechat.ByRepeating,
		40001: wechat.BySecret, 40125: wechat.BySecret, 40243: wechat.BySecret,
		40013: wechat.ByOperator, 40164: wechat.ByOperator, 89503: wechat.ByOperator, 50004: wechat.ByOperator, 12345: wechat.ByOperator,
		45009: wechat.ByWaiting, 45011: wechat.ByWaiting,
	} {
		require.Equal(t, want, wechat.TokenError{Errcode: code}.Cure(), code)
	}
}
