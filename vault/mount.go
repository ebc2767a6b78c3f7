package vault

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// mount is the path of an auth method, below auth/.
type mount string

func mountOr(path string, fallback mount) mount {
	if path = strings.Trim(path, "/"); path != "" {
		return mount(path)
	}
	return fallback
}

func (m mount) check() error {
	if err := CheckPath(string(m)); err != nil {
		return fmt.Errorf("mount %w", err)
	}
	return nil
}

// logIn gets a token there by a method of Vault's, whose making may have failed.
func (m mount) logIn(ctx context.Context, client *api.Client, method api.AuthMethod, err error) (grant, error) {
	var granted grant
	if err == nil {
		granted, err = logIn(ctx, client, method)
	}
	if err != nil {
		return grant{}, fmt.Errorf("logging in at auth/%s: %w", m, err)
	}
	return granted, nil
}

// request is a method of Vault's that has no library: what to send to log in.
type request struct {
	mount mount
	body  map[string]any
}

// Login sends it.
func (r request) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	return client.Logical().WriteWithContext(ctx, "auth/"+string(r.mount)+"/login", r.body)
}
