package vault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"midas-sidecar/internal/secrets"
)

// selfSigned returns a certificate for 127.0.0.1, and itself as an authority in PEM.
func selfSigned(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// secured is a fake behind TLS, whose certificate may be replaced.
type secured struct {
	*httptest.Server
	shown atomic.Pointer[tls.Certificate]
	open  atomic.Int32 // connections
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{Server: httptest.NewUnstartedServer(newFake())}
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*s.shown.Load()}}, nil
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed:
			s.open.Add(-1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// show makes the server show certificate from now on.
func (s *secured) show(certificate tls.Certificate) {
	s.shown.Store(&certificate)
	s.CloseClientConnections()
}

func TestACAFileThatIsReplacedIsTrustedAtOnce(t *testing.T) {
	first, firstPEM := selfSigned(t)
	second, secondPEM := selfSigned(t)
	server := newSecured(t)
	server.show(first)
	config := withToken()
	config.Address = server.URL
	config.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(config.CAFile, firstPEM, 0o600))
	store, err := New(config)
	require.NoError(t, err)
	requireKey(t, store)

	require.NoError(t, os.WriteFile(config.CAFile+".new", secondPEM, 0o600))
	require.NoError(t, os.Rename(config.CAFile+".new", config.CAFile))
	server.show(second)
	requireKey(t, store)

	server.show(first)
	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	require.ErrorIs(t, err, secrets.ErrUnavailable)
}

func TestAConnectionThatTrustsTheOldCAFileIsNotUsedAgain(t *testing.T) {
	certificate, pem := selfSigned(t)
	_, otherPEM := selfSigned(t)
	server := newSecured(t)
	server.show(certificate)
	config := withToken()
	config.Address = server.URL
	config.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(config.CAFile, pem, 0o600))
	store, err := New(config)
	require.NoError(t, err)
	requireKey(t, store)
	require.EqualValues(t, 1, server.open.Load())

	require.NoError(t, os.WriteFile(config.CAFile, append(otherPEM, "\nlonger\n"...), 0o600))
	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	require.Eventually(t, func() bool { return server.open.Load() == 0 }, 5*time.Second, time.Millisecond)
}

func TestACAFileThatMakesNoSenseLeavesTheLastOneInUse(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"broken": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("half a certificate"), 0o600))
		},
		"gone": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"a directory": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, firstPEM := selfSigned(t)
			second, secondPEM := selfSigned(t)
			server := newSecured(t)
			server.show(first)
			config := withToken()
			lines := logged(&config)
			config.Address = server.URL
			config.CAFile = filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(config.CAFile, firstPEM, 0o600))
			store, err := New(config)
			require.NoError(t, err)

			spoil(t, config.CAFile)
			for range 3 {
				server.CloseClientConnections()
				requireKey(t, store)
			}
			if name != "gone" {
				require.Len(t, lines(), 1)
				require.Contains(t, lines()[0], "ca_file cannot be used")
			}

			require.NoError(t, os.RemoveAll(config.CAFile))
			require.NoError(t, os.WriteFile(config.CAFile, secondPEM, 0o600))
			server.show(second)
			requireKey(t, store)
		})
	}
}

// newResolver asks a DNS server of ours, which answers every question with address.
func newResolver(t *testing.T, address *atomic.Pointer[[4]byte]) *net.Resolver {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		packet := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			var question dnsmessage.Message
			if question.Unpack(packet[:n]) != nil || len(question.Questions) != 1 {
				continue
			}
			asked := question.Questions[0]
			answer := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: question.ID, Response: true, Authoritative: true, RecursionAvailable: true},
				Questions: question.Questions,
			}
			if asked.Type == dnsmessage.TypeA {
				answer.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: asked.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: *address.Load()},
				}}
			}
			if packed, err := answer.Pack(); err == nil {
				_, _ = socket.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: dialerTo(socket.LocalAddr().String())}
}

func TestAVaultThatMovedIsFoundAtItsNewAddress(t *testing.T) {
	oldHome, newHome := newFake(), newFake()
	var isSealed atomic.Bool
	sealed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isSealed.Load() {
			refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
			return
		}
		oldHome.ServeHTTP(w, r)
	}))
	defer sealed.Close()
	_, port, err := net.SplitHostPort(sealed.Listener.Addr().String())
	require.NoError(t, err)
	moved := httptest.NewUnstartedServer(newHome)
	require.NoError(t, moved.Listener.Close())
	if moved.Listener, err = net.Listen("tcp", "127.0.0.2:"+port); err != nil {
		t.Skip("this host has no 127.0.0.2")
	}
	moved.Start()
	defer moved.Close()

	var address atomic.Pointer[[4]byte]
	address.Store(&[4]byte{127, 0, 0, 1})
	config := withToken().withDefaults()
	config.Address = "http://vault.test:" + port
	transport, err := newTransport(config, &net.Dialer{Resolver: newResolver(t, &address)})
	require.NoError(t, err)
	keeper := kept(config, transport)
	url := config.Address + "/v1/secret/data/midas/wx1"

	_, err = ask(t, keeper, url)
	require.NoError(t, err)
	require.Equal(t, 1, oldHome.total())

	// Both still listen: only a new connection finds out.
	address.Store(&[4]byte{127, 0, 0, 2})
	isSealed.Store(true)
	_, err = ask(t, keeper, url)
	require.ErrorContains(t, err, "vault is sealed")
	_, err = ask(t, keeper, url)
	require.NoError(t, err)
	require.Equal(t, 1, newHome.total())
}

func dialerTo(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", address)
	}
}

// net/http quotes what it cannot read, and a server may repeat what it is told.
func TestNothingThatTheServerSaysIsQuoted(t *testing.T) {
	const token = "hvs.token-of-the-canary"
	for _, said := range []string{
		token + "\r\n\r\n",
		"HTTP/1.1 " + token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + token + "\r\n",
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://[" + token + "\r\nContent-Length: 0\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			connection, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(connection, said)
				_ = connection.Close()
			}
		}))
		store, err := New(Config{Address: server.URL, Auth: Token{fixed(token)}})
		require.NoError(t, err)
		_, err = store.Read(t.Context(), "midas/wx1234567")
		require.Error(t, err, said)
		require.NotContains(t, err.Error(), "token-of-the-canary")
		server.Close()
	}
}
