package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// withFileSecrets is a sidecar in front of a simulated WeChat, with its keys in a
// file, run from the product's binary.
func withFileSecrets(t *testing.T, weChat, more string) (p *process, sidecar string) {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	keys := filepath.Join(dir, "keys.json")
	require.NoError(t, os.WriteFile(keys, []byte(`{
		"midas/wx1234567": {
			"midas_key": "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u",
			"midas_key_sandbox": "sandboxKeyForTestsOnly0123456789",
			"app_secret": "demo-app-secret-of-the-simulator"
		},
		"midas/wx1234567/sessions/`+player+`": {"session_key": "V7Q38/i2KXaqrQyl2Yx9Hg=="}
	}`), 0o600))
	config := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(config, []byte(`{
		admin off
		grace_period 100ms
		midas {
			secrets file `+keys+`
			app wx1234567 {
				offer_id 12345678
			}
			upstream `+weChat+`
			`+more+`
		}
	}
	http://127.0.0.1:`+port+` {
		bind 127.0.0.1
		midas
	}`), 0o600))
	sidecar = "http://127.0.0.1:" + port
	p = run(t, "run", "--config", config)
	p.waitFor(t, sidecar)
	return p, sidecar
}

// holding is a WeChat that keeps the first pay until it is let go.
func holding(t *testing.T) (weChat *simulator.Simulator, url string, arrived <-chan struct{}, letGo func()) {
	t.Helper()
	weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
	require.NoError(t, err)
	here, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pay") {
			close(here)
			<-release
		}
		weChat.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	letGo = sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo) // before the server waits for its calls to end
	return weChat, server.URL, here, letGo
}

func TestAnOrderInFlightIsFollowedThoughTheCallerLeavesAndTheProcessIsToldToStop(t *testing.T) {
	weChat, url, arrived, letGo := holding(t)
	p, sidecar := withFileSecrets(t, url, "")

	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sidecar+"/cgi-bin/midas/pay", strings.NewReader(order("b1")))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	left := make(chan struct{})
	go func() {
		defer close(left)
		if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-arrived
	hangUp()
	<-left
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))

	// Longer than grace_period: the http app has given up by now.
	require.Never(t, func() bool { return len(p.ended) > 0 }, 500*time.Millisecond, 50*time.Millisecond)
	letGo()
	require.NoError(t, <-p.ended)
	require.Contains(t, p.output.String(), `"outcome":"applied"`)
	require.Equal(t, int64(10000-123), weChat.Purse(appID, player, wechat.Official).Balance)
}

func TestAGameServerCanRehearseABadDay(t *testing.T) {
	weChat, weChatURL := simulated(t)
	_, sidecar := withFileSecrets(t, weChatURL, "attempt_timeout 200ms")
	require.NoError(t, weChat.Plan(simulator.Plan{Rules: []simulator.Rule{{
		Faults: []simulator.Fault{{Kind: "reset_body_after"}, {Kind: "hang_before"}, {Kind: "busy_before"}},
	}}}))
	a := call(t, sidecar+"/cgi-bin/midas/pay", order("b1"))
	require.Equal(t, "already_applied", a.outcome)
	require.Equal(t, 90012, a.Errcode)
	require.Equal(t, int64(10000-123), weChat.Purse(appID, player, wechat.Official).Balance)
}
