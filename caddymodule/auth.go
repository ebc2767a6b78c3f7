package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"

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

	// Kubernetes logs in as the service account of the pod.
	Kubernetes *Kubernetes `json:"kubernetes,omitempty"`

	// JWT logs in with a token that an identity provider signed.
	JWT *JWT `json:"jwt,omitempty"`

	// UserPass logs in with a username and a password.
	UserPass *UserPass `json:"userpass,omitempty"`

	// Cert logs in with the certificate in client_cert, which it needs.
	Cert *Cert `json:"cert,omitempty"`
}

// AppRole is a role of Vault's AppRole auth method.
type AppRole struct {
	// RoleID of the role. Required.
	RoleID string `json:"role_id,omitempty"`

	// SecretID of the role. Required.
	SecretID string `json:"secret_id,omitempty"`

	// Wrapped says that SecretID is a token that Vault wrapped the secret_id in.
	// It is unwrapped once, and what it held kept in memory.
	Wrapped bool `json:"wrapped,omitempty"`

	// Mount is the path of the auth method. Default: approle.
	Mount string `json:"mount,omitempty"`
}

// Kubernetes is a role of Vault's Kubernetes auth method.
type Kubernetes struct {
	// Role that the service account is bound to. Required.
	Role string `json:"role,omitempty"`

	// JWTFile is the file of the service account's token, read at every login.
	// Default: /var/run/secrets/kubernetes.io/serviceaccount/token.
	JWTFile string `json:"jwt_file,omitempty"`

	// Mount is the path of the auth method. Default: kubernetes.
	Mount string `json:"mount,omitempty"`
}

// JWT is a role of Vault's JWT auth method.
type JWT struct {
	// Role to log in as. Default: the default_role of the auth method.
	Role string `json:"role,omitempty"`

	// JWTFile is the file of the token, read at every login. Required.
	JWTFile string `json:"jwt_file,omitempty"`

	// Mount is the path of the auth method. Default: jwt.
	Mount string `json:"mount,omitempty"`
}

// UserPass is a user of Vault's userpass auth method.
type UserPass struct {
	// Username of the user. Required.
	Username string `json:"username,omitempty"`

	// Password of the user. Required.
	Password string `json:"password,omitempty"`

	// Mount is the path of the auth method. Default: userpass.
	Mount string `json:"mount,omitempty"`
}

// Cert is a role of Vault's TLS certificate auth method.
type Cert struct {
	// Role to log in as. Default: one that the certificate matches.
	Role string `json:"role,omitempty"`

	// Mount is the path of the auth method. Default: cert.
	Mount string `json:"mount,omitempty"`
}

// method returns the one way to log in that is configured.
func (a *Auth) method(values resolver) (vault.Auth, error) {
	if a == nil {
		return nil, errors.New("is missing: say how to log in")
	}
	type way struct {
		name   string
		method func(resolver) (vault.Auth, error)
	}
	var ways []way
	for _, w := range []struct {
		configured bool
		way
	}{
		{a.Token != "", way{"token", a.token}},
		{a.TokenFile != "", way{"token_file", a.tokenFile}},
		{a.AppRole != nil, way{"approle", a.AppRole.method}},
		{a.Kubernetes != nil, way{"kubernetes", a.Kubernetes.method}},
		{a.JWT != nil, way{"jwt", a.JWT.method}},
		{a.UserPass != nil, way{"userpass", a.UserPass.method}},
		{a.Cert != nil, way{"cert", a.Cert.method}},
	} {
		if w.configured {
			ways = append(ways, w.way)
		}
	}
	if len(ways) != 1 {
		return nil, fmt.Errorf("must be exactly one of %s", oneOf(authMethods))
	}
	method, err := ways[0].method(values)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ways[0].name, err)
	}
	return method, nil
}

// warnOfLiterals logs a line for each part of the config that itself logs in.
func (a *Auth) warnOfLiterals(values resolver, log *slog.Logger) {
	switch {
	case a.Token != "":
		warnOfLiteral(values, log, "auth token", a.Token)
	case a.AppRole != nil:
		warnOfLiteral(values, log, "auth approle role_id", a.AppRole.RoleID)
		warnOfLiteral(values, log, "auth approle secret_id", a.AppRole.SecretID)
	case a.UserPass != nil:
		warnOfLiteral(values, log, "auth userpass password", a.UserPass.Password)
	}
}

// warnOfLiteral logs a line where the config itself holds a credential: whoever sees the
// config has it then.
func warnOfLiteral(values resolver, log *slog.Logger, field, value string) {
	if text, err := values.text(value); value != "" && err == nil && text == value {
		log.Warn("a credential is part of the config, and shown wherever that is: by the admin API, in dumps and in autosave.json; "+
			"a {$NAME} becomes part of it too: use {file./path} or {env.NAME}, token_file for a token, HTTPS_PROXY in the environment for a proxy", "field", field)
	}
}

func (a *Auth) token(values resolver) (vault.Auth, error) {
	token, err := values.credential(a.Token)
	return vault.Token{Token: token}, err
}

func (a *Auth) tokenFile(values resolver) (vault.Auth, error) {
	path, err := values.text(a.TokenFile)
	return vault.TokenFile{Path: path}, err
}

func (a *AppRole) method(values resolver) (vault.Auth, error) {
	var method vault.AppRole
	err := values.fill(
		part{"role_id", a.RoleID, credential(&method.RoleID)},
		part{"secret_id", a.SecretID, credential(&method.SecretID)},
		part{"mount", a.Mount, plain(&method.Mount)},
	)
	if a.Wrapped {
		return vault.WrappedAppRole(method), err
	}
	return method, err
}

func (k *Kubernetes) method(values resolver) (vault.Auth, error) {
	var method vault.Kubernetes
	err := values.fill(
		part{"role", k.Role, plain(&method.Role)},
		part{"jwt_file", k.JWTFile, plain(&method.JWTFile)},
		part{"mount", k.Mount, plain(&method.Mount)},
	)
	return method, err
}

func (j *JWT) method(values resolver) (vault.Auth, error) {
	var method vault.JWT
	err := values.fill(
		part{"role", j.Role, plain(&method.Role)},
		part{"jwt_file", j.JWTFile, plain(&method.JWTFile)},
		part{"mount", j.Mount, plain(&method.Mount)},
	)
	return method, err
}

func (u *UserPass) method(values resolver) (vault.Auth, error) {
	var method vault.UserPass
	err := values.fill(
		part{"username", u.Username, plain(&method.Username)},
		part{"password", u.Password, credential(&method.Password)},
		part{"mount", u.Mount, plain(&method.Mount)},
	)
	return method, err
}

func (c *Cert) method(values resolver) (vault.Auth, error) {
	var method vault.Cert
	err := values.fill(
		part{"role", c.Role, plain(&method.Role)},
		part{"mount", c.Mount, plain(&method.Mount)},
	)
	return method, err
}

// part is one value of a method, and what takes it.
type part struct {
	name, value string
	take        func(values resolver, value string) error
}

// fill gives each part its value. An error names the part.
func (r resolver) fill(parts ...part) error {
	for _, p := range parts {
		if err := p.take(r, p.value); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// plain takes a value that is resolved now.
func plain(target *string) func(resolver, string) error {
	return func(values resolver, value string) (err error) {
		*target, err = values.text(value)
		return err
	}
}

// credential takes a value that is resolved at every login.
func credential(target *vault.Source) func(resolver, string) error {
	return func(values resolver, value string) (err error) {
		*target, err = values.credential(value)
		return err
	}
}
