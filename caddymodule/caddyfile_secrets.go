package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"midas-sidecar/vault"
)

var stores = []string{"vault", "file"}

func (m *Midas) readSecrets(d *caddyfile.Dispenser) error {
	m.Secrets = new(Secrets)
	if !d.NextArg() {
		return d.Errf("secrets: must be %s", oneOf(stores))
	}
	switch store := d.Val(); store {
	case "file":
		if err := text(&m.Secrets.File)(d); err != nil {
			return err
		}
		if d.NextBlock(d.Nesting()) {
			return d.Err("secrets file: takes no block")
		}
		return nil
	case "vault":
		m.Secrets.Vault = new(Vault)
		return m.Secrets.Vault.read(d)
	default:
		return d.Errf("secrets: must be %s, got %q", oneOf(stores), store)
	}
}

func (v *Vault) read(d *caddyfile.Dispenser) error {
	if err := ruled(&v.Address, vault.CheckAddress)(d); err != nil {
		return err
	}
	err := lines{
		"namespace":   ruled(&v.Namespace, vault.CheckPath),
		"mount":       ruled(&v.Mount, vault.CheckPath),
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
		return d.Err("client_cert: takes two arguments, the files of the certificate and of its key")
	}
	return nil
}
