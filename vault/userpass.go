package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/userpass"
)

// UserPass logs in as a user of Vault's userpass auth method.
type UserPass struct {
	// Username is the user's name, which becomes part of a path. Required.
	Username string

	// Password gives the user's password. Required.
	Password Source

	// Mount is the path of the auth method, default "userpass".
	Mount string
}

func (a UserPass) check() error {
	if a.Username == "" {
		return errors.New("userpass: username is required")
	}
	if strings.Contains(a.Username, "/") {
		return errors.New("userpass: username must not contain a slash")
	}
	if err := CheckPath(a.Username); err != nil {
		return fmt.Errorf("userpass: username %w", err)
	}
	if a.Password == nil {
		return errors.New("userpass: password is required")
	}
	if err := a.mount().check(); err != nil {
		return fmt.Errorf("userpass: %w", err)
	}
	return nil
}

func (a UserPass) mount() mount { return mountOr(a.Mount, "userpass") }

func (a UserPass) login(ctx context.Context, client *api.Client) (grant, error) {
	password, err := a.Password.read("password")
	if err != nil {
		return grant{}, err
	}
	method, err := userpass.NewUserpassAuth(a.Username,
		&userpass.Password{FromString: password}, userpass.WithMountPath(string(a.mount())))
	return a.mount().logIn(ctx, client, method, err)
}
