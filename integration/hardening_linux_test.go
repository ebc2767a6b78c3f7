package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// openBinary is the product where nobody may run it.
func openBinary(t *testing.T) string {
	t.Helper()
	built, err := productBinary()
	require.NoError(t, err)
	binary := filepath.Join(openDir(t), "midas-sidecar")
	copyFile(t, built, binary)
	return binary
}

func TestTheMemoryOfTheProcessIsNobodysToRead(t *testing.T) {
	binary := openBinary(t)
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

func TestAProcessWhoseMemoryIsHiddenReloadsItsConfig(t *testing.T) {
	binary := openBinary(t)
	caddyfile, port, admin := filepath.Join(filepath.Dir(binary), "Caddyfile"), freePort(t), freePort(t)
	says := func(text string) {
		config := fmt.Sprintf("{\n admin 127.0.0.1:%s\n persist_config off\n midas {\n secrets file /nowhere\n app wx1 {\n offer_id 1\n }\n }\n }\n"+
			"http://127.0.0.1:%s {\n bind 127.0.0.1\n midas\n respond %s\n }\n", admin, port, text)
		require.NoError(t, os.WriteFile(caddyfile, []byte(config), 0o644))
	}
	requireSaid := func(proc, text string) {
		t.Helper()
		require.Eventually(t, func() bool {
			res, err := http.Get("http://127.0.0.1:" + port)
			if err != nil {
				return false
			}
			defer func() { _ = res.Body.Close() }()
			said, _ := io.ReadAll(res.Body)
			return string(said) == text
		}, 20*time.Second, 20*time.Millisecond)
		require.Zero(t, owner(t, proc))
	}
	says("first")
	proc := serving(t, binary, "run", "--config", caddyfile)
	requireSaid(proc, "first")

	says("second")
	reload := exec.Command(binary, "reload", "--config", caddyfile)
	asNobody(reload)
	output, err := reload.CombinedOutput()
	require.NoError(t, err, string(output))
	requireSaid(proc, "second")

	says("third")
	pid, err := strconv.Atoi(filepath.Base(proc))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGUSR1))
	requireSaid(proc, "third")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o755))
}
