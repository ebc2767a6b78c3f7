package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/kubernetes"
)

// Kubernetes logs in as the service account of its pod, by Vault's Kubernetes
// auth method.
type Kubernetes struct {
	// Role is the role at Vault to which the service account is bound. Required:
	// this auth method has no default role.
	Role string

	// JWTFile is the file of the service account's token. It is read again at
	// every login, since the kubelet replaces it. Default: where pods have it,
	// /var/run/secrets/kubernetes.io/serviceaccount/token.
	JWTFile string

	// Mount is the path of the auth method, default "kubernetes".
	Mount string
}

const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

func (a Kubernetes) check() error {
	if a.Role == "" {
		return errors.New("kubernetes: role is required")
	}
	if err := a.mount().check(); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	return nil
}

func (a Kubernetes) mount() mount { return mountOr(a.Mount, "kubernetes") }

func (a Kubernetes) login(ctx context.Context, client *api.Client) (grant, error) {
	path := a.JWTFile
	if path == "" {
		path = serviceAccountToken
	}
	token, err := readJWT(path)
	if err != nil {
		return grant{}, err
	}
	method, err := kubernetes.NewKubernetesAuth(a.Role,
		kubernetes.WithServiceAccountToken(token), kubernetes.WithMountPath(string(a.mount())))
	return a.mount().logIn(ctx, client, method, err)
}
