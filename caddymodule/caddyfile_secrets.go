package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var (
	stores      = []string{"vault", "file"}
	authMethods = []string{"token", "token_file", "approle"}
)

func (m *Midas) readSecrets(d *caddyfile.Dispenser) error {
	m.Secrets = new(Secrets)
	if !d.NextArg() {
		return d.Errf("secrets: must be %s", oneOf(stores))
	}
	switch store := d.Val(); store {
	case "file":
		return text(&m.Secrets.File)(d)
	case "vault":
		m.Secrets.Vault = new(Vault)
		return m.Secrets.Vault.read(d)
	default:
		return d.Errf("secrets: must be %s, got %q", oneOf(stores), store)
	}
}

func (v *Vault) read(d *caddyfile.Dispenser) error {
	if err := text(&v.Address)(d); err != nil {
		return err
	}
	err := lines{
		"namespace":   text(&v.Namespace),
		"mount":       text(&v.Mount),
		"auth":        v.readAuth,
		"ca_file":     text(&v.CAFile),
		"client_cert": v.readClientCert,
		"server_name": text(&v.ServerName),
		"timeout":     checked(&v.Timeout, parseDuration),
	}.readBlock(d)
	if err == nil && v.Auth == nil {
		err = d.Errf("secrets vault: auth is missing: %s", oneOf(authMethods))
	}
	return err
}

func (v *Vault) readClientCert(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&v.ClientCert, &v.ClientKey) {
		return d.ArgErr()
	}
	return nil
}

func (v *Vault) readAuth(d *caddyfile.Dispenser) error {
	v.Auth = new(Auth)
	if !d.NextArg() || !slices.Contains(authMethods, d.Val()) {
		return d.Errf("auth: must be %s, got %q", oneOf(authMethods), d.Val())
	}
	switch d.Val() {
	case "token":
		return text(&v.Auth.Token)(d)
	case "token_file":
		return text(&v.Auth.TokenFile)(d)
	default:
		v.Auth.AppRole = new(AppRole)
		return v.Auth.AppRole.read(d)
	}
}

func (a *AppRole) read(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	err := lines{
		"role_id":   text(&a.RoleID),
		"secret_id": text(&a.SecretID),
		"mount":     text(&a.Mount),
	}.readBlock(d)
	switch {
	case err != nil:
		return err
	case a.RoleID == "":
		return d.Err("auth approle: role_id is missing")
	case a.SecretID == "":
		return d.Err("auth approle: secret_id is missing")
	}
	return nil
}
