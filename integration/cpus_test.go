package integration

import (
	"fmt"
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
	requireStartsWith(t, fmt.Sprintf("Leaving GOMAXPROCS=%d:|determined from CPU quota", max(1, runtime.NumCPU()/2)))
}

func TestTheEnvironmentSaysHowManyCPUsToUse(t *testing.T) {
	t.Setenv("GOMAXPROCS", "7")
	requireStartsWith(t, "Honoring GOMAXPROCS=.*7")
}

// requireStartsWith starts the product and waits for a line of its log.
func requireStartsWith(t *testing.T, line string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte("{\n\tadmin off\n\tpersist_config off\n}\n"), 0o600))
	p, said := run(t, "run", "--config", file), regexp.MustCompile(line)
	require.Eventually(t, func() bool { return said.MatchString(p.output.String()) }, 20*time.Second, 10*time.Millisecond)
}
