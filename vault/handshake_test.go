package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake/handshaketest"
	"midas-sidecar/internal/secrets"
)

// Some networks drop a ClientHello of two packets.
func TestVaultIsReachedWithoutMLKEMAfterAHandshakeTimedOut(t *testing.T) {
	certificate, pem := selfSigned(t)
	server := newSecured(t)
	server.show(certificate)
	relay := handshaketest.NewRelay(t, server.Listener.Addr().String())
	config := withToken()
	lines := logged(&config)
	config.Address = "https://" + relay.Addr
	config.Timeout = 300 * time.Millisecond
	config.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(config.CAFile, pem, 0o600))
	store, err := New(config)
	require.NoError(t, err)

	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
	require.ErrorContains(t, err, "TLS handshake timed out")
	require.Eventually(t, func() bool {
		_, err := store.Read(t.Context(), "midas/wx1")
		return err == nil
	}, 5*time.Second, 50*time.Millisecond, "Vault is tried once a second")
	for n := range 10 {
		if n == 5 { // another CA file is another transport, over the same network
			require.NoError(t, os.WriteFile(config.CAFile, append(pem, '\n'), 0o600))
		}
		server.CloseClientConnections()
		requireKey(t, store)
	}
	require.EqualValues(t, 1, relay.Dropped.Load())
	require.Equal(t, 1, strings.Count(strings.Join(lines(), "\n"), "leave out ML-KEM"), lines())
}
