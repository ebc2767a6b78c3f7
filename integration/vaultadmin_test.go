package integration

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"midas-sidecar/vault"
)

var names atomic.Int32

// unique returns a name that no other test has.
func unique(kind string) string { return fmt.Sprintf("%s-%d", kind, names.Add(1)) }

// mountKV mounts a KV secrets engine of version 1 or 2 for the time of the test.
func (v *testVault) mountKV(t *testing.T, path string, version int) {
	t.Helper()
	require.NoError(t, v.root.Sys().Mount(path, &api.MountInput{
		Type:    "kv",
		Options: map[string]string{"version": strconv.Itoa(version)},
	}))
	t.Cleanup(func() { _ = v.root.Sys().Unmount(path) })
}

// mountAuth mounts an auth method, where no other test does, for the time of the
// test.
func (v *testVault) mountAuth(t *testing.T, kind string) string {
	t.Helper()
	mount := unique(kind)
	require.NoError(t, v.root.Sys().EnableAuthWithOptions(mount, &api.EnableAuthOptions{Type: kind}))
	t.Cleanup(func() { _ = v.root.Sys().DisableAuth(mount) })
	return mount
}

// write does what "vault write" does.
func (v *testVault) write(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	answer, err := v.root.Logical().Write(path, data)
	require.NoError(t, err)
	return answer
}

// put writes a new version of a secret into a KV 2 mount.
func (v *testVault) put(t *testing.T, mount, path string, fields map[string]any) {
	t.Helper()
	v.write(t, mount+"/data/"+path, map[string]any{"data": fields})
}

// policy makes a policy that allows to read the paths, and nothing else.
func (v *testVault) policy(t *testing.T, name string, paths ...string) {
	t.Helper()
	var rules strings.Builder
	for _, path := range paths {
		_, _ = fmt.Fprintf(&rules, "path %q { capabilities = [\"read\"] }\n", path)
	}
	require.NoError(t, v.root.Sys().PutPolicy(name, rules.String()))
}

// token makes a token that may read the paths, and nothing else.
func (v *testVault) token(t *testing.T, paths ...string) string {
	t.Helper()
	policy := unique("token")
	v.policy(t, policy, paths...)
	created, err := v.root.Auth().Token().Create(&api.TokenCreateRequest{
		Policies: []string{policy}, NoDefaultPolicy: true, NoParent: true,
	})
	require.NoError(t, err)
	return created.Auth.ClientToken
}

func (v *testVault) seal(t *testing.T) {
	t.Helper()
	require.NoError(t, v.root.Sys().Seal())
}

func (v *testVault) unseal(t *testing.T) {
	t.Helper()
	_, err := v.root.Sys().Unseal(v.unsealKey)
	require.NoError(t, err)
}

// testRole is an AppRole in an auth mount of its own, so that its tokens can be
// told from those of other tests.
type testRole struct {
	vault            *testVault
	mount            string
	roleID, secretID string
}

// role makes an AppRole that may read the paths, and nothing else. Its options
// are those of Vault's API for a role.
func (v *testVault) role(t *testing.T, options map[string]any, paths ...string) *testRole {
	t.Helper()
	r := &testRole{vault: v, mount: v.mountAuth(t, "approle")}
	r.allow(t, paths...)
	settings := map[string]any{"token_policies": r.mount, "token_no_default_policy": true}
	maps.Copy(settings, options)
	v.write(t, r.path(), settings)

	answer, err := v.root.Logical().Read(r.path() + "/role-id")
	require.NoError(t, err)
	r.roleID = answer.Data["role_id"].(string)
	r.newSecretID(t)
	return r
}

func (r *testRole) path() string { return "auth/" + r.mount + "/role/midas" }

// allow lets the role's tokens read the paths, and nothing else from now on.
func (r *testRole) allow(t *testing.T, paths ...string) {
	t.Helper()
	r.vault.policy(t, r.mount, paths...)
}

// newSecretID issues another secret_id, which the role logs in with from now on.
func (r *testRole) newSecretID(t *testing.T) {
	t.Helper()
	r.secretID = r.vault.write(t, r.path()+"/secret-id", nil).Data["secret_id"].(string)
}

func (r *testRole) destroySecretID(t *testing.T) {
	t.Helper()
	r.vault.write(t, r.path()+"/secret-id/destroy", map[string]any{"secret_id": r.secretID})
}

// revokeTokens ends every token that the role logged in for.
func (r *testRole) revokeTokens(t *testing.T) {
	t.Helper()
	require.NoError(t, r.vault.root.Sys().RevokePrefix("auth/"+r.mount+"/login"))
}

func (r *testRole) auth() vault.AppRole {
	return vault.AppRole{
		RoleID:   func() (string, error) { return r.roleID, nil },
		SecretID: func() (string, error) { return r.secretID, nil },
		Mount:    r.mount,
	}
}
