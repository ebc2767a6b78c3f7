package caddymodule

import (
	"errors"
	"fmt"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/vault"
)

// Secrets is a secret store: exactly one of Vault and File.
type Secrets struct {
	// Vault is a HashiCorp Vault.
	Vault *Vault `json:"vault,omitempty"`

	// File is the path of a JSON file {"<path>": {"<field>": "<value>"}}, watched:
	// for Vault Agent templates, mounted secrets and trials.
	File string `json:"file,omitempty"`
}

// Vault says where a Vault is and how to be let in.
type Vault struct {
	// Address is Vault's URL. Required.
	Address string `json:"address,omitempty"`

	// Namespace goes with every request. Vault Enterprise and OpenBao have namespaces;
	// other Vaults ignore it. Default: none.
	Namespace string `json:"namespace,omitempty"`

	// Mount is the path of the KV secrets engine; whether it is of version 1 or 2
	// is found out. Default: secret.
	Mount string `json:"mount,omitempty"`

	// Auth is how to log in. Required.
	Auth *Auth `json:"auth,omitempty"`

	// CAFile is a PEM file of the certificates of which one must have signed
	// Vault's. Default: those that the system trusts.
	CAFile string `json:"ca_file,omitempty"`

	// ClientCert and ClientKey are the PEM files of a certificate to show to
	// Vault. Default: none.
	ClientCert string `json:"client_cert,omitempty"`
	ClientKey  string `json:"client_key,omitempty"`

	// ServerName is the name that Vault's certificate must carry. Default: the
	// host of Address.
	ServerName string `json:"server_name,omitempty"`

	// Timeout bounds one request, and one read with all that it takes. Default: 2s.
	Timeout Setting `json:"timeout,omitempty"`
}

// place is a Secrets whose placeholders are replaced.
type place struct {
	File  string
	Vault vault.Config // without Auth and Log
	Auth  string       // what auth is known by
	auth  vault.Auth
}

// resolve finds out where the secrets are. How to log in there lasts as long as any
// config says the same about it: a wrapped secret_id cannot be unwrapped twice.
func (s *Secrets) resolve(values resolver, l *acquired) (p place, err error) {
	switch {
	case (s.Vault == nil) == (s.File == ""):
		return p, errors.New("must be exactly one of vault and file")
	case s.File != "":
		if p.File, err = values.text(s.File); err != nil {
			return p, fmt.Errorf("file: %w", err)
		}
		return p, nil
	}
	if p.Vault, err = s.Vault.config(values); err != nil {
		return p, fmt.Errorf("vault: %w", err)
	}
	method, err := s.Vault.Auth.method(values)
	if err != nil {
		return p, fmt.Errorf("vault: auth: %w", err)
	}
	// By what is resolved now, and by where the credentials are found at each login.
	p.Auth = digest("auth", s.Vault.Auth, method)
	auth, err := acquire(l, p.Auth, func() (sharedAuth, error) { return sharedAuth{method}, nil })
	p.auth = auth.Auth
	return p, err
}

// open returns the store, which need not be reachable now.
func (p place) open(options credentials.Options) (store, error) {
	if p.File != "" {
		return secrets.NewFile(p.File, options.Stale, options.Log), nil
	}
	config := p.Vault
	config.Auth, config.Log = p.auth, options.Log
	opened, err := vault.New(config)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return opened, nil
}

func (v *Vault) config(values resolver) (config vault.Config, err error) {
	err = values.fill(
		part{"address", v.Address, plain(&config.Address)},
		part{"namespace", v.Namespace, plain(&config.Namespace)},
		part{"mount", v.Mount, plain(&config.Mount)},
		part{"ca_file", v.CAFile, plain(&config.CAFile)},
		part{"client_cert", v.ClientCert, plain(&config.ClientCert)},
		part{"client_cert key", v.ClientKey, plain(&config.ClientKey)},
		part{"server_name", v.ServerName, plain(&config.ServerName)},
	)
	if err != nil {
		return config, err
	}
	if config.Timeout, err = resolve(values, v.Timeout, 0, parseDuration); err != nil {
		return config, fmt.Errorf("timeout: %w", err)
	}
	return config, nil
}

// sharedAuth is a way to log in that outlives configs.
type sharedAuth struct{ vault.Auth }

// Destruct does nothing: what nobody uses is garbage.
func (sharedAuth) Destruct() error { return nil }
