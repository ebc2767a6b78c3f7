package simulator

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckSessionSaysWhetherTheSessionKeyIsTheCurrentOne(t *testing.T) {
	// https://developers.weixin.qq.com/minigame/en/dev/api-backend/open-api/login/auth.checkSessionKey.html,
	// computed by the formula for this session_key.
	const sessionKey, signature = "o0q0otL8aEzpcZL/FT9WsQ==", "46e043c5525c2d817c44be603d30837a808a1d930d038f6fdc3e62a201fed128"
	rawData := hexHMAC(`{"nickName":"x"}`, sessionKey)
	for name, c := range map[string]struct {
		query  url.Values
		code   int
		logged string
	}{
		"the current one":      {url.Values{}, 0, "the session_key is the current one"},
		"the earlier one":      {url.Values{"signature": {hexHMAC("", "earlier")}}, 87009, "the player has logged in again since"},
		"over something":       {url.Values{"signature": {rawData}}, 87009, "of an empty text"},
		"of nothing":           {url.Values{"signature": {""}}, 87009, "of an empty text"},
		"another method":       {url.Values{"sig_method": {"md5"}}, 87008, "must be hmac_sha256"},
		"no method":            {url.Values{"sig_method": nil}, 90018, "must hold access_token, openid, signature, sig_method"},
		"nobody":               {url.Values{"openid": {"nobody"}}, 40003, "no player with this openid"},
		"no token":             {url.Values{"access_token": nil}, 41001, "belongs in the query"},
		"another token":        {url.Values{"access_token": {"x"}}, 40014, "never issued"},
		"not logged in":        {url.Values{"openid": {"away"}, "signature": {hexHMAC("", "")}}, 87009, "not logged in"},
		"upper case hex":       {url.Values{"signature": {"46E043C5"}}, 87009, "small hex digits"},
		"a field of their own": {url.Values{"appid": {appID}}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(s *State) {
				s.Apps[appID].Players[openID].SessionKey, s.Apps[appID].Players[openID].OldSessionKey = sessionKey, "earlier"
				s.Apps[appID].Players["away"] = &Player{}
			})
			query := url.Values{"access_token": {theToken}, "openid": {openID}, "signature": {signature}, "sig_method": {"hmac_sha256"}}
			for name, values := range c.query {
				query[name] = values
			}
			answer := w.do("GET", checkSessionPath+"?"+query.Encode(), "", "")
			require.Equal(t, c.code, answer.Errcode, answer.text)
			if c.code == 0 {
				require.JSONEq(t, `{"errcode":0,"errmsg":"ok"}`, answer.text)
			}
			w.requireLogged(c.logged)
			require.NotContains(t, w.log.String(), sessionKey)
			require.NotContains(t, w.log.String(), signature)
		})
	}
	require.Equal(t, 43001, newWorld(t).do("POST", checkSessionPath, "application/json", "{}").Errcode)
}
