// Package integration tests the product end to end, through real sockets and
// against a real Vault.
package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// testVault is a real Vault, initialised and unsealed, that has nothing mounted
// but what Vault itself does.
type testVault struct {
	Address string
	root    *api.Client // with the root token

	unsealKey string
	stdin     io.Closer // closed, it ends the process
}

var sharedVault = sync.OnceValues(launchVault)

// startVault returns the Vault that all tests share, starting it for the first.
// Tests keep apart by mounts of their own. It ends with the test process.
func startVault(t *testing.T) *testVault {
	t.Helper()
	v, err := sharedVault()
	require.NoError(t, err)
	return v
}

// startOwnVault starts a Vault that the test may seal.
func startOwnVault(t *testing.T) *testVault {
	t.Helper()
	v, err := launchVault()
	require.NoError(t, err)
	t.Cleanup(func() { _ = v.stdin.Close() })
	return v
}

func launchVault() (*testVault, error) { return launch(nil) }

// launch starts a Vault that shows the certificate, or one without TLS.
func launch(shown *certificate) (*testVault, error) {
	binary, err := vaultBinary()
	if err != nil {
		return nil, fmt.Errorf("building vaultserver: %w", err)
	}
	flags, scheme := []string{"-log-level=off"}, "http://"
	if shown != nil {
		flags, scheme = append(flags, "-tls-cert", shown.certFile, "-tls-key", shown.keyFile), "https://"
	}
	command := exec.Command(binary, flags...)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting vaultserver: %w", err)
	}
	v := &testVault{stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		return nil, errors.Join(fmt.Errorf("starting vaultserver: it said %q", line), err, stdin.Close())
	}
	v.Address = scheme + address
	if err := v.initialise(shown); err != nil {
		return nil, errors.Join(fmt.Errorf("initialising Vault: %w", err), stdin.Close())
	}
	return v, nil
}

func (v *testVault) initialise(shown *certificate) error {
	config := api.DefaultConfig()
	config.Address = v.Address
	if shown != nil {
		if err := config.ConfigureTLS(&api.TLSConfig{CACert: shown.certFile}); err != nil {
			return err
		}
	}
	root, err := api.NewClient(config)
	if err != nil {
		return err
	}
	root.ClearNamespace()
	keys, err := root.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return err
	}
	root.SetToken(keys.RootToken)
	v.root, v.unsealKey = root, keys.Keys[0]
	_, err = root.Sys().Unseal(v.unsealKey)
	return err
}

// vaultBinary returns the program of package vaultserver: the one that
// MIDAS_TEST_VAULT names, or else one in the user's cache, which Go builds where it
// is not up to date.
func vaultBinary() (string, error) {
	if binary := os.Getenv("MIDAS_TEST_VAULT"); binary != "" {
		return binary, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "midas-sidecar", "vaultserver")
	if _, err := os.Stat(binary); err != nil {
		fmt.Fprintln(os.Stderr, "compiling a Vault to test against, which takes some minutes the first time:", binary)
	}
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = "vaultserver"
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return binary, nil
}
