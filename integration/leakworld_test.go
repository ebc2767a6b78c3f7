package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// leakWorld is a sidecar that tells all it can, between a Vault and a WeChat that
// are listened to.
type leakWorld struct {
	t *testing.T
	canaries
	places

	vault   *testVault
	moody   *moodyVault
	role    *testRole
	weChat  *simulator.Simulator
	front   *httptest.Server // of WeChat
	mood    atomic.Pointer[mood]
	dir     string
	config  string
	text    string // of config
	sidecar string // the site that refuses callers who sign
	other   string // the site with policies
	admin   string
	process *process
	home    string
	// unlogged are the parameters of queries that the README's filter leaves out.
	unlogged []string

	orders atomic.Int32
	seen   sync.Map // outcomes and problems that callers were told
}

// mood is how WeChat answers calls to some paths.
type mood struct {
	path   string // a part of it
	answer http.HandlerFunc
}

const (
	newcomer = "oNewcomer_with_no_session_key_01"
	absentee = "oAbsentee_who_is_in_no_store_002"
)

// secretText is one that no other secret resembles, with what URLs and JSON escape, and base64 as WeChat's are.
func secretText() string {
	random := make([]byte, 24)
	_, _ = rand.Read(random)
	return base64.StdEncoding.EncodeToString(random)[:28] + "+/=="
}

func newLeakWorld(t *testing.T) *leakWorld {
	t.Helper()
	w := &leakWorld{t: t, vault: startOwnVault(t), dir: t.TempDir()}
	w.vault.mountKV(t, "secret", 2)
	state := simulator.Demo()
	app := state.Apps[appID]
	app.Secret, app.MidasKey, app.MidasKeySandbox = secretText()+`&"<`, secretText(), secretText()
	app.Players[player].SessionKey = secretText()
	app.Players[newcomer] = &simulator.Player{SessionKey: secretText(), Official: simulator.Purse{Balance: 1000}}
	for class, value := range map[string]string{
		"app_secret": app.Secret, "midas_key": app.MidasKey, "midas_key_sandbox": app.MidasKeySandbox,
		"session_key": app.Players[player].SessionKey,
	} {
		w.canaries.add(class, value)
	}
	w.canaries.add("session_key", app.Players[newcomer].SessionKey)
	w.put("midas/"+appID, map[string]any{"midas_key": app.MidasKey, "midas_key_sandbox": app.MidasKeySandbox, "app_secret": app.Secret})
	w.put("midas/"+appID+"/sessions/"+player, map[string]any{"session_key": app.Players[player].SessionKey})

	var err error
	w.weChat, err = simulator.New(state, simulator.Options{})
	require.NoError(t, err)
	w.front = httptest.NewServer(http.HandlerFunc(w.listenToWeChat))
	t.Cleanup(w.front.Close)
	w.moody = w.vault.moody(t)
	inner := w.moody.handler
	w.moody.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.listenToVault(inner, rw, r) })
	w.role = w.vault.role(t, withTokens(nil), midasPaths...)
	w.allow()
	w.canaries.add("role_id", w.role.roleID)
	w.canaries.add("secret_id", w.role.secretID)
	w.configure()
	return w
}

// allow lets the sidecar read all that it needs, and store session_keys.
func (w *leakWorld) allow() {
	w.role.allow(w.t, midasPaths[0]) // the other would be the more exact one, and win
	policy, err := w.vault.root.Sys().GetPolicy(w.role.mount)
	require.NoError(w.t, err)
	require.NoError(w.t, w.vault.root.Sys().PutPolicy(w.role.mount, policy+inREADME(w.t, "hcl")))
}

func (w *leakWorld) put(path string, fields map[string]any) { w.vault.put(w.t, "secret", path, fields) }

// listenToWeChat notes the signatures and the token of each call, then answers as the
// mood is.
func (w *leakWorld) listenToWeChat(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct {
		Sig   string `json:"sig"`
		MPSig string `json:"mp_sig"`
	}
	_ = json.Unmarshal(body, &signed)
	w.canaries.add("sig", signed.Sig)
	w.canaries.add("mp_sig", signed.MPSig)
	query := r.URL.Query()
	for _, name := range []string{"access_token", "pay_sig", "signature"} {
		w.canaries.add(name, query.Get(name))
	}
	if m := w.mood.Load(); m != nil && strings.Contains(r.URL.Path, m.path) {
		m.answer(rw, r)
		return
	}
	w.weChat.ServeHTTP(rw, r)
}

// listenToVault notes the tokens of each call and of each login.
func (w *leakWorld) listenToVault(vault http.Handler, rw http.ResponseWriter, r *http.Request) {
	w.canaries.add("vault_token", r.Header.Get("X-Vault-Token"))
	answer := httptest.NewRecorder()
	vault.ServeHTTP(answer, r)
	var login struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &login)
	w.canaries.add("vault_token", login.Auth.ClientToken)
	maps.Copy(rw.Header(), answer.Header())
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}

// configure writes a config that logs all there is.
func (w *leakWorld) configure() {
	for name, text := range map[string]string{"role_id": w.role.roleID, "secret_id": w.role.secretID} {
		require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
	}
	port, other := freePort(w.t), freePort(w.t)
	w.sidecar, w.other, w.admin = "http://127.0.0.1:"+port, "http://127.0.0.1:"+other, "127.0.0.1:"+freePort(w.t)
	shown := `header >Midas-Shown "{http.midas.outcome} {http.midas.errcode} {http.midas.attempts} {http.midas.api}"`
	w.text = fmt.Sprintf(`{
	admin %[1]s
	metrics
	log {
		output file %[2]s/log.json
		level DEBUG
	}
	log printed {
		output stderr
		format console
		level DEBUG
		exclude http.log.access
	}
	servers {
		trace
	}
	midas {
		secrets vault http://%[3]s {
			auth approle {
				role_id {file.%[2]s/role_id}
				secret_id {file.%[2]s/secret_id}
				mount %[4]s
			}
			timeout 300ms
		}
		cache {
			fresh 1s
		}
		app %[5]s {
			offer_id 12345678
		}
		upstream %[6]s
		deadline 600ms
		attempt_timeout 200ms
	}
}

%[7]s {
	bind 127.0.0.1
	log {
		output file %[2]s/access.json
		%[10]s
	}
	%[9]s
	midas_health
	midas {
		login
	}
}

%[8]s {
	bind 127.0.0.1
	log {
		output file %[2]s/access.json
		%[10]s
	}
	%[9]s
	handle_path /pass/* {
		route {
			midas {
				signed pass
			}
			respond "passed"
		}
	}
	handle {
		midas {
			signed resign
			apis pay getbalance
			max_amount 1000
			environment official
		}
	}
}
`, w.admin, w.dir, w.moody.address, w.role.mount, appID, w.front.URL, w.sidecar, w.other, shown, w.filter())
	w.config = filepath.Join(w.dir, "Caddyfile")
	w.write(w.text)
}

var deleted = regexp.MustCompile(`delete (\w+)`)

// filter is the one that the README gives for access logs.
func (w *leakWorld) filter() string {
	for _, b := range readme(w.t) {
		if _, after, found := strings.Cut(b.text, "\tlog {\n"); found && strings.Contains(after, "request>uri") {
			filter, _, _ := strings.Cut(after, "\n\t}\n")
			for _, match := range deleted.FindAllStringSubmatch(filter, -1) {
				w.unlogged = append(w.unlogged, match[1])
			}
			require.Subset(w.t, w.unlogged, []string{"access_token", "signature", "pay_sig", "sig", "mp_sig"})
			return filter
		}
	}
	require.Fail(w.t, "the README has no filter")
	return ""
}

func (w *leakWorld) write(text string) {
	require.NoError(w.t, os.WriteFile(w.config, []byte(text), 0o600))
}

func (w *leakWorld) start() {
	w.process = run(w.t, "run", "--config", w.config)
	for _, pair := range w.process.Env {
		if home, ok := strings.CutPrefix(pair, "HOME="); ok {
			w.home = home // the last one counts
		}
	}
	w.process.waitFor(w.t, w.sidecar)
}

// command runs another of the product's commands to its end.
func (w *leakWorld) command(args ...string) {
	p := run(w.t, args...)
	select {
	case err := <-p.ended:
		w.t.Logf("%v: %v", args[0], err) // some are refused
	case <-time.After(20 * time.Second):
		require.Fail(w.t, "did not end", "%v", args)
	}
	w.places.add("printed by "+args[0], p.output.String())
}

// ask makes a call, and keeps what it is told for the search.
func (w *leakWorld) ask(ctx context.Context, method, url, body string, header ...string) string {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	var answer bytes.Buffer
	_ = res.Write(&answer)
	place := "answers"
	if strings.Contains(url, w.admin) {
		place = "admin " + req.URL.Path
	}
	text := answer.String()
	if strings.Contains(url, wechat.Code2SessionPath) {
		text = strings.ReplaceAll(text, player, "…") // a login tells who the player is, and nobody else does
	}
	w.places.add(place, text)
	w.seen.Store(res.Header.Get("Midas-Outcome"), true)
	w.seen.Store(res.Header.Get("Midas-Error"), true)
	return res.Header.Get("Midas-Outcome") + res.Header.Get("Midas-Error")
}

func (w *leakWorld) billNo() string { return fmt.Sprint("b", w.orders.Add(1)) }

// pay orders 1 coin anew.
func (w *leakWorld) pay() string {
	return w.ask(w.t.Context(), http.MethodPost, w.sidecar+"/cgi-bin/midas/pay",
		fmt.Sprintf(`{"openid":"%s","amt":1,"bill_no":"%s"}`, player, w.billNo()))
}

// payV2 is pay in v2.
func (w *leakWorld) payV2() string {
	return w.post(w.sidecar+"/wxa/game/pay", fmt.Sprintf(`{"openid":"%s","amount":1,"bill_no":"%s"}`, player, w.billNo()))
}

// logIn logs the player in with a new js_code, which ends the session before.
func (w *leakWorld) logIn() string {
	code, err := w.weChat.Login(appID, player)
	require.NoError(w.t, err)
	w.canaries.add("js_code", code)
	w.canaries.add("session_key", w.weChat.State().Apps[appID].Players[player].SessionKey)
	at := w.sidecar + wechat.Code2SessionPath
	if w.orders.Add(1)%2 == 0 {
		return w.ask(w.t.Context(), http.MethodPost, at, `{"js_code":"`+code+`"}`)
	}
	return w.ask(w.t.Context(), http.MethodGet, at+"?js_code="+code, "")
}

// logsInAgain ends what was left behind.
func (w *leakWorld) logsInAgain() {
	require.Eventually(w.t, func() bool { return w.logIn() == "applied" }, 15*time.Second, 50*time.Millisecond)
	w.paysAgain()
}

func (w *leakWorld) paysAgain() {
	require.Eventually(w.t, func() bool { return w.pay() == "applied" }, 15*time.Second, 50*time.Millisecond)
}

func (w *leakWorld) forget() {
	w.ask(w.t.Context(), http.MethodPost, "http://"+w.admin+"/midas/forget", "{}")
}

// look reads all that the admin API and the health checks show.
func (w *leakWorld) look() {
	for _, path := range []string{
		"/config/", "/metrics", "/midas/status", "/midas/health/live", "/midas/health/ready", "/debug/vars", "/debug/pprof/",
		"/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?debug=1", "/debug/pprof/allocs?debug=1",
		"/reverse_proxy/upstreams", "/midas/unknown",
	} {
		w.ask(w.t.Context(), http.MethodGet, "http://"+w.admin+path, "")
	}
	for _, path := range []string{"/midas/health/live", "/midas/health/ready"} {
		w.ask(w.t.Context(), http.MethodGet, w.sidecar+path, "")
	}
}

// collect adds what was written and printed, when the process has ended.
func (w *leakWorld) collect() {
	for name, path := range map[string]string{
		"log file": filepath.Join(w.dir, "log.json"), "access log": filepath.Join(w.dir, "access.json"),
		"autosave.json": filepath.Join(w.home, ".config/caddy/autosave.json"),
	} {
		text, err := os.ReadFile(path)
		require.NoError(w.t, err)
		w.places.add(name, string(text))
	}
	for _, tokens := range w.weChat.State().Tokens {
		for _, token := range tokens.Issued {
			w.canaries.add("access_token", token.AccessToken)
		}
	}
}
