package simulator

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func (w *world) code2Session(code string) answer {
	w.t.Helper()
	return w.do("GET", code2SessionPath+"?"+url.Values{
		"appid": {appID}, "secret": {secret}, "js_code": {code}, "grant_type": {"authorization_code"},
	}.Encode(), "", "")
}

func TestALoginRotatesTheSessionKey(t *testing.T) {
	w := newWorld(t, func(s *State) { s.Apps[appID].Players[openID].UnionID = "union" })
	code, err := w.sim.Login(appID, openID)
	require.NoError(t, err)
	session := w.code2Session(code)
	require.Equal(t, openID, session.OpenID)
	require.Equal(t, "union", session.UnionID)
	require.Len(t, session.SessionKey, 24)

	require.Equal(t, 90009, w.pay("b1", 1).Errcode, "the old session_key")
	w.requireLogged("mp_sig is wrong: it would be right with the player's earlier session_key")
	d := w.payment(func(d *draft) { d.sessionKey = session.SessionKey })
	require.Zero(t, w.send(d).Errcode)
}

func TestAJSCodeWorksOnceAndForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		used, err := w.sim.Login(appID, openID)
		require.NoError(t, err)
		require.Zero(t, w.code2Session(used).Errcode)
		require.Equal(t, 40163, w.code2Session(used).Errcode)
		require.Equal(t, 40029, w.code2Session("never").Errcode)

		late, err := w.sim.Login(appID, openID)
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		require.Equal(t, 40029, w.code2Session(late).Errcode)
		require.Equal(t, 40029, w.code2Session(used).Errcode)
	})
}

func TestAJSCodeIsForItsAppOnly(t *testing.T) {
	w := newWorld(t, func(s *State) { s.Apps["wx2"] = otherApp() })
	code, err := w.sim.Login("wx2", openID)
	require.NoError(t, err)
	require.Equal(t, 40029, w.code2Session(code).Errcode)
}

func TestLoginOverHTTPBringsANewPlayer(t *testing.T) {
	w := newWorld(t)
	login := w.do("POST", "/simulator/login", "", `{"appid":"wx1234567","openid":"newcomer"}`)
	require.Equal(t, http.StatusOK, login.status)
	session := w.code2Session(login.JSCode)
	require.Equal(t, "newcomer", session.OpenID)
	require.Empty(t, session.UnionID)
	d := w.payment(func(d *draft) {
		d.fields["openid"] = "newcomer"
		d.sessionKey = session.SessionKey
	})
	require.Equal(t, 90013, w.send(d).Errcode, "logged in, and without coins")
}

func TestLoginRefusals(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		"", "[]", `{"appid":"wx1234567"}`, `{"appid":"wx9","openid":"x"}`,
		`{"appid":"wx1234567","openid":"a/b"}`, `{"appid":"wx1234567","openid":"x","more":1}`,
	} {
		require.Equal(t, http.StatusBadRequest, w.do("POST", "/simulator/login", "", body).status, body)
	}
}

func TestCode2SessionRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		method, query string
		code          int
	}{
		"not GET":      {"POST", "", 43001},
		"grant_type":   {"GET", "appid=a&secret=b&js_code=c", 40002},
		"no appid":     {"GET", "grant_type=authorization_code&secret=b&js_code=c", 41002},
		"no secret":    {"GET", "grant_type=authorization_code&appid=a&js_code=c", 41004},
		"wrong appid":  {"GET", "grant_type=authorization_code&appid=a&secret=b&js_code=c", 40013},
		"wrong secret": {"GET", "grant_type=authorization_code&appid=wx1234567&secret=b&js_code=c", 40125},
		"no code":      {"GET", "grant_type=authorization_code&appid=wx1234567&secret=" + secret, 41008},
	} {
		t.Run(name, func(t *testing.T) {
			answer := newWorld(t).do(c.method, code2SessionPath+"?"+c.query, "", "")
			require.Equal(t, c.code, answer.Errcode, answer.text)
		})
	}
}
