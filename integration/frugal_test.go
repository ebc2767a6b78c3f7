package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHalfOfTheCPUsAreLeftToTheGameServer(t *testing.T) {
	t.Setenv("GOMAXPROCS", "") // so that it is put back
	require.NoError(t, os.Unsetenv("GOMAXPROCS"))
	// The limit of a container is a share of its own.
	requireStartsWith(t, fmt.Sprintf("Leaving GOMAXPROCS=%d:|determined from CPU quota|using minimum allowed GOMAXPROCS", max(1, runtime.NumCPU()/2)))
}

func TestTheEnvironmentSaysHowManyCPUsToUse(t *testing.T) {
	t.Setenv("GOMAXPROCS", "7")
	requireStartsWith(t, "Honoring GOMAXPROCS=.*7")
}

// runBare starts the product with nothing but an admin API, at an address or "off".
func runBare(t *testing.T, admin string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte("{\n\tadmin "+admin+"\n\tpersist_config off\n}\n"), 0o600))
	return run(t, "run", "--config", file)
}

// requireStartsWith starts the product and waits for a line of its log.
func requireStartsWith(t *testing.T, line string) {
	t.Helper()
	p, said := runBare(t, "off"), regexp.MustCompile(line)
	require.Eventually(t, func() bool { return said.MatchString(p.output.String()) }, 20*time.Second, 10*time.Millisecond)
}

func TestTheSidecarCollectsGarbageEarlyUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	for set, percent := range map[string]string{"": "50", "150": "150"} {
		t.Setenv("GOGC", set)
		admin := "127.0.0.1:" + freePort(t)
		runBare(t, admin).waitFor(t, "http://"+admin+"/metrics")
		res, err := http.Get("http://" + admin + "/metrics")
		require.NoError(t, err)
		metrics, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		require.NoError(t, err)
		require.Contains(t, string(metrics), "\ngo_gc_gogc_percent "+percent+"\n")
	}
}
