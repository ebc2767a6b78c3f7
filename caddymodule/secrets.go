package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"

	"midas-sidecar/secrets"
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

	// Namespace goes with every request. Default: none.
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

	// Timeout bounds one request. Default: 2s.
	Timeout Setting `json:"timeout,omitempty"`
}

// open returns the store, which need not be reachable now.
func (s *Secrets) open(values resolver, log *slog.Logger) (secrets.Store, error) {
	switch {
	case (s.Vault == nil) == (s.File == ""):
		return nil, errors.New("must be exactly one of vault and file")
	case s.Vault != nil:
		store, err := s.Vault.open(values)
		if err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
		return store, nil
	}
	path, err := values.text(s.File)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	return secrets.NewFile(path, log), nil
}

func (v *Vault) open(values resolver) (*vault.Store, error) {
	var config vault.Config
	for _, setting := range []struct {
		name, value string
		resolved    *string
	}{
		{"address", v.Address, &config.Address},
		{"namespace", v.Namespace, &config.Namespace},
		{"mount", v.Mount, &config.Mount},
		{"ca_file", v.CAFile, &config.CAFile},
		{"client_cert", v.ClientCert, &config.ClientCert},
		{"client_cert key", v.ClientKey, &config.ClientKey},
		{"server_name", v.ServerName, &config.ServerName},
	} {
		var err error
		if *setting.resolved, err = values.text(setting.value); err != nil {
			return nil, fmt.Errorf("%s: %w", setting.name, err)
		}
	}
	var err error
	if config.Timeout, err = resolve(values, v.Timeout, 0, parseDuration); err != nil {
		return nil, fmt.Errorf("timeout: %w", err)
	}
	if config.Auth, err = v.Auth.method(values); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return vault.New(config)
}
