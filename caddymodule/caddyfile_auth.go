package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var authMethods = []string{"token", "token_file", "approle", "kubernetes", "jwt", "userpass", "cert"}

func (v *Vault) readAuth(d *caddyfile.Dispenser) error {
	v.Auth = new(Auth)
	if !d.NextArg() {
		return d.Errf("auth: must be %s", oneOf(authMethods))
	}
	if !slices.Contains(authMethods, d.Val()) {
		return d.Errf("auth: must be %s, got %q", oneOf(authMethods), d.Val())
	}
	switch d.Val() {
	case "token":
		return text(&v.Auth.Token)(d)
	case "token_file":
		return text(&v.Auth.TokenFile)(d)
	case "approle":
		v.Auth.AppRole = new(AppRole)
		return v.Auth.AppRole.read(d)
	case "kubernetes":
		v.Auth.Kubernetes = new(Kubernetes)
		return v.Auth.Kubernetes.read(d)
	case "jwt":
		v.Auth.JWT = new(JWT)
		return v.Auth.JWT.read(d)
	case "userpass":
		v.Auth.UserPass = new(UserPass)
		return v.Auth.UserPass.read(d)
	default:
		v.Auth.Cert = new(Cert)
		return v.Auth.Cert.read(d)
	}
}

func (a *AppRole) read(d *caddyfile.Dispenser) error {
	return lines{
		"role_id":   text(&a.RoleID),
		"secret_id": a.readSecretID,
		"mount":     text(&a.Mount),
	}.readMethod(d, needed{"role_id", &a.RoleID}, needed{"secret_id", &a.SecretID})
}

func (a *AppRole) readSecretID(d *caddyfile.Dispenser) error {
	if !d.Args(&a.SecretID) {
		return d.Err("secret_id: takes a value, and perhaps wrapped")
	}
	if a.Wrapped = d.NextArg(); a.Wrapped && d.Val() != "wrapped" {
		return d.Err("secret_id: after it may only stand wrapped")
	}
	if d.NextArg() {
		return d.Err("secret_id: takes nothing after wrapped")
	}
	return nil
}

func (k *Kubernetes) read(d *caddyfile.Dispenser) error {
	return lines{
		"role":     text(&k.Role),
		"jwt_file": text(&k.JWTFile),
		"mount":    text(&k.Mount),
	}.readMethod(d, needed{"role", &k.Role})
}

func (j *JWT) read(d *caddyfile.Dispenser) error {
	return lines{
		"role":     text(&j.Role),
		"jwt_file": text(&j.JWTFile),
		"mount":    text(&j.Mount),
	}.readMethod(d, needed{"jwt_file", &j.JWTFile})
}

func (u *UserPass) read(d *caddyfile.Dispenser) error {
	return lines{
		"username": text(&u.Username),
		"password": text(&u.Password),
		"mount":    text(&u.Mount),
	}.readMethod(d, needed{"username", &u.Username}, needed{"password", &u.Password})
}

func (c *Cert) read(d *caddyfile.Dispenser) error {
	return lines{
		"role":  text(&c.Role),
		"mount": text(&c.Mount),
	}.readMethod(d)
}

// needed is a line that a block must not lack.
type needed struct {
	name  string
	value *string
}

// readMethod reads the block of a method's name, which takes no argument.
func (l lines) readMethod(d *caddyfile.Dispenser, all ...needed) error {
	method := d.Val()
	if err := noArgument(d); err != nil {
		return err
	}
	if err := l.readBlock(d); err != nil {
		return err
	}
	for _, n := range all {
		if *n.value == "" {
			return d.Errf("auth %s: %s is missing", method, n.name)
		}
	}
	return nil
}
