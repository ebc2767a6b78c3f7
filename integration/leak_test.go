package integration

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/wechat"
)

// Whatever happens, and however much is logged: no secret is anywhere outside of the
// process and the two whom it speaks to.
func TestNoSecretLeavesTheProcess(t *testing.T) {
	t.Parallel()
	w := newLeakWorld(t)
	w.command("validate", "--config", w.config)
	w.command("adapt", "--config", w.config)
	w.command("adapt", "--config", w.config, "--pretty")
	w.start()
	for _, phase := range []struct {
		name  string
		drive func(*leakWorld)
	}{
		{"payments that go well", (*leakWorld).goWell},
		{"calls that are refused", (*leakWorld).areRefused},
		{"faults of WeChat", (*leakWorld).weChatFails},
		{"faults of stable_token", (*leakWorld).stableTokenFails},
		{"logins, good and bad", (*leakWorld).playersLogIn},
		{"logins with peers that repeat what they are told", (*leakWorld).loginsAreEchoed},
		{"a WeChat that repeats what it is told", (*leakWorld).weChatEchoes},
		{"keys that change", (*leakWorld).keysChange},
		{"a Vault that is away", (*leakWorld).vaultIsAway},
		{"a Vault that repeats what it is told", (*leakWorld).vaultEchoes},
		{"values that are none", (*leakWorld).valuesAreBroken},
		{"orders that are taken back", (*leakWorld).areTakenBack},
		{"reloads", (*leakWorld).reloads},
		{"peers that repeat what they are told, after reloads", (*leakWorld).peersAddEchoes},
		{"callers who hang up", (*leakWorld).callersHangUp},
	} {
		began := time.Now()
		phase.drive(w)
		w.look()
		t.Logf("%-40s %s", phase.name, time.Since(began).Round(time.Millisecond))
	}
	w.end()
	w.collect()

	for _, told := range []string{
		"applied", "already_applied", "duplicate", "rejected", "unknown", "not_sent",
		"invalid_request", "unknown_app", "forbidden", "session_missing", "bill_no_conflict",
		"secrets_unavailable", "token_unavailable", "upstream_unreachable", "outcome_unknown", "taken_back",
	} {
		_, seen := w.seen.Load(told)
		assert.True(t, seen, "no caller was told %s", told)
	}
	counts := w.canaries.count()
	for _, class := range []string{
		"midas_key", "midas_key_sandbox", "app_secret", "session_key", "access_token", "vault_token", "role_id", "secret_id", "sig", "mp_sig", "pay_sig", "signature", "caller's sig", "js_code",
	} {
		require.NotZero(t, counts[class], class)
	}
	require.Contains(t, w.places.texts["log file"].String(), `"level":"debug"`)
	require.Contains(t, w.places.texts["log file"].String(), "http.handlers.midas")
	require.Contains(t, w.places.texts["log file"].String(), `"name":"midas.order_unknown"`)
	require.Contains(t, w.places.texts["log file"].String(), `"openid":"`+player+`","zone_id":"1"`)
	require.Contains(t, w.places.texts["printed by run"].String(), `Unsolicited response received on idle HTTP channel starting with \"…\"`)
	require.Contains(t, w.places.texts["access log"].String(), "/cgi-bin/midas/pay?x=1\"")
	require.Contains(t, w.places.texts["access log"].String(), wechat.Code2SessionPath)
	require.Contains(t, w.places.texts["log file"].String(), `"msg":"login"`)
	require.Contains(t, w.places.texts["autosave.json"].String(), "{file."+w.dir)
	w.noneFound(t)
}

// A login that does not work shows nothing of what it was tried with.
func TestNoCredentialOfVaultLeavesTheProcess(t *testing.T) {
	t.Parallel()
	w := newLeakWorld(t)
	spent := w.role.wrap(t, w.role.path()+"/secret-id", nil)
	_, err := w.vault.root.Logical().Unwrap(spent)
	require.NoError(t, err)
	wrong := secretText() + secretText()
	people := w.vault.mountAuth(t, "userpass")
	approle := w.text[strings.Index(w.text, "auth approle"):strings.Index(w.text, "timeout 300ms")]
	for _, c := range []struct{ class, credential, auth string }{
		{"wrapped secret_id", spent, strings.Replace(approle, "/secret_id}", "/credential} wrapped", 1)},
		{"wrong secret_id", wrong, strings.Replace(approle, "/secret_id}", "/credential}", 1)},
		{"wrong token", "hvs." + wrong, "auth token {file." + w.dir + "/credential}\n"},
		{"wrong token file", "hvs." + wrong, "auth token_file " + w.dir + "/credential\n"},
		{"wrong password", wrong, "auth userpass {\n username midas\n password {file." + w.dir + "/credential}\n mount " + people + "\n}\n"},
	} {
		w.canaries.add(c.class, c.credential)
		require.NoError(t, os.WriteFile(w.dir+"/credential", []byte(c.credential), 0o600))
		w.write(strings.Replace(w.text, approle, c.auth, 1))
		w.start()
		require.Equal(t, "not_sentsecrets_unavailable", w.pay(), c.class)
		w.look()
		w.end()
	}
	w.collect()
	require.Equal(t, 1, w.canaries.count()["wrapped secret_id"])
	w.noneFound(t)
}

// noneFound searches all places.
func (w *leakWorld) noneFound(t *testing.T) {
	t.Helper()
	s, searched := w.canaries.search(), 0
	w.places.each(func(name, text string) {
		searched += len(text)
		t.Logf("%9d bytes: %s", len(text), name)
		require.NotEmpty(t, strings.TrimSpace(text), name)
		for _, hit := range s.in(text) {
			t.Errorf("%s: %s", name, hit)
		}
		for _, openid := range []string{player, newcomer, absentee} {
			if at := strings.Index(withoutOrders(text), openid); at >= 0 {
				t.Errorf("%s: an openid outside of the lines of orders", name)
			}
		}
		require.NotEmpty(t, s.in(text+" "+w.role.secretID), "%s: what is put there is found", name)
	})
	counts, secrets := w.canaries.count(), 0
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d × %s", counts[class], class)
		secrets += counts[class]
	}
	t.Logf("searched: %d secrets × %d forms × %d places, %d runs of %d characters, %d bytes",
		secrets, len(forms(secretText())), len(w.places.texts), len(s.runs), run16, searched)
}

// ordersPlayer is the field of an order's line that names the player, in either format.
var ordersPlayer = regexp.MustCompile(`(http\.handlers\.midas(?:"|\t).*\border\b.*"openid": ?")[^"]*`)

// withoutOrders is a log without the players of orders, who belong there and nowhere else.
func withoutOrders(log string) string { return ordersPlayer.ReplaceAllString(log, "$1") }

// end stops the process with an order in flight.
func (w *leakWorld) end() {
	var last sync.WaitGroup
	last.Go(func() { w.paysNot() })
	time.Sleep(50 * time.Millisecond)
	require.NoError(w.t, w.process.Process.Signal(syscall.SIGTERM))
	last.Wait()
	select {
	case err := <-w.process.ended:
		require.NoError(w.t, err)
	case <-time.After(20 * time.Second):
		require.Fail(w.t, "the process did not end")
	}
	w.places.add("printed by run", w.process.output.String())
}
