//go:build unix

package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// The old config's server is no longer one of those that Caddy stops. Its callers get
// their answers, also where Caddy gives up earlier than they do.
func TestOrdersOfAnOldConfigAreAnsweredThoughTheProcessIsToldToStop(t *testing.T) {
	for name, grace := range map[string]string{
		"grace_period":                         "grace_period 30s",
		"a grace_period shorter than an order": "grace_period 100ms",
		"no grace_period":                      "",
	} {
		t.Run(name, func(t *testing.T) {
			const callers = 20
			weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
			require.NoError(t, err)
			var arrived sync.WaitGroup
			arrived.Add(callers)
			landed := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/pay") {
					arrived.Done()
					<-landed
				}
				weChat.ServeHTTP(w, r)
			}))
			t.Cleanup(server.Close)
			land := sync.OnceFunc(func() { close(landed) })
			t.Cleanup(land) // before the server waits for its calls to end

			p, sidecar := withFileSecrets(t, server.URL, "attempt_timeout 9s")
			config := p.Args[len(p.Args)-1]
			text, err := os.ReadFile(config)
			require.NoError(t, err)
			old := strings.Replace(string(text), "grace_period 100ms", grace, 1)
			require.NoError(t, os.WriteFile(config, []byte(old), 0o600))
			reload := func(times int) {
				require.NoError(t, p.Process.Signal(syscall.SIGUSR1))
				require.Eventually(t, func() bool {
					return strings.Count(p.output.String(), "successfully reloaded config from file") == times
				}, 10*time.Second, 10*time.Millisecond)
			}
			// Caddy listens a moment before it listens to signals.
			require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/getbalance", `{"openid":"`+player+`"}`).outcome)
			reload(1)

			outcomes := make(chan string, callers)
			for n := range callers {
				go func() {
					caller := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%2 == 0}}
					res, err := caller.Post(sidecar+"/cgi-bin/midas/pay", "application/json", strings.NewReader(order(fmt.Sprint("b", n))))
					if err != nil {
						outcomes <- err.Error()
						return
					}
					_ = res.Body.Close()
					outcomes <- res.Header.Get("Midas-Outcome")
				}()
			}
			arrived.Wait()
			require.NoError(t, os.WriteFile(config, []byte(strings.Replace(old, "attempt_timeout 9s", "attempt_timeout 8s", 1)), 0o600))
			reload(2)
			require.NoError(t, p.Process.Signal(syscall.SIGTERM))
			require.Never(t, func() bool { return len(p.ended) > 0 }, 500*time.Millisecond, 50*time.Millisecond)
			land()
			for range callers {
				require.Equal(t, "applied", <-outcomes)
			}
			select {
			case err := <-p.ended:
				require.NoError(t, err)
			case <-time.After(15 * time.Second):
				require.Fail(t, "it does not end")
			}
			require.Equal(t, int64(10000-callers*123), weChat.Purse(appID, player, wechat.Official).Balance)
		})
	}
}
