package simulator

import (
	"context"
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

// loggingIn is a good call for a session.
func (w *world) loggingIn() *draft {
	w.t.Helper()
	code, err := w.sim.Login(appID, openID)
	require.NoError(w.t, err)
	return &draft{method: "GET", path: code2SessionPath, query: url.Values{
		"appid": {appID}, "secret": {secret}, "js_code": {code}, "grant_type": {"authorization_code"},
	}.Encode()}
}

func TestEachKindOfFaultOfTheLoginDoesWhatItsRowSays(t *testing.T) {
	for _, kind := range LoginKinds() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			call, patience := s.loggingIn(), t.Context()
			fault := Fault{Kind: kind.Name}
			switch stem(kind.Name) {
			case "hang":
				ctx, leave := context.WithCancel(t.Context())
				defer time.AfterFunc(100*time.Millisecond, leave).Stop()
				patience = ctx
			case "drip":
				fault.Delay = time.Microsecond
			}
			require.NoError(t, s.sim.Plan(Plan{Rules: []Rule{{API: code2Session, Faults: []Fault{fault}}}}))
			sight := sights[stem(kind.Name)]
			require.NotNil(t, sight)
			sight(t, s.send(patience, call))
			require.NoError(t, s.sim.Settle(t.Context()))
			if kind.strike != nil {
				s.requireLogged("fault=" + kind.Name)
			}
			player := s.sim.State().Apps[appID].Players[openID]
			for _, hidden := range []string{secret, player.SessionKey, player.OldSessionKey} {
				require.NotContains(t, s.log.String(), hidden)
			}

			s.transport.CloseIdleConnections() // one may be dead
			again := s.send(t.Context(), call).answered(t)
			if kind.Applied == NotApplied {
				require.Equal(t, player.SessionKey, again.SessionKey, "the js_code is not used up")
			} else {
				require.Equal(t, 40163, again.Errcode, "the js_code is used up")
			}
			require.Zero(t, s.send(t.Context(), s.loggingIn()).answered(t).Errcode, "the second attempt is served well")
		})
	}
}

func TestOnlyARuleThatNamesTheLoginStrikesIt(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{
		{Faults: []Fault{{Kind: "busy_before"}}, Rate: 1},
		{API: stableToken, Faults: []Fault{{Kind: "ip_40164"}}, Rate: 1},
		{API: code2Session, Faults: []Fault{{Kind: "player_40226"}, {Kind: "quota_45011"}}},
	}}))
	require.Equal(t, 40226, w.send(w.loggingIn()).Errcode)
	require.Equal(t, 45011, w.send(w.loggingIn()).Errcode, "attempts are the player's")
	require.Zero(t, w.send(w.loggingIn()).Errcode)
	require.Equal(t, 40164, w.stableToken(false).Errcode)

	w.sim.Misbehave(always("busy_before"))
	require.Zero(t, w.send(w.loggingIn()).Errcode)
}

func TestAFaultOfTheLoginLeavesItsRefusalsAlone(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{{API: code2Session, Faults: []Fault{{Kind: "busy_after"}}, Rate: 1}}}))
	require.Equal(t, 40029, w.code2Session("never").Errcode)
	call := w.loggingIn()
	require.Equal(t, -1, w.send(call).Errcode)
	require.Equal(t, 40163, w.send(call).Errcode, "used up by the lost answer")
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
