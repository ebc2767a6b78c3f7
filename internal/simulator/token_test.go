package simulator

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const secret = "demo-app-secret-of-the-simulator"

func (w *world) stableToken(force bool) answer {
	w.t.Helper()
	return w.do("POST", stableTokenPath, "application/json", fmt.Sprintf(
		`{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, appID, secret, force))
}

// withoutTokens makes the simulator one that has issued none.
func withoutTokens(s *State) { s.Tokens = nil }

// requireToken sends a call with the token and returns its errcode.
func (w *world) try(accessToken string) int {
	w.t.Helper()
	d := w.draft(balancePath, nil)
	d.token = accessToken
	return w.send(d.sign()).Errcode
}

func TestStableTokenIsTheSameUntilFiveMinutesBeforeItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, withoutTokens)
		first := w.stableToken(false)
		require.Equal(t, 7200, first.ExpiresIn)
		require.JSONEq(t, fmt.Sprintf(`{"access_token":%q,"expires_in":7200}`, first.AccessToken), first.text)
		require.Zero(t, w.try(first.AccessToken))

		time.Sleep(115*time.Minute - time.Second)
		late := w.stableToken(false)
		require.Equal(t, first.AccessToken, late.AccessToken)
		require.Equal(t, 301, late.ExpiresIn)

		time.Sleep(time.Minute)
		second := w.stableToken(false)
		require.NotEqual(t, first.AccessToken, second.AccessToken)
		require.Equal(t, 7200, second.ExpiresIn)

		time.Sleep(5*time.Minute - time.Second)
		require.Zero(t, w.try(first.AccessToken), "old and new are good for five minutes")
		require.Zero(t, w.try(second.AccessToken))
		time.Sleep(time.Second)
		require.Equal(t, 42001, w.try(first.AccessToken))
		w.requireLogged("expired 0s ago")
		require.Zero(t, w.try(second.AccessToken))
	})
}

func TestATokenThatExpiredUnusedIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, Options{TokenLife: time.Minute}, withoutTokens)
		first := w.stableToken(false)
		require.Equal(t, 60, first.ExpiresIn)
		time.Sleep(29 * time.Second)
		require.Equal(t, first.AccessToken, w.stableToken(false).AccessToken)
		time.Sleep(31 * time.Second)
		require.Equal(t, 42001, w.try(first.AccessToken))
		second := w.stableToken(false)
		require.Equal(t, 42001, w.try(first.AccessToken), "a dead token stays dead")
		require.Zero(t, w.try(second.AccessToken))
		time.Sleep(forgetTokens + 2*time.Minute)
		w.stableToken(false)
		require.Equal(t, 40014, w.try(first.AccessToken), "and is forgotten after a day")
	})
}

func TestForceRefreshEndsTheOldTokenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, withoutTokens)
		first := w.stableToken(false)
		second := w.stableToken(true)
		require.NotEqual(t, first.AccessToken, second.AccessToken)
		require.Equal(t, 40001, w.try(first.AccessToken))
		require.Zero(t, w.try(second.AccessToken))

		time.Sleep(29 * time.Second)
		require.Equal(t, second.AccessToken, w.stableToken(true).AccessToken, "within 30 s it does nothing")
		w.requireLogged("force_refresh does nothing within 30s")
		time.Sleep(time.Second)
		require.NotEqual(t, second.AccessToken, w.stableToken(true).AccessToken)
	})
}

func TestForceRefreshWorksTwentyTimesADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 08:00 in China
		w := newWorld(t, withoutTokens)
		for range 20 {
			require.Zero(t, w.stableToken(true).Errcode)
			time.Sleep(30 * time.Second)
		}
		require.Equal(t, 45009, w.stableToken(true).Errcode)
		require.Zero(t, w.stableToken(false).Errcode)
		time.Sleep(16*time.Hour - 10*time.Minute)
		require.Zero(t, w.stableToken(true).Errcode, "the next day in China")
	})
}

func TestStableTokenRefusals(t *testing.T) {
	good := fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q}`, appID, secret)
	for name, c := range map[string]struct {
		method, body string
		code         int
	}{
		"not POST":     {"GET", good, 43002},
		"empty":        {"POST", "", 44002},
		"not JSON":     {"POST", "grant_type=client_credential", 47001},
		"wrong types":  {"POST", `{"grant_type":1}`, 47001},
		"grant_type":   {"POST", `{"grant_type":"authorization_code","appid":"a","secret":"b"}`, 40002},
		"no appid":     {"POST", `{"grant_type":"client_credential","secret":"b"}`, 41002},
		"no secret":    {"POST", `{"grant_type":"client_credential","appid":"a"}`, 41004},
		"wrong appid":  {"POST", `{"grant_type":"client_credential","appid":"a","secret":"b"}`, 40013},
		"wrong secret": {"POST", `{"grant_type":"client_credential","appid":"wx1234567","secret":"b"}`, 40125},
	} {
		t.Run(name, func(t *testing.T) {
			answer := newWorld(t).do(c.method, stableTokenPath, "application/json", c.body)
			require.Equal(t, c.code, answer.Errcode, answer.text)
			require.Empty(t, answer.AccessToken)
		})
	}
}

// asking is a good call for the access_token.
func asking() *draft {
	return &draft{
		method: "POST", path: stableTokenPath, contentType: "application/json",
		fields: map[string]any{"grant_type": "client_credential", "appid": appID, "secret": secret},
	}
}

func TestEachKindOfFaultOfStableTokenDoesWhatItsRowSays(t *testing.T) {
	for _, kind := range TokenKinds() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, withoutTokens)
			patience := t.Context()
			fault := Fault{Kind: kind.Name}
			switch stem(kind.Name) {
			case "hang":
				ctx, leave := context.WithCancel(t.Context())
				defer time.AfterFunc(100*time.Millisecond, leave).Stop()
				patience = ctx
			case "drip":
				fault.Delay = time.Microsecond
			}
			require.NoError(t, s.sim.Plan(Plan{Rules: []Rule{{API: stableToken, Faults: []Fault{fault}}}}))
			sight := sights[stem(kind.Name)]
			require.NotNil(t, sight)
			sight(t, s.send(patience, asking()))
			require.NoError(t, s.sim.Settle(t.Context()))
			issued := 0
			if tokens := s.sim.State().Tokens[appID]; tokens != nil {
				issued = len(tokens.Issued)
			}
			require.Equal(t, kind.Applied == AppliedAsIs, issued == 1)
			if kind.strike != nil {
				s.requireLogged("fault=" + kind.Name)
			}
			require.NotContains(t, s.log.String(), secret)

			s.transport.CloseIdleConnections() // one may be dead
			again := s.send(t.Context(), asking()).answered(t)
			require.Zero(t, s.try(again.AccessToken), "the second attempt is served well")
		})
	}
}

func TestOnlyARuleThatNamesStableTokenStrikesIt(t *testing.T) {
	w := newWorld(t)
	refused := []Fault{{Kind: "ip_40164"}}
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{
		{Faults: []Fault{{Kind: "busy_before"}}, Rate: 1},
		{API: stableToken, Faults: refused, Rate: 1},
	}}))
	require.Equal(t, 40164, w.stableToken(false).Errcode)
	require.Equal(t, 40164, w.stableToken(false).Errcode)
	require.Equal(t, -1, w.pay("b1", 5).Errcode)

	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{{API: stableToken, Faults: refused}, {Faults: []Fault{{Kind: "busy_before"}}}}}))
	require.Equal(t, -1, w.signed(balancePath, nil).Errcode)
	require.Equal(t, 40164, w.stableToken(false).Errcode)
	require.Zero(t, w.stableToken(false).Errcode, "once, as the rule says")

	w.sim.Misbehave(always("busy_before"))
	require.Zero(t, w.stableToken(false).Errcode)
}

func TestAFaultOfStableTokenLeavesItsRefusalsAlone(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.sim.Plan(Plan{Rules: []Rule{{API: stableToken, Faults: []Fault{{Kind: "ip_40164"}}, Rate: 1}}}))
	wrong := asking()
	wrong.fields["secret"] = "another"
	require.Equal(t, 40125, w.do("POST", stableTokenPath, "application/json", wrong.body()).Errcode)
	wrong.fields["appid"] = "wx0"
	require.Equal(t, 40013, w.do("POST", stableTokenPath, "application/json", wrong.body()).Errcode)
}
