package integration

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// team is a sidecar from the product's binary, with a Vault that may have moods and a
// WeChat. What it reads is fresh for a second only, so that it asks all the time.
type team struct {
	vault   *testVault
	moody   *moodyVault
	role    *testRole
	weChat  *simulator.Simulator
	sidecar string
	process *process
	players []string // who pay
	orders  int
}

// withTokens are the options of a role whose tokens may renew and revoke
// themselves, as Vault's default policy allows.
func withTokens(options map[string]any) map[string]any {
	all := map[string]any{"token_no_default_policy": false}
	maps.Copy(all, options)
	return all
}

func newTeam(t *testing.T, v *testVault, options map[string]any) *team {
	t.Helper()
	s := &team{players: []string{player}, vault: v, moody: v.moody(t), role: v.role(t, withTokens(options), midasPaths...)}
	weChat, weChatURL := simulated(t)
	s.weChat = weChat
	config, sidecar := production(t, s.role, "http://"+s.moody.address, weChatURL)
	s.sidecar = sidecar
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	fresh := strings.Replace(string(text), "upstream ", "cache {\n fresh 1s\n }\n upstream ", 1)
	require.NoError(t, os.WriteFile(config, []byte(fresh), 0o600))
	s.process = run(t, "run", "--config", config)
	s.process.waitFor(t, sidecar)
	return s
}

// sessionKeyOf is the session_key that WeChat gives a player.
func sessionKeyOf(openid string) string { return base64.StdEncoding.EncodeToString([]byte(openid)) }

// player lets a player log in at WeChat and the game server store the session_key.
func (s *team) player(t *testing.T, openid string) {
	t.Helper()
	require.NoError(t, s.weChat.Edit(func(state *simulator.State) {
		state.Apps[appID].Players[openid] = &simulator.Player{SessionKey: sessionKeyOf(openid), Official: simulator.Purse{Balance: 1_000_000}}
	}))
	s.vault.put(t, "secret", "midas/"+appID+"/sessions/"+openid, map[string]any{"session_key": sessionKeyOf(openid)})
}

func (s *team) pay(t *testing.T, openid string) answer {
	t.Helper()
	s.orders++
	return call(t, s.sidecar+"/cgi-bin/midas/pay", fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"b%d"}`, openid, s.orders))
}

// traffic pays for a while, and tells how many payments failed.
func (s *team) traffic(t *testing.T, d time.Duration) (tried, failed int) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		tried++
		if a := s.pay(t, s.players[tried%len(s.players)]); a.outcome != "applied" {
			failed++
			t.Logf("%+v", a)
		}
	}
	return tried, failed
}

// An hour without Vault is TestAWarmAppPaysThroughAnHourWithoutItsStore, in fake
// time; here the Vault and the clock are real.
func TestPaymentsGoOnWhileVaultDoesNot(t *testing.T) {
	const (
		away    = 10 * time.Second
		settled = 4 * time.Second // by when the last token has ended, and all is noticed
	)
	shared, sealed := startVault(t), startOwnVault(t)
	for _, v := range []*testVault{shared, sealed} {
		v.mountKV(t, "secret", 2)
		v.putKeys(t)
	}
	short := map[string]any{"token_ttl": 3}
	for _, c := range []struct {
		name        string
		vault       *testVault
		options     map[string]any
		leave, back func(*testing.T, *team)
	}{
		{
			"sealed", sealed, nil,
			func(t *testing.T, s *team) { s.vault.seal(t) },
			func(t *testing.T, s *team) { s.vault.unseal(t) },
		},
		{
			"refused", shared, nil,
			func(t *testing.T, s *team) { s.moody.refuse(t) },
			func(t *testing.T, s *team) { s.moody.accept(t) },
		},
		{
			"reset", shared, nil,
			func(_ *testing.T, s *team) { s.moody.is(reset) },
			func(_ *testing.T, s *team) { s.moody.is(nil) },
		},
		{
			"hanging", shared, nil,
			func(_ *testing.T, s *team) { s.moody.is(s.moody.hang) },
			func(_ *testing.T, s *team) { s.moody.is(nil) },
		},
		{
			"429", shared, nil,
			func(_ *testing.T, s *team) { s.moody.is(answers(http.StatusTooManyRequests, time.Second)) },
			func(_ *testing.T, s *team) { s.moody.is(nil) },
		},
		{
			"503", shared, nil,
			func(_ *testing.T, s *team) { s.moody.is(answers(http.StatusServiceUnavailable, 0)) },
			func(_ *testing.T, s *team) { s.moody.is(nil) },
		},
		{
			"hanging when the token ends", shared, short,
			func(_ *testing.T, s *team) { s.moody.is(s.moody.hang) },
			func(_ *testing.T, s *team) { s.moody.is(nil) },
		},
		{
			"token revoked", shared, nil,
			func(t *testing.T, s *team) { s.role.revokeTokens(t) },
			func(*testing.T, *team) {},
		},
		{
			"role deleted", shared, short,
			func(t *testing.T, s *team) { s.role.delete(t) },
			func(t *testing.T, s *team) { s.role.restore(t) },
		},
		{
			"role deleted and token revoked", shared, nil,
			func(t *testing.T, s *team) {
				s.role.delete(t)
				s.role.revokeTokens(t)
			},
			func(t *testing.T, s *team) { s.role.restore(t) },
		},
		{
			"policy taken away", shared, nil,
			func(t *testing.T, s *team) { s.role.allow(t, "secret/data/nothing") },
			func(t *testing.T, s *team) { s.role.allow(t, midasPaths...) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newTeam(t, c.vault, c.options)
			newcomer := "newcomer-" + strings.ReplaceAll(c.name, " ", "-")
			s.player(t, newcomer)
			for i := range 10 {
				s.players = append(s.players, fmt.Sprint("player-", i, "-", newcomer))
				s.player(t, s.players[i+1])
			}
			for _, openid := range s.players {
				require.Equal(t, "applied", s.pay(t, openid).outcome)
			}

			c.leave(t, s)
			tried, failed := s.traffic(t, settled)
			before := s.moody.count("")
			more, alsoFailed := s.traffic(t, away-settled)
			tried, failed = tried+more, failed+alsoFailed
			calls := s.moody.count("") - before

			c.back(t, s)
			since := time.Now()
			for s.pay(t, newcomer).outcome != "applied" && time.Since(since) < time.Minute {
				time.Sleep(20 * time.Millisecond)
			}
			recovery := time.Since(since)
			t.Logf("| %s | %d | %d | %.1f | %.1f |", c.name, tried, failed, float64(calls)/(away-settled).Seconds(), recovery.Seconds())

			require.Zero(t, failed)
			if c.name != "token revoked" { // after which Vault is asked as ever
				require.LessOrEqual(t, calls, int((away-settled).Seconds())+4)
			}
			require.Less(t, recovery, 5*time.Second)
			require.NoError(t, s.process.interrupt(t))
			log := s.process.output.String()
			for _, secret := range []string{s.role.roleID, s.role.secretID, sessionKeyOf(newcomer), "hvs."} {
				require.NotContains(t, log, secret)
			}
			changes := linesOf(log, `"logger":"midas","msg"`)
			t.Log(strings.Join(changes, "\n"))
			require.LessOrEqual(t, len(changes), 6, "one line per change of state")
			require.NotContains(t, strings.Join(changes, "\n"), player)
		})
	}
	t.Run("tokens that live for seconds", func(t *testing.T) {
		t.Parallel()
		tokensThatLiveForSecondsFailNoPayment(t, shared)
	})
}

func TestAColdSidecarWhoseVaultHangsSaysSoInTime(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	s := newTeam(t, v, nil)
	s.moody.is(s.moody.hang)
	for range 3 {
		asked := time.Now()
		res, err := http.Post(s.sidecar+"/cgi-bin/midas/pay", "application/json", strings.NewReader(order("b1")))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Equal(t, "secrets_unavailable", res.Header.Get("Midas-Error"))
		require.Equal(t, "not_sent", res.Header.Get("Midas-Outcome"))
		require.NotEmpty(t, res.Header.Get("Retry-After"))
		require.Less(t, time.Since(asked), 3*time.Second, "timeout is 2s")
	}
	require.Equal(t, int64(10_000), s.weChat.Purse(appID, player, wechat.Official).Balance)
	s.moody.is(nil)
	require.Eventually(t, func() bool { return s.pay(t, player).outcome == "applied" }, 5*time.Second, 50*time.Millisecond)
}

func tokensThatLiveForSecondsFailNoPayment(t *testing.T, v *testVault) {
	s := newTeam(t, v, map[string]any{"token_ttl": 3, "token_max_ttl": 6})
	tried, failed := s.traffic(t, 30*time.Second)
	logins, renewals, all := s.moody.count("/login"), s.moody.count("/renew-self"), s.moody.count("")
	t.Logf("%d payments, %d failed; %d logins, %d renewals, %.1f calls a second", tried, failed, logins, renewals, float64(all)/30)
	require.Zero(t, failed)
	require.LessOrEqual(t, logins, 12)
	require.LessOrEqual(t, renewals, 25)
	require.GreaterOrEqual(t, renewals, 4)
	require.NoError(t, s.process.interrupt(t))
	require.Zero(t, s.role.alive(t))
}

// linesOf returns the lines of a log that contain text.
func linesOf(log, text string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// delete takes the role away. What it logged in for lives on until its lease ends.
func (r *testRole) delete(t *testing.T) {
	t.Helper()
	_, err := r.vault.root.Logical().Delete(r.path())
	require.NoError(t, err)
}

// restore ends delete, with the credentials that there were.
func (r *testRole) restore(t *testing.T) {
	t.Helper()
	r.vault.write(t, r.path(), withTokens(map[string]any{"token_policies": r.mount}))
	r.vault.write(t, r.path()+"/role-id", map[string]any{"role_id": r.roleID})
	r.vault.write(t, r.path()+"/custom-secret-id", map[string]any{"secret_id": r.secretID})
}

// alive counts the tokens of the role that have not ended.
func (r *testRole) alive(t *testing.T) int {
	t.Helper()
	list, err := r.vault.root.Logical().List("auth/token/accessors")
	require.NoError(t, err)
	n := 0
	for _, accessor := range list.Data["keys"].([]any) {
		token, err := r.vault.root.Auth().Token().LookupAccessor(accessor.(string))
		if err != nil {
			require.ErrorContains(t, err, "invalid accessor") // it has ended meanwhile
			continue
		}
		if token.Data["path"] == "auth/"+r.mount+"/login" {
			n++
		}
	}
	return n
}
