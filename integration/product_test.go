package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

const (
	appID  = "wx1234567"
	player = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
)

// The two families of paths that the sidecar reads, and all that it may.
var midasPaths = []string{"secret/data/midas/" + appID, "secret/data/midas/" + appID + "/sessions/*"}

// simulated starts a WeChat that verifies.
func simulated(t *testing.T) (weChat *simulator.Simulator, url string) {
	t.Helper()
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(weChat)
	t.Cleanup(server.Close)
	return weChat, server.URL
}

// putKeys stores what WeChat gave out, at the default paths of mount "secret".
func (v *testVault) putKeys(t *testing.T) {
	t.Helper()
	app := simulator.Demo().Apps[appID]
	v.put(t, "secret", "midas/"+appID, map[string]any{
		"midas_key": app.MidasKey, "midas_key_sandbox": app.MidasKeySandbox, "app_secret": app.Secret,
	})
	v.put(t, "secret", "midas/"+appID+"/sessions/"+player, map[string]any{"session_key": app.Players[player].SessionKey})
}

// production is the Caddyfile at the top of the repository, moved to a Vault, a
// WeChat, a port and files of the test's.
func production(t *testing.T, role *testRole, vaultAddress, weChat string) (config, sidecar string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"midas_role_id": role.roleID, "midas_secret_id": role.secretID} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
	}
	text, err := os.ReadFile("../Caddyfile")
	require.NoError(t, err)
	port := freePort(t)
	moved := string(text)
	for from, to := range map[string]string{
		"{$VAULT_ADDR:http://127.0.0.1:8200}": vaultAddress,
		"/run/secrets/":                       dir + "/",
		"auth approle {":                      "auth approle {\n mount " + role.mount,
		"app wx1234567 {":                     "upstream " + weChat + "\n app wx1234567 {",
		"http://:8080":                        "http://:" + port,
	} {
		require.Contains(t, moved, from)
		moved = strings.ReplaceAll(moved, from, to)
	}
	config = filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(config, []byte(moved), 0o600))
	return config, "http://127.0.0.1:" + port
}

// answer is what a game server reads.
type answer struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
	Error   string `json:"error"`
	Balance int64  `json:"balance"`
	status  int
	outcome string
}

func call(t *testing.T, url, body string) answer {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	a := answer{status: res.StatusCode, outcome: res.Header.Get("Midas-Outcome")}
	require.NoError(t, json.Unmarshal(text, &a), "%s", text)
	return a
}

func order(billNo string) string {
	return fmt.Sprintf(`{"openid":"%s","amt":123,"bill_no":"%s"}`, player, billNo)
}

func TestATeamWithAVaultPaysAndCancelsInBothEnvironments(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	counted := v.counted(t)
	weChat, weChatURL := simulated(t)
	config, sidecar := production(t, v.role(t, nil, midasPaths...), counted.URL, weChatURL)
	run(t, "run", "--config", config).waitFor(t, sidecar)

	for _, env := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
		pay, cancel := wechat.At(wechat.Pay, env).Path, wechat.At(wechat.CancelPay, env).Path
		a := call(t, sidecar+pay, order("b1"))
		require.Equal(t, "applied", a.outcome, a.Errmsg)
		require.Equal(t, int64(9877), a.Balance)
		require.Equal(t, int64(9877), weChat.Purse(appID, player, env).Balance)

		a = call(t, sidecar+cancel, `{"openid":"`+player+`","bill_no":"b1"}`)
		require.Equal(t, "applied", a.outcome, a.Errmsg)
		require.Equal(t, int64(10000), weChat.Purse(appID, player, env).Balance)
	}

	// Warm, a payment asks Vault for nothing; all of it took one login.
	before := counted.calls.Load()
	for i := range 20 {
		require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order(fmt.Sprint("warm", i))).outcome)
	}
	require.Equal(t, before, counted.calls.Load())
	require.Equal(t, int32(1), counted.logins.Load())
	require.Zero(t, counted.refused.Load())
}

func TestAVaultThatIsDownAtTheStartPreventsNothing(t *testing.T) {
	v := startOwnVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	role := v.role(t, nil, midasPaths...)
	v.seal(t)
	_, weChatURL := simulated(t)
	config, sidecar := production(t, role, v.Address, weChatURL)

	validate := run(t, "validate", "--config", config)
	require.NoError(t, <-validate.ended)

	sidecarProcess := run(t, "run", "--config", config)
	sidecarProcess.waitFor(t, sidecar)
	a := call(t, sidecar+"/cgi-bin/midas/pay", order("b1"))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "secrets_unavailable", a.Error)
	require.Equal(t, "not_sent", a.outcome)

	v.unseal(t)
	require.Eventually(t, func() bool {
		return call(t, sidecar+"/cgi-bin/midas/pay", order("b1")).outcome == "applied"
	}, 10*time.Second, 100*time.Millisecond)
	require.NoError(t, sidecarProcess.interrupt(t))
	for _, secret := range []string{role.roleID, role.secretID, simulator.Demo().Apps[appID].MidasKey, simulator.Demo().Apps[appID].Players[player].SessionKey} {
		require.NotContains(t, sidecarProcess.output.String(), secret)
	}
}

func TestAPlayerWhoJustLoggedInCanPayWithinSeconds(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "secret", 2)
	v.putKeys(t)
	weChat, weChatURL := simulated(t)
	require.NoError(t, weChat.Edit(func(s *simulator.State) {
		s.Apps[appID].Players["newcomer"] = &simulator.Player{SessionKey: "bmV3Y29tZXItc2Vzc2lvbg==", Official: simulator.Purse{Balance: 500}}
	}))
	config, sidecar := production(t, v.role(t, nil, midasPaths...), v.Address, weChatURL)
	run(t, "run", "--config", config).waitFor(t, sidecar)

	pay := func() answer {
		return call(t, sidecar+"/cgi-bin/midas/pay", `{"openid":"newcomer","amt":100,"bill_no":"b1"}`)
	}
	require.Equal(t, "session_missing", pay().Error)
	v.put(t, "secret", "midas/"+appID+"/sessions/newcomer", map[string]any{"session_key": "bmV3Y29tZXItc2Vzc2lvbg=="})
	require.Eventually(t, func() bool { return pay().outcome == "applied" }, 10*time.Second, 100*time.Millisecond)
	require.Equal(t, int64(400), weChat.Purse(appID, "newcomer", wechat.Official).Balance)
}

func TestTheDemoPaysServesAndEndsCleanly(t *testing.T) {
	for _, c := range []struct {
		flags []string
		path  string
		steps []string // what is signed, and what leaves
	}{
		{nil, "/cgi-bin/midas/pay", []string{
			`amt=123&appid=wx1234567&bill_no=Demo_1&offer_id=12345678&`, `&org_loc=/cgi-bin/midas/pay&method=POST&secret=******`, `&session_key=******`,
			"  POST /cgi-bin/midas/pay?access_token=******\n",
		}},
		{[]string{"--v2"}, "/wxa/game/pay", []string{
			"  pay_sig, with the Midas key:\n  /wxa/game/pay&{\"amount\":123,\"bill_no\":\"Demo_1\",\"env\":0,\"offer_id\":\"12345678\",",
			"  signature, with the player's session_key:\n  {\"amount\":123,",
			"  POST /wxa/game/pay?access_token=******&signature=", "&sig_method=hmac_sha256&pay_sig=",
		}},
	} {
		t.Run(strings.Join(c.flags, ""), func(t *testing.T) {
			demo := run(t, append([]string{"demo", "--listen", "127.0.0.1:" + freePort(t)}, c.flags...)...)
			require.Eventually(t, func() bool { return strings.Contains(demo.output.String(), "Serving until Ctrl-C.") }, 20*time.Second, 20*time.Millisecond)

			shown := demo.output.String()
			for _, step := range c.steps {
				require.Contains(t, shown, step)
			}
			require.Contains(t, shown, "Midas-Outcome: applied")
			require.Contains(t, shown, "The player had 10000 coins and has 9877 now.")
			for _, secret := range []string{"zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u", "V7Q38/i2KXaqrQyl2Yx9Hg=="} {
				require.NotContains(t, shown, secret)
			}
			require.NotRegexp(t, "[0-9a-f]{20}|access_token=[^*]", shown, "signatures are cut, tokens masked")

			// The curl line, as it is printed.
			_, line, found := strings.Cut(shown, "curl -i ")
			require.True(t, found)
			url, rest, _ := strings.Cut(line, " ")
			require.True(t, strings.HasSuffix(url, c.path), url)
			_, body, _ := strings.Cut(rest, "-d '")
			body, _, _ = strings.Cut(body, "'")
			require.Equal(t, int64(9872), call(t, url, body).Balance)

			require.NoError(t, demo.interrupt(t))
		})
	}
}

func TestTheDemoSaysWhatToDoIfItsPortIsTaken(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	for _, command := range []string{"demo", "demo --v2"} {
		demo := run(t, append(strings.Fields(command), "--listen", strings.TrimPrefix(taken.URL, "http://"))...)
		require.Error(t, <-demo.ended)
		require.Contains(t, demo.output.String(), "choose another port, for example: midas-sidecar "+command+" --listen 127.0.0.1:8090")
	}
}
