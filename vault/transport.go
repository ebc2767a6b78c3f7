package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// newTransport speaks HTTP/1.1 only: a request that times out then takes its
// connection with it, where HTTP/2 would keep asking over one that is dead.
func newTransport(config Config) (*http.Transport, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: config.ServerName}
	if config.CAFile != "" {
		roots, err := readRoots(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		tlsConfig.RootCAs = roots
	}
	if config.ClientCert != "" || config.ClientKey != "" {
		pair := clientPair{config.ClientCert, config.ClientKey}
		if _, err := pair.load(nil); err != nil {
			return nil, fmt.Errorf("client_cert: %w", err)
		}
		tlsConfig.GetClientCertificate = pair.load
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: config.Timeout}).DialContext,
		TLSHandshakeTimeout: config.Timeout,
		TLSClientConfig:     tlsConfig,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("must hold a PEM certificate, %s holds none", path)
	}
	return roots, nil
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
