package integration

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheBinarySpeaksOfItself(t *testing.T) {
	binary, err := productBinary()
	require.NoError(t, err)
	out, err := exec.Command(binary, "version").CombinedOutput()
	require.NoError(t, err)
	require.Regexp(t, `^midas-sidecar \S+, Caddy v2\.\d+\.\d+ `, string(out))

	out, err = exec.Command(binary, "help").CombinedOutput()
	require.NoError(t, err)
	require.Regexp(t, `^midas-sidecar signs WeChat's virtual payment`, string(out))
	require.Contains(t, string(out), "midas-sidecar [command]")
}

func TestTheBinaryRefusesToBeReplaced(t *testing.T) {
	binary, err := productBinary()
	require.NoError(t, err)
	for _, command := range []string{"upgrade", "add-package", "remove-package"} {
		out, err := exec.Command(binary, command, "github.com/example/module").CombinedOutput()
		require.Error(t, err, command)
		require.Contains(t, string(out), "midas-sidecar "+command+": refused: it would put a stock Caddy")
	}
}
