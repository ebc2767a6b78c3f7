package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serving starts a program as nobody, with core files allowed, and returns its
// directory in /proc once it is up.
func serving(t *testing.T, program string, args ...string) (proc string) {
	t.Helper()
	command := exec.Command("sh", append([]string{"-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$@"`, "sh", program}, args...)...)
	command.Env = append(os.Environ(), "HOME="+t.TempDir())
	asNobody(command)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	proc = fmt.Sprint("/proc/", command.Process.Pid)
	require.Eventually(t, func() bool {
		running, err := os.Readlink(proc + "/exe")
		return err != nil || running == program
	}, 20*time.Second, 10*time.Millisecond)
	return proc
}

// owner returns who owns the memory of a process: root, where it may not be dumped.
func owner(t *testing.T, proc string) uint32 {
	t.Helper()
	info, err := os.Stat(proc + "/mem")
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Uid
}

func TestTheMemoryOfTheProcessIsNobodysToRead(t *testing.T) {
	built, err := productBinary()
	require.NoError(t, err)
	binary := filepath.Join(openDir(t), "midas-sidecar")
	copyFile(t, built, binary)
	user := uint32(os.Getuid())
	if user == 0 {
		user = nobody
	}
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	sleep, err = filepath.EvalSymlinks(sleep)
	require.NoError(t, err)
	require.Equal(t, user, owner(t, serving(t, sleep, "60")), "any other process")

	proc := serving(t, binary, "simulator", "--listen", "127.0.0.1:0")
	require.Eventually(t, func() bool { return owner(t, proc) == 0 }, 20*time.Second, 10*time.Millisecond)
	limits, err := os.ReadFile(proc + "/limits")
	require.NoError(t, err)
	require.Regexp(t, `Max core file size +0 +0 `, string(limits))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o755))
}
