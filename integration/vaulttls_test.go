package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/vault"
)

// certificate is a self-signed one, in PEM files.
type certificate struct {
	certFile, keyFile string
	parsed            *x509.Certificate
}

func newCertificate(t *testing.T, dir, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)

	c := certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), parsed}
	writePEM(t, c.certFile, "CERTIFICATE", der)
	writePEM(t, c.keyFile, "PRIVATE KEY", keyDER)
	return c
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// secured puts the Vault behind TLS. The certificate, which is valid for
// 127.0.0.1 and example.com, is in the file that it returns.
func (v *testVault) secured(t *testing.T, config *tls.Config, handler http.Handler) (server *httptest.Server, caFile string) {
	t.Helper()
	server = httptest.NewUnstartedServer(handler)
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, caFile, "CERTIFICATE", server.Certificate().Raw)
	return server, caFile
}

func TestVaultIsTrustedByItsCertificateOnly(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "tls", 2)
	v.put(t, "tls", "midas/wx1", map[string]any{"key": "value"})
	server, caFile := v.secured(t, nil, v.proxy(t))
	config := vault.Config{
		Address: server.URL, Mount: "tls", Auth: v.role(t, nil, "tls/data/midas/*").auth(), CAFile: caFile,
	}
	requireField(t, open(t, config), "midas/wx1", "value")

	named := config
	named.ServerName = "example.com"
	requireField(t, open(t, named), "midas/wx1", "value")

	for want, change := range map[string]func(*vault.Config){
		"certificate signed by unknown authority": func(c *vault.Config) {
			c.CAFile = newCertificate(t, t.TempDir(), "another authority").certFile
		},
		"not other.test":               func(c *vault.Config) { c.ServerName = "other.test" },
		"failed to verify certificate": func(c *vault.Config) { c.CAFile = "" },
	} {
		refused := config
		change(&refused)
		_, err := open(t, refused).Read(t.Context(), "midas/wx1")
		require.ErrorContains(t, err, "logging in at auth/")
		require.ErrorContains(t, err, want)
	}
}

func TestVaultIsShownTheCurrentClientCertificate(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "mtls", 2)
	v.put(t, "mtls", "midas/wx1", map[string]any{"key": "value"})
	dir := t.TempDir()
	first := newCertificate(t, dir, "first")

	var shown string
	proxy := v.proxy(t)
	server, caFile := v.secured(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown = r.TLS.PeerCertificates[0].Subject.CommonName
			proxy.ServeHTTP(w, r)
		}))
	config := vault.Config{
		Address: server.URL, Mount: "mtls", Auth: v.role(t, nil, "mtls/data/midas/*").auth(), CAFile: caFile,
		ClientCert: first.certFile, ClientKey: first.keyFile,
	}
	store := open(t, config)
	requireField(t, store, "midas/wx1", "value")
	require.Equal(t, "first", shown)

	newCertificate(t, dir, "second")
	server.CloseClientConnections()
	requireField(t, store, "midas/wx1", "value")
	require.Equal(t, "second", shown)

	config.ClientCert, config.ClientKey = "", ""
	_, err := open(t, config).Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, "certificate required")
}
