package vault

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/vault/api"
)

// JWT logs in with a token that an identity provider signed, by Vault's JWT auth
// method.
type JWT struct {
	// JWTFile is the file of the token. It is read again at every login, since
	// whoever writes it replaces it before it ends. Required.
	JWTFile string

	// Role is the role at Vault. Default: the one that the auth method's own
	// configuration calls default_role; where that names none, Vault refuses.
	Role string

	// Mount is the path of the auth method, default "jwt".
	Mount string
}

func (a JWT) check() error {
	if a.JWTFile == "" {
		return errors.New("jwt: jwt_file is required")
	}
	if err := a.mount().check(); err != nil {
		return fmt.Errorf("jwt: %w", err)
	}
	return nil
}

func (a JWT) mount() mount { return mountOr(a.Mount, "jwt") }

func (a JWT) login(ctx context.Context, client *api.Client) (grant, error) {
	token, err := readJWT(a.JWTFile)
	if err != nil {
		return grant{}, err
	}
	body := map[string]any{"jwt": token}
	if a.Role != "" {
		body["role"] = a.Role
	}
	return a.mount().logIn(ctx, client, request{a.mount(), body}, nil)
}

func readJWT(path string) (string, error) {
	return Source(func() (string, error) {
		text, err := os.ReadFile(path)
		return string(text), err
	}).read("jwt_file")
}
