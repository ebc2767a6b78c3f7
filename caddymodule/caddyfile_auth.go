package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var authMethods = []string{"token", "token_file", "approle"}

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
