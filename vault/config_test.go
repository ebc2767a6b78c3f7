package vault

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewNamesTheSettingThatIsWrong(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	require.NoError(t, os.WriteFile(garbage, []byte("not PEM"), 0o600))
	for want, change := range map[string]func(*Config){
		"address: must begin with http://, https:// or unix://":                          func(c *Config) { c.Address = "127.0.0.1" },
		"address: must be a URL, such as http://127.0.0.1:8200":                          func(c *Config) { c.Address = "http://a b" },
		"address: must name a host":                                                      func(c *Config) { c.Address = "https://:8200" },
		"address: must not carry a user or password":                                     func(c *Config) { c.Address = "https://u:canary-p@vault" },
		"address: must not have a query or fragment":                                     func(c *Config) { c.Address = "https://vault?a=b" },
		"address: must name a socket by its absolute path, as in unix:///run/vault.sock": func(c *Config) { c.Address = "unix://run/vault.sock" },
		"namespace: must not have empty segments":                                        func(c *Config) { c.Namespace = "a//b" },
		"mount: must not have the segments \".\" and \"..\"":                             func(c *Config) { c.Mount = "../sys" },
		"timeout: must be positive":                                                      func(c *Config) { c.Timeout = -1 },
		"auth: is required":                                                              func(c *Config) { c.Auth = nil },
		"auth token: is required":                                                        func(c *Config) { c.Auth = Token{} },
		"auth token_file: must name a file":                                              func(c *Config) { c.Auth = TokenFile{} },
		"auth approle: role_id is required":                                              func(c *Config) { c.Auth = AppRole{SecretID: fixed("s")} },
		"auth approle: secret_id is required":                                            func(c *Config) { c.Auth = AppRole{RoleID: fixed("r")} },
		"auth approle: mount must not contain any of ? # % \\":                           func(c *Config) { c.Auth = AppRole{fixed("r"), fixed("s"), "a?b"} },
		"auth approle: mount must not have empty segments":                               func(c *Config) { c.Auth = WrappedAppRole(AppRole{fixed("r"), fixed("s"), "a//b"}) },
		"auth kubernetes: role is required":                                              func(c *Config) { c.Auth = Kubernetes{} },
		"auth kubernetes: mount must not have empty segments":                            func(c *Config) { c.Auth = Kubernetes{Role: "r", Mount: "a//b"} },
		"auth jwt: jwt_file is required":                                                 func(c *Config) { c.Auth = JWT{Role: "r"} },
		"auth jwt: mount must not have the segments \".\" and \"..\"":                    func(c *Config) { c.Auth = JWT{JWTFile: "f", Mount: ".."} },
		"auth userpass: username is required":                                            func(c *Config) { c.Auth = UserPass{Password: fixed("p")} },
		"auth userpass: username must not contain a slash":                               func(c *Config) { c.Auth = UserPass{Username: "a/b", Password: fixed("p")} },
		"auth userpass: username must not contain any of ? # % \\":                       func(c *Config) { c.Auth = UserPass{Username: "a%2fb", Password: fixed("p")} },
		"auth userpass: username must not have the segments \".\" and \"..\"":            func(c *Config) { c.Auth = UserPass{Username: "..", Password: fixed("p")} },
		"auth userpass: password is required":                                            func(c *Config) { c.Auth = UserPass{Username: "u"} },
		"auth userpass: mount must consist of printable UTF-8":                           func(c *Config) { c.Auth = UserPass{Username: "u", Password: fixed("p"), Mount: "a\n"} },
		"auth cert: mount must not contain any of ? # % \\":                              func(c *Config) { c.Auth = Cert{Mount: "#"} },
		"auth cert: needs client_cert":                                                   func(c *Config) { c.Auth = Cert{} },
		"ca_file: open /nowhere: no such file or directory":                              func(c *Config) { c.CAFile = "/nowhere" },
		"ca_file: must hold a PEM certificate, " + garbage + " holds none":               func(c *Config) { c.CAFile = garbage },
		"client_cert: needs a certificate and a key":                                     func(c *Config) { c.ClientCert = garbage },
		"client_cert: tls: failed to find any PEM data in certificate input":             func(c *Config) { c.ClientCert, c.ClientKey = garbage, garbage },
	} {
		config := withToken()
		change(&config)
		_, err := New(config)
		require.EqualError(t, err, want)
	}
}

func TestNewDoesNotSpeakToVault(t *testing.T) {
	config := withAppRole()
	config.Address = "http://127.0.0.1:1"
	store, err := New(config)
	require.NoError(t, err)

	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, "logging in at auth/approle: the secret store cannot be used: dial tcp: ")
}

func TestTheEnvironmentChangesNothing(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked another server") }))
	defer other.Close()
	for name, value := range map[string]string{
		"VAULT_ADDR":              other.URL,
		"VAULT_AGENT_ADDR":        other.URL,
		"VAULT_PROXY_ADDR":        other.URL,
		"VAULT_TOKEN":             "canary-env",
		"VAULT_NAMESPACE":         "canary-env",
		"VAULT_HEADERS":           `{"X-Extra": "canary-env"}`,
		"VAULT_WRAP_TTL":          "60s",
		"VAULT_CLIENT_TIMEOUT":    "1ns",
		"VAULT_RATE_LIMIT":        "0.000001:1",
		"VAULT_SKIP_VERIFY":       "true",
		"VAULT_DISABLE_REDIRECTS": "false",
		"VAULT_MAX_RETRIES":       "5",
		"VAULT_SRV_LOOKUP":        "true",
	} {
		t.Setenv(name, value)
	}
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	config := withAppRole()
	config.Address = server.URL
	store, err := New(config)
	require.NoError(t, err)
	requireKey(t, store)
	requireKey(t, store)

	for _, r := range f.asked {
		for header := range r.Header {
			require.Contains(t, []string{"Accept-Encoding", "Content-Length", "User-Agent", "X-Vault-Request", "X-Vault-Token"}, header)
		}
		require.NotEqual(t, "canary-env", r.Header.Get("X-Vault-Token"))
	}
}

func TestAnEnvironmentThatTheLibraryCannotParseIsNamed(t *testing.T) {
	t.Setenv("VAULT_SKIP_VERIFY", "maybe")
	_, err := New(withToken())
	require.ErrorContains(t, err, "could not parse VAULT_SKIP_VERIFY")

	t.Setenv("VAULT_SKIP_VERIFY", "")
	t.Setenv("VAULT_PROXY_ADDR", "http://user:canary-p@proxy\n")
	_, err = New(withToken())
	require.ErrorContains(t, err, "making a client, which parses VAULT_ variables of the environment: ")
	require.NotContains(t, err.Error(), canary)
}

func TestTheNamespaceGoesWithEveryRequest(t *testing.T) {
	f := newFake()
	config := withAppRole()
	config.Namespace = "games/midas/"
	requireKey(t, f.store(t, config))
	require.Len(t, f.asked, 3)
	for _, r := range f.asked {
		require.Equal(t, "games/midas", r.Header.Get("X-Vault-Namespace"))
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL+"/v1/canary-x", status))
		defer server.Close()
		for _, config := range []Config{withToken(), withAppRole()} {
			config.Address = server.URL
			store, err := New(config)
			require.NoError(t, err)
			_, err = store.Read(t.Context(), "midas/wx1")
			require.ErrorContains(t, err, "answered with a redirect, which is not followed")
			require.NotContains(t, err.Error(), canary)
		}
	}
}

func TestAServerThatHangsIsGivenUpAfterTheTimeout(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"before its answer": func(http.ResponseWriter) {},
		"amid its answer":   func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"amid a refusal": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is seen
				begin(w)
				<-r.Context().Done()
			}))
			defer server.Close()
			for _, config := range []Config{withToken(), withAppRole()} {
				config.Address = server.URL
				config.Timeout = 20 * time.Millisecond
				store, err := New(config)
				require.NoError(t, err)
				_, err = store.Read(t.Context(), "midas/wx1")
				require.ErrorContains(t, err, "no answer within 20ms")
			}
		})
	}
}

func TestAServerThatHangsInTheHandshakeIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	config := withToken()
	config.Address = "https://" + listener.Addr().String()
	config.Timeout = 20 * time.Millisecond
	store, err := New(config)
	require.NoError(t, err)
	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, "the secret store cannot be used: ")
}

func TestVaultMayListenOnASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "vault.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: newFake()}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()

	config := withToken()
	config.Address = "unix://" + socket
	store, err := New(config)
	require.NoError(t, err)
	requireKey(t, store)
}
