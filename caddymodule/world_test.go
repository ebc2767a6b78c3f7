package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

const (
	appID  = "wx1234567"
	player = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
)

// world is a sidecar in front of a simulated WeChat. Caddy is one per process, so
// tests with a world do not run in parallel.
type world struct {
	t       testing.TB
	weChat  *simulator.Simulator
	hits    *hits // what reached WeChat
	keys    string
	config  string // Caddyfile
	sidecar string // URL
}

// hits counts calls by path and keeps the last.
type hits struct {
	mu    sync.Mutex
	paths map[string]int
	last  *http.Request
	body  string
}

func (h *hits) count(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paths[path]
}

// payments counts the calls that a caller asked for, which leaves the token out.
func (h *hits) payments() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := 0
	for path, n := range h.paths {
		if path != wechat.StableTokenPath {
			sum += n
		}
	}
	return sum
}

// newWorld starts a sidecar whose midas options and site hold the lines given.
// Without options, one app; without a site, the handler alone.
func newWorld(t testing.TB, options, site string) *world {
	t.Helper()
	simulated, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	w := &world{t: t, weChat: simulated, hits: &hits{paths: map[string]int{}}, keys: filepath.Join(t.TempDir(), "keys.json")}
	w.store(demoKeys)

	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		w.hits.mu.Lock()
		w.hits.paths[r.URL.Path]++
		w.hits.last, w.hits.body = r.Clone(t.Context()), string(body)
		w.hits.mu.Unlock()
		simulated.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)

	if options == "" {
		options = "app " + appID + " {\n offer_id 12345678\n }"
	}
	if site == "" {
		site = "midas"
	}
	w.load(fmt.Sprintf(`{
		admin off
		persist_config off
		log {
			output discard
		}
		midas {
			secrets file %q
			upstream %s
			%s
		}
	}
	http://127.0.0.1:0 {
		bind 127.0.0.1
		%s
	}`, w.keys, server.URL, options, site))
	return w
}

// load runs the sidecar with a Caddyfile for the time of the test.
func (w *world) load(caddyfile string) {
	w.t.Helper()
	w.reload(caddyfile)
	w.t.Cleanup(func() { require.NoError(w.t, caddy.Stop()) })
}

// reload changes the sidecar's config, and finds out where it listens.
func (w *world) reload(caddyfile string) {
	w.t.Helper()
	w.config = caddyfile
	config, err := adapt(caddyfile)
	require.NoError(w.t, err)
	require.NoError(w.t, caddy.Load(config, true))
	app, err := caddy.ActiveContext().App("http")
	require.NoError(w.t, err)
	for _, server := range app.(*caddyhttp.App).Servers {
		w.sidecar = "http://" + server.Listeners()[0].Addr().String()
	}
}

type keys map[string]map[string]string

var demoKeys = keys{
	"midas/" + appID: {
		"midas_key":         "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u",
		"midas_key_sandbox": "sandboxKeyForTestsOnly0123456789",
		"app_secret":        "demo-app-secret-of-the-simulator",
	},
	"midas/" + appID + "/sessions/" + player: {"session_key": "V7Q38/i2KXaqrQyl2Yx9Hg=="},
}

// store replaces the secrets file.
func (w *world) store(k keys) {
	w.t.Helper()
	text, err := json.Marshal(k)
	require.NoError(w.t, err)
	next := w.keys + ".next"
	require.NoError(w.t, os.WriteFile(next, text, 0o600))
	require.NoError(w.t, os.Rename(next, w.keys))
}

// answer is what a caller sees.
type answer struct {
	status  int
	header  http.Header
	body    string
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
	Error   string `json:"error"`
	Outcome string `json:"outcome"`
	BillNo  string `json:"bill_no"`
}

// post calls the sidecar as a game server does.
func (w *world) post(path, body string) answer {
	w.t.Helper()
	return w.do(http.MethodPost, path, body, "Content-Type", "application/json")
}

func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.sidecar+path, strings.NewReader(body))
	require.NoError(w.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(w.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	a := answer{status: res.StatusCode, header: res.Header, body: string(text)}
	_ = json.Unmarshal(text, &a) // not every answer is ours or WeChat's
	return a
}

// balance returns the player's coins.
func (w *world) balance(env wechat.Environment) int64 {
	return w.weChat.Purse(appID, player, env).Balance
}
