package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

const loginSection = "Login without the session_key"

// inREADME returns the block of that language in the README's section about logins.
func inREADME(t *testing.T, language string) string {
	t.Helper()
	for _, b := range readme(t) {
		if b.section == loginSection && b.language == language {
			return b.text
		}
	}
	require.Fail(t, "the README has no "+language)
	return ""
}

// loginWorld is the production config with the line login, in front of a Vault whose
// policy is the README's.
type loginWorld struct {
	t       *testing.T
	vault   *testVault
	mount   string
	role    *testRole
	weChat  *simulator.Simulator
	sidecar string
	process *process
}

// newLoginWorld mounts a KV engine of that version. Where a line of the policy holds one
// of the words, it is left out.
func newLoginWorld(t *testing.T, version int, without ...string) *loginWorld {
	t.Helper()
	w := &loginWorld{t: t, vault: startVault(t), mount: unique("kv")}
	w.vault.mountKV(t, w.mount, version)
	app := simulator.Demo().Apps[appID]
	fields := map[string]any{"midas_key": app.MidasKey, "midas_key_sandbox": app.MidasKeySandbox, "app_secret": app.Secret}
	keys := w.mount + "/midas/+"
	if version == 2 {
		w.vault.put(t, w.mount, "midas/"+appID, fields)
		keys = w.mount + "/data/midas/+"
	} else {
		w.vault.write(t, w.mount+"/midas/"+appID, fields)
	}
	w.role = w.vault.role(t, withTokens(nil), keys)
	var policy strings.Builder
	_, _ = fmt.Fprintf(&policy, "path %q { capabilities = [\"read\"] }\n", keys)
	for line := range strings.Lines(strings.ReplaceAll(inREADME(t, "hcl"), "secret/", w.mount+"/")) {
		left := false
		for _, word := range without {
			left = left || strings.Contains(line, word)
		}
		if !left {
			_, _ = policy.WriteString(line)
		}
	}
	require.NoError(t, w.vault.root.Sys().PutPolicy(w.role.mount, policy.String()))
	var weChatURL string
	w.weChat, weChatURL = simulated(t)
	config, sidecar := production(t, w.role, w.vault.Address, weChatURL)
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	at := strings.LastIndex(string(text), "midas")
	moved := strings.Replace(string(text[:at]), "auth approle {", "mount "+w.mount+"\nauth approle {", 1) + "midas {\nlogin\n}" + string(text[at+len("midas"):])
	require.NoError(t, os.WriteFile(config, []byte(moved), 0o600))
	w.sidecar = sidecar
	w.process = run(t, "run", "--config", config)
	w.process.waitFor(t, sidecar)
	return w
}

func (w *loginWorld) jsCode() string {
	w.t.Helper()
	code, err := w.weChat.Login(appID, player)
	require.NoError(w.t, err)
	return code
}

func (w *loginWorld) sessionKey() string {
	return w.weChat.State().Apps[appID].Players[player].SessionKey
}

// logIn logs the player in and checks that nothing but his openid is answered.
func (w *loginWorld) logIn() {
	w.t.Helper()
	res, err := http.Get(w.sidecar + "/sns/jscode2session?js_code=" + w.jsCode())
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, "applied", res.Header.Get("Midas-Outcome"), "%s", body)
	require.JSONEq(w.t, `{"openid":"`+player+`"}`, string(body))
}

func (w *loginWorld) stored(path string) map[string]any {
	w.t.Helper()
	secret, err := w.vault.root.Logical().Read(w.mount + "/" + path + "midas/" + appID + "/sessions/" + player)
	require.NoError(w.t, err)
	require.NotNil(w.t, secret)
	return secret.Data
}

// pays orders a coin, in v1 or v2.
func (w *loginWorld) pays(billNo string) {
	w.t.Helper()
	a := call(w.t, w.sidecar+"/cgi-bin/midas/pay", order(billNo))
	require.Equal(w.t, "applied", a.outcome, a.Errmsg)
}

// noneSeen ends the process: nothing of the logins is in what it printed, but for the
// player in the lines of orders.
func (w *loginWorld) noneSeen(hidden ...string) {
	w.t.Helper()
	require.NoError(w.t, w.process.interrupt(w.t))
	for _, text := range append(hidden, w.sessionKey(), simulator.Demo().Apps[appID].Secret) {
		require.NotContains(w.t, w.process.output.String(), text)
	}
	for line := range strings.Lines(w.process.output.String()) {
		if !strings.Contains(line, `"msg":"order"`) {
			require.NotContains(w.t, line, player)
		}
	}
}

func TestThreeLoginsLeaveOneVersionInVault(t *testing.T) {
	w := newLoginWorld(t, 2)
	for i := range 3 {
		w.logIn()
		w.pays(fmt.Sprint("b", i))
	}
	require.Equal(t, map[string]any{"session_key": w.sessionKey()}, w.stored("data/")["data"])
	metadata := w.stored("metadata/")
	require.Equal(t, json.Number("1"), metadata["max_versions"])
	require.Equal(t, json.Number("3"), metadata["current_version"])
	require.Len(t, metadata["versions"], 1)
	w.noneSeen()
}

func TestIntoAVaultOfVersion1PlayersLogInToo(t *testing.T) {
	w := newLoginWorld(t, 1, "metadata", "/data/")
	for i := range 2 {
		w.logIn()
		w.pays(fmt.Sprint("b", i))
	}
	require.Equal(t, map[string]any{"session_key": w.sessionKey()}, w.stored(""))
	w.noneSeen()
}

func TestWithoutTheRightToMetadataPlayersLogInAndTheLogSaysSoOnce(t *testing.T) {
	w := newLoginWorld(t, 2, "metadata")
	for i := range 3 {
		w.logIn()
		w.pays(fmt.Sprint("b", i))
	}
	require.Equal(t, map[string]any{"session_key": w.sessionKey()}, w.stored("data/")["data"])
	require.Len(t, w.stored("metadata/")["versions"], 3)
	w.noneSeen()
	require.Equal(t, 1, strings.Count(w.process.output.String(), "vault keeps old versions of what is written"))
}

func TestAPolicyThatAllowsNoWritingDropsTheKey(t *testing.T) {
	w := newLoginWorld(t, 2, "metadata", "/data/")
	a := call(t, w.sidecar+"/sns/jscode2session", `{"js_code":"`+w.jsCode()+`"}`)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "secrets_unavailable", a.Error)
	require.Equal(t, "rejected", a.outcome)
	require.NotContains(t, a.Errmsg, w.sessionKey())
	secret, err := w.vault.root.Logical().Read(w.mount + "/data/midas/" + appID + "/sessions/" + player)
	require.NoError(t, err)
	require.Nil(t, secret)
	w.noneSeen()
}

// Login, pay, lost answer, replay, another login that ends the session before, pay, and
// some of it back.
func TestAPlayersWholeWay(t *testing.T) {
	for _, family := range []struct{ pay, order string }{
		{"/cgi-bin/midas/pay", `{"openid":"` + player + `","amt":100,"bill_no":"%s"}`},
		{"/wxa/game/pay", `{"openid":"` + player + `","amount":100,"bill_no":"%s"}`},
	} {
		t.Run(family.pay, func(t *testing.T) {
			w := newLoginWorld(t, 2)
			balance := func() int64 { return w.weChat.Purse(appID, player, wechat.Official).Balance }
			pay := func(billNo string) answer { return call(t, w.sidecar+family.pay, fmt.Sprintf(family.order, billNo)) }
			require.Equal(t, "session_missing", pay("Way_0").Error)
			w.logIn()
			require.Equal(t, "applied", pay("Way_1").outcome)
			require.Equal(t, int64(9900), balance())

			require.NoError(t, w.weChat.Plan(simulator.Plan{Rules: []simulator.Rule{{API: "pay", Faults: []simulator.Fault{{Kind: "lost_after"}}}}}))
			require.Equal(t, "already_applied", pay("Way_2").outcome)
			require.Equal(t, "already_applied", pay("Way_2").outcome, "replayed")
			require.Equal(t, int64(9800), balance())

			code := w.jsCode() // which ends the session
			a := pay("Way_3")
			require.Equal(t, "session_missing", a.Error, a.Errmsg)
			require.Contains(t, a.Errmsg, "wx.login")
			require.Equal(t, "applied", call(t, w.sidecar+"/sns/jscode2session", `{"js_code":"`+code+`"}`).outcome)
			a = pay("Way_3")
			require.Equal(t, "applied", a.outcome, a.Errmsg)
			require.Equal(t, int64(9700), balance())

			refund := `{"openid":"` + player + `","bill_no":"Way_3"}`
			left := int64(9800)
			if strings.HasPrefix(family.pay, "/wxa/") {
				refund = `{"openid":"` + player + `","bill_no":"Back_3","pay_bill_no":"Way_3","amount":40}`
				left = 9740
			}
			a = call(t, w.sidecar+strings.Replace(family.pay, "pay", "cancelpay", 1), refund)
			require.Equal(t, "applied", a.outcome, a.Errmsg)
			require.Equal(t, left, balance())
			w.noneSeen(code)
		})
	}
}

// The command that the README shows.
func TestTheREADMEsLoginLogsIn(t *testing.T) {
	w := newLoginWorld(t, 2)
	dir := t.TempDir()
	shell := newShell(t, dir)
	text := strings.NewReplacer("http://127.0.0.1:8080", w.sidecar, "0a1b2C", w.jsCode()).Replace(inREADME(t, "sh"))
	require.Contains(t, shell.run(t, text), "Midas-Outcome: applied")
	w.pays("b1")

	site := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(site, []byte("{\nmidas {\nsecrets file /nowhere\napp wx1 {\noffer_id 1\n}\n}\n}\n"+inREADME(t, "caddyfile")), 0o600))
	require.NoError(t, <-run(t, "validate", "--config", site).ended)
}
