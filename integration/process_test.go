package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// productBinary builds the product once for all tests, as the README says.
var productBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "midas-sidecar-test-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "midas-sidecar")
	build := exec.Command("go", "build", "-o", binary, "./cmd/midas-sidecar")
	build.Dir = ".."
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return binary, nil
})

// process is a running midas-sidecar.
type process struct {
	*exec.Cmd
	output *output // what it printed so far
	ended  chan error
}

// run starts midas-sidecar. It ends with the test at the latest.
func run(t *testing.T, args ...string) *process {
	t.Helper()
	binary, err := productBinary()
	require.NoError(t, err)
	p := &process{Cmd: exec.Command(binary, args...), output: &output{}, ended: make(chan error, 1)}
	// No file of the person who runs the tests is read or written.
	p.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "XDG_DATA_HOME=")
	p.Stdout, p.Stderr = p.output, p.output
	require.NoError(t, p.Start())
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		if t.Failed() {
			t.Logf("midas-sidecar %v printed:\n%s", args, p.output)
		}
	})
	return p
}

// waitFor waits until the process answers at url, or ends.
func (p *process) waitFor(t *testing.T, url string) {
	t.Helper()
	for range 500 {
		if res, err := http.Get(url); err == nil {
			_ = res.Body.Close()
			return
		}
		select {
		case err := <-p.ended:
			require.Fail(t, "ended too early", "%v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	require.Fail(t, "did not answer", url)
}

// interrupt does what Ctrl-C does, and returns how the process ended.
func (p *process) interrupt(t *testing.T) error {
	t.Helper()
	require.NoError(t, p.Process.Signal(os.Interrupt))
	select {
	case err := <-p.ended:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("it did not end within 20s")
	}
}

// output is what a process prints, which may be read while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// freePort returns the port of an address of this host that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}
