package integration

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/vault"
)

func open(t *testing.T, config vault.Config) *vault.Store {
	t.Helper()
	store, err := vault.New(config)
	require.NoError(t, err)
	return store
}

// requireField reads the secret at path and wants its field "key" to be value.
func requireField(t *testing.T, store *vault.Store, path, value string) {
	t.Helper()
	secret, err := store.Read(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, value, secret["key"].Reveal())
}

func requireNotFound(t *testing.T, store *vault.Store, path string) {
	t.Helper()
	_, err := store.Read(t.Context(), path)
	require.ErrorIs(t, err, secrets.ErrNotFound)
}

func TestVaultKV2GivesTheLatestVersionOrNone(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "kv2", 2)
	store := open(t, vault.Config{
		Address: v.Address, Mount: "kv2", Auth: v.role(t, nil, "kv2/data/midas/*").auth(),
	})
	requireNotFound(t, store, "midas/wx1")

	v.put(t, "kv2", "midas/wx1", map[string]any{"key": "first"})
	requireField(t, store, "midas/wx1", "first")

	v.put(t, "kv2", "midas/wx1", map[string]any{"key": "second", "number": 12345678901234567890.0})
	secret, err := store.Read(t.Context(), "midas/wx1")
	require.NoError(t, err)
	require.Equal(t, secrets.Secret{"key": secrets.NewValue("second")}, secret)

	_, err = v.root.Logical().Delete("kv2/data/midas/wx1")
	require.NoError(t, err)
	requireNotFound(t, store, "midas/wx1")

	v.write(t, "kv2/undelete/midas/wx1", map[string]any{"versions": []int{2}})
	requireField(t, store, "midas/wx1", "second")

	v.write(t, "kv2/destroy/midas/wx1", map[string]any{"versions": []int{2}})
	requireNotFound(t, store, "midas/wx1")
}

func TestVaultKV1GivesTheSecretOrNone(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "kv1", 1)
	store := open(t, vault.Config{
		Address: v.Address, Mount: "kv1", Auth: v.role(t, nil, "kv1/midas/*").auth(),
	})
	requireNotFound(t, store, "midas/wx1")

	v.write(t, "kv1/midas/wx1", map[string]any{"key": "value"})
	requireField(t, store, "midas/wx1", "value")

	_, err := v.root.Logical().Delete("kv1/midas/wx1")
	require.NoError(t, err)
	requireNotFound(t, store, "midas/wx1")
}

func TestVaultMountsMayBeNested(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "team/kv", 2)
	v.put(t, "team/kv", "midas/wx1", map[string]any{"key": "value"})
	token := v.token(t, "team/kv/data/midas/*")
	auth := vault.Token{Token: func() (string, error) { return token, nil }}

	requireField(t, open(t, vault.Config{Address: v.Address, Mount: "team/kv/", Auth: auth}), "midas/wx1", "value")

	_, err := open(t, vault.Config{Address: v.Address, Mount: "team", Auth: auth}).Read(t.Context(), "kv/midas/wx1")
	require.EqualError(t, err, "finding the KV version of mount team: permission denied")
}

func TestAVaultMountMayBeUpgradedWhileItIsRead(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "upgraded", 1)
	v.write(t, "upgraded/midas/wx1", map[string]any{"key": "value"})
	store := open(t, vault.Config{
		Address: v.Address, Mount: "upgraded",
		Auth: v.role(t, nil, "upgraded/midas/*", "upgraded/data/midas/*").auth(),
	})
	requireField(t, store, "midas/wx1", "value")

	v.write(t, "sys/mounts/upgraded/tune", map[string]any{"options": map[string]string{"version": "2"}})
	lost := false
	require.Eventually(t, func() bool {
		secret, err := store.Read(t.Context(), "midas/wx1")
		lost = lost || errors.Is(err, secrets.ErrNotFound)
		return err == nil && secret["key"].Reveal() == "value"
	}, 5*time.Second, 20*time.Millisecond)
	require.False(t, lost, "a secret that cannot be read now was said not to exist")
}

func TestReadersOfVaultShareALogin(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "shared", 2)
	v.put(t, "shared", "midas/wx1", map[string]any{"key": "value"})
	role, proxy := v.role(t, nil, "shared/data/midas/*"), v.counted(t)
	store := open(t, vault.Config{Address: proxy.URL, Mount: "shared", Auth: role.auth()})

	together := func() {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { requireField(t, store, "midas/wx1", "value") })
		}
		all.Wait()
	}
	together()
	require.EqualValues(t, 1, proxy.logins.Load(), "cold")
	role.revokeTokens(t)
	together()
	require.EqualValues(t, 2, proxy.logins.Load(), "with a revoked token")
}

func TestATokenThatVaultRevokedIsReplacedWithinTheRead(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "revoked", 2)
	v.put(t, "revoked", "midas/wx1", map[string]any{"key": "value"})
	role, proxy := v.role(t, nil, "revoked/data/midas/*"), v.counted(t)
	store := open(t, vault.Config{Address: proxy.URL, Mount: "revoked", Auth: role.auth()})

	for logins := range 3 {
		requireField(t, store, "midas/wx1", "value")
		require.EqualValues(t, logins+1, proxy.logins.Load())
		require.EqualValues(t, logins, proxy.refused.Load())
		role.revokeTokens(t)
		role.newSecretID(t)
	}
}

func TestASecretIDThatVaultDestroyedIsReported(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "destroyed", 2)
	v.put(t, "destroyed", "midas/wx1", map[string]any{"key": "value"})
	role := v.role(t, nil, "destroyed/data/midas/*")
	store := open(t, vault.Config{Address: v.Address, Mount: "destroyed", Auth: role.auth()})
	requireField(t, store, "midas/wx1", "value")

	role.destroySecretID(t)
	requireField(t, store, "midas/wx1", "value")

	role.revokeTokens(t)
	_, err := store.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "permission denied: invalid token; "+
		"logging in at auth/"+role.mount+": credentials refused")
}

func TestAVaultPolicyThatForbidsMakesNoLoginStorm(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "forbidden", 2)
	v.put(t, "forbidden", "midas/wx1", map[string]any{"key": "value"})
	role := v.role(t, nil, "forbidden/data/midas/wx1")

	proxy := v.counted(t)
	store := open(t, vault.Config{Address: proxy.URL, Mount: "forbidden", Auth: role.auth()})
	for range 20 {
		_, err := store.Read(t.Context(), "midas/wx2")
		require.EqualError(t, err, "permission denied")
		requireField(t, store, "midas/wx1", "value")
	}
	require.EqualValues(t, 1, proxy.logins.Load(), "forbidden from the first read on")

	role.allow(t, "forbidden/data/midas/*")
	requireNotFound(t, store, "midas/wx2")

	role.allow(t, "forbidden/data/other/*")
	for range 20 {
		_, err := store.Read(t.Context(), "midas/wx1")
		require.EqualError(t, err, "permission denied")
	}
	require.EqualValues(t, 1, proxy.logins.Load(), "forbidden later")
}

func TestAVaultLoginAtAMountThatIsNotThereIsReported(t *testing.T) {
	v := startVault(t)
	auth := v.role(t, nil, "secret/data/midas/*").auth()
	auth.Mount = "nowhere"
	_, err := open(t, vault.Config{Address: v.Address, Auth: auth}).Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "logging in at auth/nowhere: permission denied")
}

func TestATokenWhoseTimeIsOverIsNotShownToVault(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	v.mountKV(t, "expired", 2)
	v.put(t, "expired", "midas/wx1", map[string]any{"key": "value"})
	short := withTokens(map[string]any{"token_ttl": "2s", "token_max_ttl": "2s"})
	role, proxy := v.role(t, short, "expired/data/midas/*"), v.counted(t)
	store := open(t, vault.Config{Address: proxy.URL, Mount: "expired", Auth: role.auth()})

	requireField(t, store, "midas/wx1", "value")
	time.Sleep(3100 * time.Millisecond)
	requireField(t, store, "midas/wx1", "value")

	require.GreaterOrEqual(t, proxy.logins.Load(), int32(2))
	require.Zero(t, proxy.refused.Load())
}

func TestASealedVaultIsReportedAndReadAgainWhenUnsealed(t *testing.T) {
	t.Parallel()
	v := startOwnVault(t)
	v.mountKV(t, "secret", 2)
	v.put(t, "secret", "midas/wx1", map[string]any{"key": "value"})
	role := v.role(t, nil, "secret/data/midas/*")
	warm := open(t, vault.Config{Address: v.Address, Auth: role.auth()})
	cold := open(t, vault.Config{Address: v.Address, Auth: role.auth()})
	requireField(t, warm, "midas/wx1", "value")

	v.seal(t)
	_, err := warm.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "the secret store cannot be used: vault is sealed")
	_, err = cold.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "logging in at auth/"+role.mount+": the secret store cannot be used: vault is sealed")

	v.unseal(t)
	for _, store := range []*vault.Store{warm, cold} {
		require.Eventually(t, func() bool {
			secret, err := store.Read(t.Context(), "midas/wx1")
			return err == nil && secret["key"].Reveal() == "value"
		}, 5*time.Second, 50*time.Millisecond)
	}
}

func TestATokenFileThatIsRewrittenIsFollowedBeforeVaultRefuses(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "filed", 2)
	v.put(t, "filed", "midas/wx1", map[string]any{"key": "value"})
	proxy := v.counted(t)
	path := filepath.Join(t.TempDir(), "token")
	first, second := v.token(t, "filed/data/midas/*"), v.token(t, "filed/data/midas/*")
	require.NoError(t, os.WriteFile(path, []byte(first+"\n"), 0o600))
	store := open(t, vault.Config{Address: proxy.URL, Mount: "filed", Auth: vault.TokenFile{Path: path}})
	requireField(t, store, "midas/wx1", "value")

	require.NoError(t, os.WriteFile(path, []byte(second+"\n"), 0o600))
	require.NoError(t, v.root.Auth().Token().RevokeTree(first))
	requireField(t, store, "midas/wx1", "value")
	require.Zero(t, proxy.refused.Load())

	require.NoError(t, v.root.Auth().Token().RevokeTree(second))
	_, err := store.Read(t.Context(), "midas/wx1")
	require.EqualError(t, err, "permission denied: invalid token")
}
