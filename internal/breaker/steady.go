package breaker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// Steady leaves out of an error of the network what differs from one failure to the
// next, such as the port on our side or which of a host's addresses it was: a Gate
// takes every other text for another reason, and its log would hear of each.
func Steady(err error) error {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case lookup.IsNotFound:
			return fmt.Errorf("lookup %s: no such host", lookup.Name)
		case lookup.IsTimeout:
			return fmt.Errorf("lookup %s: timeout", lookup.Name)
		}
		return fmt.Errorf("lookup %s: no answer", lookup.Name)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return errors.New("tls: failed to verify certificate: x509: certificate has expired or is not yet valid")
	}
	if broken, ok := errors.AsType[*net.OpError](err); ok {
		return &net.OpError{Op: broken.Op, Net: broken.Net, Err: Steady(broken.Err)}
	}
	return err
}
