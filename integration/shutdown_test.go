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
)

// A process that is told to stop says so to balancers at once, and serves on until they
// have had the time to send it nothing more.
func TestDuringShutdownDelayCallsAreTakenAndNoMoreAreAskedFor(t *testing.T) {
	t.Parallel()
	_, weChat := simulated(t)
	dir := t.TempDir()
	admin, port := freePort(t), freePort(t)
	config := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.json"), []byte(`{
		"midas/wx1234567": {"midas_key": "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u", "app_secret": "demo-app-secret-of-the-simulator"},
		"midas/wx1234567/sessions/`+player+`": {"session_key": "V7Q38/i2KXaqrQyl2Yx9Hg=="}
	}`), 0o600))
	require.NoError(t, os.WriteFile(config, []byte(strings.NewReplacer("ADMIN", admin, "PORT", port, "KEYS", dir+"/keys.json", "WECHAT", weChat).Replace(`{
		admin 127.0.0.1:ADMIN
		shutdown_delay 3s
		grace_period 10s
		midas {
			secrets file KEYS
			upstream WECHAT
			app wx1234567 {
				offer_id 12345678
			}
		}
	}
	http://127.0.0.1:PORT {
		bind 127.0.0.1
		midas
		midas_health
	}`)), 0o600))
	sidecar, api := "http://127.0.0.1:"+port, "http://127.0.0.1:"+admin
	p := run(t, "run", "--config", config)
	p.waitFor(t, sidecar)
	status := func(url string) int {
		res, err := http.Get(url)
		require.NoError(t, err)
		_ = res.Body.Close()
		return res.StatusCode
	}
	for _, base := range []string{sidecar, api} {
		require.Equal(t, http.StatusOK, status(base+"/midas/health/ready"))
	}
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return status(sidecar+"/midas/health/ready") == http.StatusServiceUnavailable }, 2*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, status(api+"/midas/health/ready"))
	require.Equal(t, http.StatusOK, status(sidecar+"/midas/health/live"))
	require.Equal(t, "applied", call(t, sidecar+"/cgi-bin/midas/pay", order("b1")).outcome)
	select {
	case err := <-p.ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it did not end")
	}
}
