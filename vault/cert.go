package vault

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// Cert logs in with the certificate that Config.ClientCert names, by Vault's TLS
// certificate auth method. Vault must see the certificate itself: nothing that ends
// TLS may stand in between, unless Vault is told to trust what that forwards.
type Cert struct {
	// Role is the certificate role at Vault to log in as. Default: Vault tries
	// all of them and takes one that the certificate matches.
	Role string

	// Mount is the path of the auth method, default "cert".
	Mount string
}

func (a Cert) check() error {
	if err := a.mount().check(); err != nil {
		return fmt.Errorf("cert: %w", err)
	}
	return nil
}

func (a Cert) mount() mount { return mountOr(a.Mount, "cert") }

func (a Cert) login(ctx context.Context, client *api.Client) (grant, error) {
	body := map[string]any{}
	if a.Role != "" {
		body["name"] = a.Role
	}
	return a.mount().logIn(ctx, client, request{a.mount(), body}, nil)
}
