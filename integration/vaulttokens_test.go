package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
	"midas-sidecar/vault"
)

func TestAThousandRestartsLeaveNoLiveToken(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	role := v.role(t, withTokens(nil), midasPaths...)
	restart := func() {
		store, err := vault.New(vault.Config{Address: v.Address, Auth: role.auth()})
		require.NoError(t, err)
		_, err = store.Read(t.Context(), "midas/"+appID)
		require.NoError(t, err)
		require.NoError(t, store.Close(t.Context()))
	}
	for range 1000 {
		restart()
	}
	require.Zero(t, role.alive(t))
}

func TestTheProcessRevokesItsTokenAfterTheLastOrderInFlight(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	moody := v.moody(t)
	role := v.role(t, withTokens(nil), midasPaths...)
	_, url, arrived, letGo := holding(t)
	config, sidecar := production(t, role, "http://"+moody.address, url)
	p := run(t, "run", "--config", config)
	p.waitFor(t, sidecar)

	outcome := make(chan string, 1)
	go func() {
		res, err := http.Post(sidecar+"/cgi-bin/midas/pay", "application/json", strings.NewReader(order("b1")))
		if err != nil {
			outcome <- err.Error()
			return
		}
		_ = res.Body.Close()
		outcome <- res.Header.Get("Midas-Outcome")
	}()
	<-arrived
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Never(t, func() bool { return moody.count("/revoke-self") > 0 }, 500*time.Millisecond, 50*time.Millisecond)
	require.Equal(t, 1, role.alive(t))
	letGo()
	require.Equal(t, "applied", <-outcome)
	require.NoError(t, <-p.ended)
	require.Equal(t, 1, moody.count("/revoke-self"))
	require.Zero(t, role.alive(t))
}

// A change of the config that has nothing to do with Vault asks it for nothing; one
// that does ends the token of the old config.
func TestAReloadKeepsTheTokenOrRevokesIt(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	moody := v.moody(t)
	role := v.role(t, withTokens(nil), midasPaths...)
	_, weChatURL := simulated(t)
	config, sidecar := production(t, role, "http://"+moody.address, weChatURL)
	admin := "127.0.0.1:" + freePort(t)
	replace := func(from, to string) {
		text, err := os.ReadFile(config)
		require.NoError(t, err)
		require.Contains(t, string(text), from)
		require.NoError(t, os.WriteFile(config, []byte(strings.Replace(string(text), from, to, 1)), 0o600))
	}
	replace("admin off", "admin "+admin)
	p := run(t, "run", "--config", config)
	p.waitFor(t, sidecar)
	reload := func() {
		require.NoError(t, <-run(t, "reload", "--config", config, "--address", admin).ended)
	}
	require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order("b1")).outcome)

	before := moody.count("")
	replace("upstream ", "deadline 9s\n upstream ")
	reload()
	require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order("b2")).outcome)
	require.Equal(t, before, moody.count(""))

	replace("auth approle {", "timeout 1s\n auth approle {")
	reload()
	require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order("b3")).outcome)
	require.Equal(t, 1, moody.count("/login"), "what was read is fresh")
	require.Eventually(t, func() bool { return role.alive(t) == 0 }, 5*time.Second, 50*time.Millisecond)

	v.put(t, "secret", "midas/"+appID+"/sessions/newcomer", map[string]any{"session_key": "dW5rbm93biB0byBXZUNoYXQ="})
	require.Equal(t, "rejected", call(t, sidecar+"/cgi-bin/midas/pay", strings.Replace(order("b4"), player, "newcomer", 1)).outcome)
	require.Equal(t, 2, moody.count("/login"))
	require.Equal(t, 1, role.alive(t))
	require.NoError(t, p.interrupt(t))
	require.Zero(t, role.alive(t))
}

// A wrapped secret_id can be unwrapped once; what it held outlives a reload.
func TestAReloadDoesNotNeedAWrappedSecretIDAgain(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	role := v.role(t, withTokens(nil), midasPaths...)
	_, weChatURL := simulated(t)
	config, sidecar := production(t, role, v.Address, weChatURL)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(config), "midas_secret_id"), []byte(role.wrap(t, role.path()+"/secret-id", nil)), 0o600))
	admin := "127.0.0.1:" + freePort(t)
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	wrapped := strings.NewReplacer("midas_secret_id}", "midas_secret_id} wrapped", "admin off", "admin "+admin).Replace(string(text))
	require.NoError(t, os.WriteFile(config, []byte(wrapped), 0o600))
	p := run(t, "run", "--config", config)
	p.waitFor(t, sidecar)
	require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order("b1")).outcome)

	for i, change := range []string{"timeout 1s", "timeout 1500ms"} {
		changed := strings.Replace(wrapped, "auth approle {", change+"\n auth approle {", 1)
		require.NoError(t, os.WriteFile(config, []byte(changed), 0o600))
		require.NoError(t, <-run(t, "reload", "--config", config, "--address", admin).ended)
		require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order([]string{"b2", "b3"}[i])).outcome)
	}
}

// The Midas key is changed in Vault first and at WeChat a while later, and the other
// way round: no payment fails meanwhile.
func TestAMidasKeyIsRotatedWithoutAGap(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	s := newTeam(t, v, nil)
	inVault := func(key string) {
		app := simulator.Demo().Apps[appID]
		v.put(t, "secret", "midas/"+appID, map[string]any{"midas_key": key, "app_secret": app.Secret})
	}
	atWeChat := func(key string) {
		require.NoError(t, s.weChat.Edit(func(state *simulator.State) { state.Apps[appID].MidasKey = key }))
	}
	pays := func(d time.Duration) {
		tried, failed := s.traffic(t, d)
		require.Zero(t, failed, "of %d", tried)
	}
	pays(time.Second)
	inVault("the-second-key-of-this-app-000001")
	pays(3 * time.Second)
	atWeChat("the-second-key-of-this-app-000001")
	pays(time.Second)
	atWeChat("the-third-key-of-this-app-0000002")
	inVault("the-third-key-of-this-app-0000002")
	pays(2 * time.Second)
	// Bad keys, which are rolled back.
	for _, bad := range []string{"the-bad-key-of-this-app-000000003", "the-bad-key-of-this-app-000000004"} {
		inVault(bad)
		pays(3 * time.Second)
		inVault("the-third-key-of-this-app-0000002")
		pays(3 * time.Second)
	}
	require.Equal(t, int64(10_000-s.orders), s.weChat.Purse(appID, player, wechat.Official).Balance)

	log := s.process.output.String()
	require.Len(t, linesOf(log, "WeChat refuses the newest key: an earlier one is used"), 3)
	require.Len(t, linesOf(log, "the newest key is used again"), 3)
	require.NotContains(t, log, "-key-of-this-app")
}
