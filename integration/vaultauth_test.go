package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"midas-sidecar/vault"
)

// way is one way to log in, as it should be and with a credential that is wrong.
type way struct {
	good, bad vault.Auth
	wrong     string // must not be shown
}

// ways sets up every auth method that needs no TLS, each with tokens that may read
// the path, and nothing else.
func (v *testVault) ways(t *testing.T, path string) map[string]way {
	t.Helper()
	policy := unique("ways")
	v.policy(t, policy, path)
	created, err := v.root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{policy}, NoParent: true})
	require.NoError(t, err)
	token, wrongToken := created.Auth.ClientToken, "hvs.wrong-token"

	role := v.role(t, nil, path)
	wrongRole := role.auth()
	wrongRole.SecretID = source("wrong-secret-id")
	wrapping := role.wrap(t, role.path()+"/secret-id", nil)

	people := v.mountAuth(t, "userpass")
	v.write(t, "auth/"+people+"/users/midas", map[string]any{"password": "right-password", "token_policies": policy})

	provider := newIssuer(t)
	jwts := v.mountAuth(t, "jwt")
	v.write(t, "auth/"+jwts+"/config", map[string]any{"jwt_validation_pubkeys": provider.publicKey(t), "default_role": "midas"})
	v.write(t, "auth/"+jwts+"/role/midas", map[string]any{
		"role_type": "jwt", "bound_audiences": "vault", "bound_subject": "game-server", "user_claim": "sub", "token_policies": policy,
	})
	claims := map[string]any{
		"sub": "game-server", "aud": "vault", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	jwt, forged := provider.sign(t, claims), newIssuer(t).sign(t, claims)

	kubernetes := v.mountAuth(t, "kubernetes")
	account, deleted := serviceAccount(t, "one"), serviceAccount(t, "two")
	v.write(t, "auth/"+kubernetes+"/config", map[string]any{
		"kubernetes_host": reviewer(t, account), "disable_local_ca_jwt": true,
	})
	v.write(t, "auth/"+kubernetes+"/role/midas", map[string]any{
		"bound_service_account_names": "game", "bound_service_account_namespaces": "prod", "token_policies": policy,
	})

	return map[string]way{
		"token":           {vault.Token{Token: source(token)}, vault.Token{Token: source(wrongToken)}, wrongToken},
		"token_file":      {vault.TokenFile{Path: written(t, token)}, vault.TokenFile{Path: written(t, wrongToken)}, wrongToken},
		"approle":         {role.auth(), wrongRole, "wrong-secret-id"},
		"approle wrapped": {role.wrapped(wrapping), role.wrapped(wrongToken), wrongToken},
		"userpass": {
			vault.UserPass{Username: "midas", Password: source("right-password"), Mount: people},
			vault.UserPass{Username: "midas", Password: source("wrong-password"), Mount: people},
			"wrong-password",
		},
		"jwt": {
			vault.JWT{Role: "midas", JWTFile: written(t, jwt), Mount: jwts},
			vault.JWT{Role: "midas", JWTFile: written(t, forged), Mount: jwts},
			forged,
		},
		"jwt with the default role": {
			vault.JWT{JWTFile: written(t, jwt), Mount: jwts},
			vault.JWT{JWTFile: written(t, forged), Mount: jwts},
			forged,
		},
		"kubernetes": {
			vault.Kubernetes{Role: "midas", JWTFile: written(t, account), Mount: kubernetes},
			vault.Kubernetes{Role: "midas", JWTFile: written(t, deleted), Mount: kubernetes},
			deleted,
		},
	}
}

func TestEveryAuthMethodReadsASecretAndShowsNoCredentialThatIsRefused(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "ways", 2)
	v.put(t, "ways", "midas/wx1", map[string]any{"key": "value"})
	for name, w := range v.ways(t, "ways/data/midas/*") {
		t.Run(name, func(t *testing.T) {
			requireField(t, open(t, vault.Config{Address: v.Address, Mount: "ways", Auth: w.good}), "midas/wx1", "value")

			_, err := open(t, vault.Config{Address: v.Address, Mount: "ways", Auth: w.bad}).Read(t.Context(), "midas/wx1")
			require.ErrorContains(t, err, "")
			require.NotContains(t, err.Error(), w.wrong)
		})
	}
}

func TestTheNamespaceGoesWithTheLoginsOfEveryAuthMethod(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "spaced", 2)
	v.put(t, "spaced", "midas/wx1", map[string]any{"key": "value"})

	// The Vault that is free has no namespaces and ignores the header, so it is
	// looked for on the way.
	proxy := v.proxy(t).(*httputil.ReverseProxy)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Namespace") != "games/midas" {
			t.Errorf("no namespace with %s", r.URL.Path)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	for name, w := range v.ways(t, "spaced/data/midas/*") {
		t.Run(name, func(t *testing.T) {
			config := vault.Config{Address: server.URL, Namespace: "games/midas", Mount: "spaced", Auth: w.good}
			requireField(t, open(t, config), "midas/wx1", "value")
		})
	}
}

func TestAWrappedSecretIDServesLaterLoginsAndOtherStores(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "wrapped", 2)
	v.put(t, "wrapped", "midas/wx1", map[string]any{"key": "value"})
	role, proxy := v.role(t, nil, "wrapped/data/midas/*"), v.counted(t)
	auth := role.wrapped(role.wrap(t, role.path()+"/secret-id", nil))
	store := open(t, vault.Config{Address: proxy.URL, Mount: "wrapped", Auth: auth})

	requireField(t, store, "midas/wx1", "value")
	role.revokeTokens(t)
	requireField(t, store, "midas/wx1", "value")
	requireField(t, open(t, vault.Config{Address: proxy.URL, Mount: "wrapped", Auth: auth}), "midas/wx1", "value")
	require.EqualValues(t, 3, proxy.logins.Load())
}

func TestASecretIDOfTheOperatorsChoiceMayBeWrapped(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "custom", 2)
	v.put(t, "custom", "midas/wx1", map[string]any{"key": "value"})
	role := v.role(t, nil, "custom/data/midas/*")
	wrapping := role.wrap(t, role.path()+"/custom-secret-id", map[string]any{"secret_id": "of-our-choice"})
	requireField(t, open(t, vault.Config{Address: v.Address, Mount: "custom", Auth: role.wrapped(wrapping)}), "midas/wx1", "value")
}

func TestAWrappingTokenThatSomebodyUsedOrReplacedIsAnAlarm(t *testing.T) {
	v := startVault(t)
	role, other := v.role(t, nil, "stolen/data/midas/*"), v.role(t, nil, "stolen/data/others/*")
	used := role.wrap(t, role.path()+"/secret-id", nil)
	_, err := v.root.Logical().Unwrap(used)
	require.NoError(t, err)

	for wrapping, want := range map[string]string{
		used: "somebody else has the secret_id",
		role.wrap(t, other.path()+"/secret-id", nil):                                   "somebody may have replaced it",
		role.wrap(t, "sys/wrapping/wrap", map[string]any{"secret_id": other.secretID}): "somebody may have replaced it",
	} {
		_, err := open(t, vault.Config{Address: v.Address, Auth: role.wrapped(wrapping)}).Read(t.Context(), "midas/wx1")
		require.ErrorContains(t, err, "unwrapping the secret_id of auth/"+role.mount)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), wrapping)
	}
}

func TestAServiceAccountsTokenIsReadAgainOnceItWasReplaced(t *testing.T) {
	v := startVault(t)
	v.mountKV(t, "rotated", 2)
	v.put(t, "rotated", "midas/wx1", map[string]any{"key": "value"})
	v.policy(t, "rotated", "rotated/data/midas/*")
	mount := v.mountAuth(t, "kubernetes")
	v.write(t, "auth/"+mount+"/role/midas", map[string]any{
		"bound_service_account_names": "game", "bound_service_account_namespaces": "prod", "token_policies": "rotated",
	})
	accept := func(account string) {
		v.write(t, "auth/"+mount+"/config", map[string]any{"kubernetes_host": reviewer(t, account), "disable_local_ca_jwt": true})
	}
	first, second := serviceAccount(t, "first"), serviceAccount(t, "second")
	path := written(t, first)
	store := open(t, vault.Config{
		Address: v.Address, Mount: "rotated", Auth: vault.Kubernetes{Role: "midas", JWTFile: path, Mount: mount},
	})
	accept(first)
	requireField(t, store, "midas/wx1", "value")

	accept(second)
	require.NoError(t, os.WriteFile(path, []byte(second), 0o600))
	require.NoError(t, v.root.Sys().RevokePrefix("auth/"+mount+"/login"))
	requireField(t, store, "midas/wx1", "value")
}

func TestACertificateThatVaultSeesLogsIn(t *testing.T) {
	shown := newCertificate(t, t.TempDir(), "vault")
	v, err := launch(&shown)
	require.NoError(t, err)
	t.Cleanup(func() { _ = v.stdin.Close() })
	v.mountKV(t, "secret", 2)
	v.put(t, "secret", "midas/wx1", map[string]any{"key": "value"})
	v.policy(t, "midas", "secret/data/midas/*")

	machine, stranger := newCertificate(t, t.TempDir(), "machine"), newCertificate(t, t.TempDir(), "stranger")
	trusted, err := os.ReadFile(machine.certFile)
	require.NoError(t, err)
	mount := v.mountAuth(t, "cert")
	v.write(t, "auth/"+mount+"/certs/midas", map[string]any{"certificate": string(trusted), "token_policies": "midas"})

	read := func(role string, with certificate) error {
		_, err := open(t, vault.Config{
			Address: v.Address, Auth: vault.Cert{Role: role, Mount: mount},
			CAFile: shown.certFile, ClientCert: with.certFile, ClientKey: with.keyFile,
		}).Read(t.Context(), "midas/wx1")
		return err
	}
	require.NoError(t, read("midas", machine))
	require.NoError(t, read("", machine))
	require.EqualError(t, read("midas", stranger), "logging in at auth/"+mount+": credentials refused")
	require.EqualError(t, read("other", machine), "logging in at auth/"+mount+": credentials refused")
}

// The README's table names every way to log in, in lines that the Caddyfile takes.
func TestTheREADMEsAuthLinesAreThoseOfTheCaddyfile(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	lines := regexp.MustCompile("(?m)^\\| `(auth [^`]*)`").FindAllSubmatch(text, -1)
	var methods []string
	for _, line := range lines {
		methods = append(methods, strings.Fields(string(line[1]))[1])
		written := strings.NewReplacer("{ ", "{\n", "; ", "\n", " }", "\n}", "[", "", "]", "", "<", "", ">", "").Replace(string(line[1]))
		config := filepath.Join(t.TempDir(), "Caddyfile")
		require.NoError(t, os.WriteFile(config, []byte(
			"{\nmidas {\nsecrets vault https://vault.example {\nclient_cert a b\n"+written+"\n}\napp wx1 {\noffer_id 1\n}\n}\n}\n"), 0o600))
		require.NoError(t, <-run(t, "adapt", "--validate=false", "--config", config).ended, written)
	}
	require.Equal(t, []string{"token", "token_file", "approle", "kubernetes", "jwt", "userpass", "cert"}, methods)
}

func source(text string) vault.Source { return func() (string, error) { return text, nil } }

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credential")
	require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

// wrap does what "vault write -wrap-ttl=60s" does, and returns the wrapping token.
func (r *testRole) wrap(t *testing.T, path string, data map[string]any) string {
	t.Helper()
	client, err := r.vault.root.CloneWithHeaders()
	require.NoError(t, err)
	client.SetToken(r.vault.root.Token())
	client.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	answer, err := client.Logical().Write(path, data)
	require.NoError(t, err)
	return answer.WrapInfo.Token
}

// wrapped logs in with what the wrapping token holds.
func (r *testRole) wrapped(token string) vault.Auth {
	role := r.auth()
	role.SecretID = source(token)
	return vault.WrappedAppRole(role)
}

// issuer signs JWTs.
type issuer struct{ key *ecdsa.PrivateKey }

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return issuer{key}
}

func (i issuer) publicKey(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (i issuer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	require.NoError(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

// serviceAccount returns a token of the service account "game", one of many.
func serviceAccount(t *testing.T, id string) string {
	t.Helper()
	return newIssuer(t).sign(t, map[string]any{
		"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:prod:game", "jti": id,
		"kubernetes.io": map[string]any{
			"namespace": "prod", "serviceaccount": map[string]any{"name": "game", "uid": "uid-of-game"},
		},
	})
}

// reviewer is the part of a Kubernetes that Vault asks whether a token is good: it
// knows this one.
func reviewer(t *testing.T, good string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" {
			http.NotFound(w, r)
			return
		}
		var review struct{ Spec struct{ Token string } }
		_ = json.NewDecoder(r.Body).Decode(&review)
		status := map[string]any{"authenticated": false}
		if review.Spec.Token == good {
			status = map[string]any{"authenticated": true, "user": map[string]any{
				"username": "system:serviceaccount:prod:game", "uid": "uid-of-game",
			}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status,
		})
	}))
	t.Cleanup(server.Close)
	return server.URL
}
