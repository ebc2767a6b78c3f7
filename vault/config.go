package vault

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Config says where a Vault is and how to be let in.
type Config struct {
	// Address is the URL of Vault: http, https, or unix with the path of a
	// socket, as Vault Agent and Vault Proxy offer one. Required.
	Address string

	// Namespace goes with every request, logins included. Vault Enterprise and OpenBao
	// have namespaces; other Vaults ignore it. Default: none.
	Namespace string

	// Mount is the path of the KV secrets engine, default "secret". Its version
	// is asked of Vault at the first read.
	Mount string

	// Auth gets the token: Token, TokenFile, AppRole, WrappedAppRole, Kubernetes,
	// JWT, UserPass or Cert. Required.
	Auth Auth

	// CAFile holds PEM certificates, of which one must have signed Vault's. It is
	// read again when it changed, and must make sense only at first. Default: the
	// certificates that the system trusts.
	CAFile string

	// ClientCert and ClientKey are PEM files of the certificate to show to
	// Vault, both or neither; they are read again for every connection, so that
	// a rotated certificate is used. Default: none.
	ClientCert, ClientKey string

	// ServerName is the name that Vault's certificate must carry. Default: the
	// host of Address.
	ServerName string

	// Timeout bounds one request, and one read with all that it takes. Default: 2s.
	Timeout time.Duration

	// Log is told when Vault, or the login, begins to fail and when that ends.
	// Default: nobody is.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Namespace = strings.Trim(c.Namespace, "/")
	c.Mount = strings.Trim(c.Mount, "/")
	if c.Mount == "" {
		c.Mount = "secret"
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// check names settings by the words of the Caddyfile, which is what users wrote.
func (c Config) check() error {
	if err := CheckAddress(c.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if c.Namespace != "" {
		if err := CheckPath(c.Namespace); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
	}
	if err := CheckPath(c.Mount); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if c.Timeout < 0 {
		return errors.New("timeout: must be positive")
	}
	if c.Auth == nil {
		return errors.New("auth: is required")
	}
	if err := c.Auth.check(); err != nil {
		return fmt.Errorf("auth %w", err)
	}
	if _, shown := c.Auth.(Cert); shown && c.ClientCert == "" {
		return errors.New("auth cert: needs client_cert")
	}
	return nil
}

// CheckAddress tells what is wrong with an address, without showing it: it may carry a
// password by mistake.
func CheckAddress(address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return errors.New("must be a URL, such as http://127.0.0.1:8200")
	}
	switch parsed.Scheme {
	case "http", "https":
		if parsed.Hostname() == "" {
			return errors.New("must name a host")
		}
	case "unix":
		if parsed.Host != "" || parsed.Path == "" {
			return errors.New("must name a socket by its absolute path, as in unix:///run/vault.sock")
		}
	default:
		return errors.New("must begin with http://, https:// or unix://")
	}
	if parsed.User != nil {
		return errors.New("must not carry a user or password")
	}
	if parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" {
		return errors.New("must not have a query or fragment")
	}
	return nil
}
