package breaker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatDiffersFromTryToTryIsLeftOutOfAnError(t *testing.T) {
	address := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8200}
	here := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 54321}
	lookup := net.DNSError{Name: "vault.test", Server: "10.0.0.3:53", Err: "read udp 10.0.0.2:54321->10.0.0.3:53: refused"}
	missing, late := lookup, lookup
	missing.IsNotFound, late.IsTimeout = true, true
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	expired := x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired, Detail: "current time 54321"}
	for want, err := range map[string]error{
		"lookup vault.test: no answer":    dial(&lookup),
		"lookup vault.test: no such host": dial(&missing),
		"lookup vault.test: timeout":      dial(&late),
		"read tcp: EOF": fmt.Errorf("broken: %w",
			&net.OpError{Op: "read", Net: "tcp", Source: here, Addr: address, Err: io.EOF}),
		"proxyconnect tcp: read tcp: EOF": &net.OpError{
			Op: "proxyconnect", Net: "tcp",
			Err: &net.OpError{Op: "read", Net: "tcp", Source: here, Addr: address, Err: io.EOF},
		},
		"tls: failed to verify certificate: x509: certificate has expired or is not yet valid": &tls.CertificateVerificationError{Err: expired},
	} {
		require.EqualError(t, Steady(err), want)
	}
}
