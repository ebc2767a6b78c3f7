package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
)

// AppRole logs in as a role of Vault's AppRole auth method.
type AppRole struct {
	// RoleID and SecretID give the role's credentials. Required.
	RoleID, SecretID Source

	// Mount is the path of the auth method, default "approle".
	Mount string
}

func (a AppRole) check() error {
	if a.RoleID == nil {
		return errors.New("approle: role_id is required")
	}
	if a.SecretID == nil {
		return errors.New("approle: secret_id is required")
	}
	if err := a.mount().check(); err != nil {
		return fmt.Errorf("approle: %w", err)
	}
	return nil
}

func (a AppRole) mount() mount { return mountOr(a.Mount, "approle") }

func (a AppRole) login(ctx context.Context, client *api.Client) (grant, error) {
	roleID, err := a.RoleID.read("role_id")
	if err != nil {
		return grant{}, err
	}
	secretID, err := a.SecretID.read("secret_id")
	if err != nil {
		return grant{}, err
	}
	method, err := approle.NewAppRoleAuth(roleID,
		&approle.SecretID{FromString: secretID}, approle.WithMountPath(string(a.mount())))
	return a.mount().logIn(ctx, client, method, err)
}
