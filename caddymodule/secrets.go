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

// Auth is how to get a Vault token: exactly one of its fields. Placeholders in
// credentials are resolved at every login, so that {file./path} follows a rotation.
type Auth struct {
	// Token is a token made by somebody else.
	Token string `json:"token,omitempty"`

	// TokenFile is the path of a file that somebody else keeps a token in, such
	// as Vault Agent. It is read again when it changes.
	TokenFile string `json:"token_file,omitempty"`

	// AppRole logs in as a role of Vault's AppRole auth method.
	AppRole *AppRole `json:"approle,omitempty"`
}

// AppRole is a role of Vault's AppRole auth method.
type AppRole struct {
	// RoleID of the role. Required.
	RoleID string `json:"role_id,omitempty"`

	// SecretID of the role. Required.
	SecretID string `json:"secret_id,omitempty"`

	// Mount is the path of the auth method. Default: approle.
	Mount string `json:"mount,omitempty"`
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

// method returns the one way to log in that is configured.
func (a *Auth) method(values resolver) (vault.Auth, error) {
	if a == nil {
		return nil, errors.New("is missing: say how to log in")
	}
	var methods []vault.Auth
	if a.Token != "" {
		token, err := values.credential(a.Token)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		methods = append(methods, vault.Token{Token: token})
	}
	if a.TokenFile != "" {
		path, err := values.text(a.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token_file: %w", err)
		}
		methods = append(methods, vault.TokenFile{Path: path})
	}
	if a.AppRole != nil {
		method, err := a.AppRole.method(values)
		if err != nil {
			return nil, fmt.Errorf("approle: %w", err)
		}
		methods = append(methods, method)
	}
	if len(methods) != 1 {
		return nil, errors.New("must be exactly one of token, token_file and approle")
	}
	return methods[0], nil
}

func (a *AppRole) method(values resolver) (vault.Auth, error) {
	roleID, err := values.credential(a.RoleID)
	if err != nil {
		return nil, fmt.Errorf("role_id: %w", err)
	}
	secretID, err := values.credential(a.SecretID)
	if err != nil {
		return nil, fmt.Errorf("secret_id: %w", err)
	}
	mount, err := values.text(a.Mount)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	return vault.AppRole{RoleID: roleID, SecretID: secretID, Mount: mount}, nil
}
