package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/handshake"
)

// transport trusts what the CA file holds when a request is made. Requests to
// Vault are rare, and one look at a file costs less than its network.
type transport struct {
	log    *slog.Logger
	caFile string
	hosts  *handshake.Hosts

	mu      sync.Mutex
	seen    os.FileInfo     // the CA file when it was read last
	base    *http.Transport // what current is made of
	current *handshake.Transport
}

// newTransport speaks HTTP/1.1 only: a request that times out then takes its
// connection with it, where HTTP/2 would keep asking over one that is dead.
func newTransport(config Config, dialer *net.Dialer) (*transport, error) {
	t := &transport{log: config.Log, caFile: config.CAFile, hosts: handshake.NewHosts(config.Log)}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: config.ServerName}
	if config.CAFile != "" {
		var err error
		if t.seen, tlsConfig.RootCAs, err = readRoots(config.CAFile); err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
	}
	if config.ClientCert != "" || config.ClientKey != "" {
		pair := clientPair{config.ClientCert, config.ClientKey}
		if _, err := pair.load(nil); err != nil {
			return nil, fmt.Errorf("client_cert: %w", err)
		}
		tlsConfig.GetClientCertificate = pair.load
	}
	dial := dialer.DialContext
	if socket, ok := strings.CutPrefix(config.Address, "unix://"); ok {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	t.base = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSHandshakeTimeout: config.Timeout,
		TLSClientConfig:     tlsConfig,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}
	t.current = handshake.NewTransport(t.base.Clone(), t.hosts)
	return t, nil
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	watched := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { connected.Store(false) }, // again, where an idle one was dead
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	res, err := t.trusting().RoundTrip(r.WithContext(watched))
	switch {
	case err != nil && connected.Load():
		return nil, unquoted(err)
	case err != nil:
		return nil, err
	}
	// Redirects are refused, but http.Client quotes one that it cannot read.
	if _, err := res.Location(); err != nil && res.Header.Get("Location") != "" {
		res.Header.Set("Location", "/")
	}
	return res, nil
}

// unquoted hides what net/http cannot read and quotes: that may be an echo of what
// was sent, the token in it. Only the network's own errors keep their words.
func unquoted(err error) error {
	var network net.Error // context.DeadlineExceeded is one too
	switch {
	case errors.As(err, &network):
		return network
	case errors.Is(err, context.Canceled), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	return errUnreadable
}

// CloseIdleConnections closes those that no request uses.
func (t *transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current.CloseIdleConnections()
}

// trusting returns the transport for the CA file as it is now. While that makes no
// sense the last one that did goes on.
func (t *transport) trusting() *handshake.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.caFile == "" || !differs(t.caFile, t.seen) {
		return t.current
	}
	seen, roots, err := readRoots(t.caFile)
	if seen != nil {
		t.seen = seen
	}
	if err != nil {
		t.log.Warn("ca_file cannot be used, what it held before is", "error", err)
		return t.current
	}
	before := t.current
	t.base = t.base.Clone()
	t.base.TLSClientConfig.RootCAs = roots
	t.current = handshake.NewTransport(t.base.Clone(), t.hosts)
	before.CloseIdleConnections()
	return t.current
}

// readRoots reads the CA file, and tells which one that was, broken or not.
func readRoots(path string) (os.FileInfo, *x509.CertPool, error) {
	// Before the content, so that what is written meanwhile counts as a change.
	seen, _ := os.Stat(path)
	pem, err := os.ReadFile(path)
	if err != nil {
		return seen, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return seen, nil, fmt.Errorf("must hold a PEM certificate, %s holds none", path)
	}
	return seen, roots, nil
}

type clientPair struct{ cert, key string }

// load disregards which authorities the server names: Vault's cert auth method
// accepts certificates of others too.
func (p clientPair) load(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if p.cert == "" || p.key == "" {
		return nil, errors.New("needs a certificate and a key")
	}
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}
