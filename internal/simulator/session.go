package simulator

import (
	"net/http"
)

// checkSessionPath: https://developers.weixin.qq.com/minigame/en/dev/api-backend/open-api/login/auth.checkSessionKey.html
const checkSessionPath = "/wxa/checksession"

// checkSession says whether a player's session_key is the current one: signature is made
// with it over an empty text. No fault strikes it.
func (s *Simulator) checkSession(r *http.Request) *reply {
	if r.Method != http.MethodGet {
		return refuse(43001, "require GET method", "the method is "+r.Method)
	}
	query, refusal := readQuery(r, true, "access_token", "openid", "signature", "sig_method")
	if refusal != nil {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, refusal := s.state.checkToken(query.Get("access_token"), s.options.Now())
	if refusal != nil {
		return refusal
	}
	player := s.state.player(owner, query.Get("openid"))
	switch {
	case query.Get("sig_method") != "hmac_sha256":
		return refuse(87008, "invalid sig_method", "it must be hmac_sha256")
	case player == nil:
		return refuse(40003, "invalid openid", "the app of the access_token has no player with this openid: POST /simulator/login makes one")
	case player.SessionKey == "":
		return refuse(87009, "invalid signature", "the player is not logged in: POST /simulator/login")
	case same(query.Get("signature"), hexHMAC("", player.SessionKey)):
		return done(nil, "the session_key is the current one")
	case player.OldSessionKey != "" && same(query.Get("signature"), hexHMAC("", player.OldSessionKey)):
		return refuse(87009, "invalid signature", "signature is made with the player's earlier session_key: the player has logged in again since")
	}
	return refuse(87009, "invalid signature", "signature is the HMAC-SHA256 of an empty text with the session_key, in small hex digits")
}
