package caddymodule

import (
	"errors"
	"fmt"

	"midas-sidecar/vault"
)

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
