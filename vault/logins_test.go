package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// logins is the part of a Vault that lets in: it accepts every login, knows which
// wrapping tokens hold what, and remembers what it was sent.
type logins struct {
	*httptest.Server

	mu      sync.Mutex
	asked   []string // path and body
	wrapped map[string]wrapped
	lost    bool // the answer to an unwrapping
}

type wrapped struct{ creationPath, secretID string }

func newLogins(t *testing.T) *logins {
	t.Helper()
	l := &logins{wrapped: make(map[string]wrapped)}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *logins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	l.asked = append(l.asked, r.URL.Path+" "+string(body))

	token := r.Header.Get("X-Vault-Token")
	switch r.URL.Path {
	case "/v1/sys/wrapping/lookup":
		var sent struct{ Token string }
		_ = json.Unmarshal(body, &sent)
		held, ok := l.wrapped[sent.Token]
		if !ok || token != "" {
			refuse(w, http.StatusBadRequest, "wrapping token is not valid or does not exist")
			return
		}
		_, _ = fmt.Fprintf(w, `{"data": {"creation_path": %q}}`, held.creationPath)
	case "/v1/sys/wrapping/unwrap":
		held, ok := l.wrapped[token]
		delete(l.wrapped, token)
		switch {
		case !ok:
			refuse(w, http.StatusBadRequest, "wrapping token is not valid or does not exist")
		case l.lost:
			panic(http.ErrAbortHandler)
		default:
			_, _ = fmt.Fprintf(w, `{"data": {"secret_id": %q}}`, held.secretID)
		}
	default:
		if token != "" {
			refuse(w, http.StatusForbidden, "a login needs no token")
			return
		}
		_, _ = io.WriteString(w, `{"auth": {"client_token": "canary-token"}}`)
	}
}

// wrap makes a wrapping token of an AppRole's secret_id.
func (l *logins) wrap(token, secretID string) {
	l.wrapped[token] = wrapped{"auth/approle/role/midas/secret-id", secretID}
}

// logIn logs in as a store would.
func (l *logins) logIn(t *testing.T, auth Auth) error {
	t.Helper()
	require.NoError(t, auth.check())
	client, err := api.NewClient(&api.Config{Address: l.URL})
	require.NoError(t, err)
	client.ClearToken()
	granted, err := auth.login(t.Context(), client)
	if err != nil {
		require.NotContains(t, err.Error(), canary)
		return err
	}
	require.Equal(t, "canary-token", granted.token())
	return nil
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestEachMethodSendsWhatItsMountExpects(t *testing.T) {
	jwt := file(t, "canary-jwt\n")
	for want, auth := range map[string]Auth{
		`/v1/auth/approle/login {"role_id":"r","secret_id":"s"}`:            AppRole{RoleID: fixed("r"), SecretID: fixed("s")},
		`/v1/auth/kubernetes/login {"jwt":"canary-jwt","role":"midas"}`:     Kubernetes{Role: "midas", JWTFile: jwt},
		`/v1/auth/clusters/one/login {"jwt":"canary-jwt","role":"midas"}`:   Kubernetes{Role: "midas", JWTFile: jwt, Mount: "/clusters/one/"},
		`/v1/auth/jwt/login {"jwt":"canary-jwt","role":"midas"}`:            JWT{Role: "midas", JWTFile: jwt},
		`/v1/auth/jwt/login {"jwt":"canary-jwt"}`:                           JWT{JWTFile: jwt},
		`/v1/auth/gitlab/login {"jwt":"canary-jwt"}`:                        JWT{JWTFile: jwt, Mount: "gitlab/"},
		`/v1/auth/userpass/login/midas {"password":"canary-password"}`:      UserPass{Username: "midas", Password: fixed(" canary-password\n")},
		`/v1/auth/people/login/a.b-c@d_e {"password":"canary-password"}`:    UserPass{Username: "a.b-c@d_e", Password: fixed("canary-password"), Mount: "people"},
		`/v1/auth/cert/login {"name":"midas"}`:                              Cert{Role: "midas"},
		`/v1/auth/cert/login {}`:                                            Cert{},
		`/v1/auth/machines/login {"name":"midas"}`:                          Cert{Role: "midas", Mount: "machines"},
		`/v1/auth/teams/game/login {"role_id":"r","secret_id":"canary-id"}`: AppRole{RoleID: fixed("r"), SecretID: fixed("canary-id"), Mount: "teams/game"},
	} {
		l := newLogins(t)
		require.NoError(t, l.logIn(t, auth))
		require.Equal(t, []string{want}, l.asked)
	}
}

func TestCredentialsAreReadAgainAtEveryLogin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credential")
	source := func() (string, error) {
		text, err := os.ReadFile(path)
		return string(text), err
	}
	for name, auth := range map[string]Auth{
		"kubernetes": Kubernetes{Role: "midas", JWTFile: path},
		"jwt":        JWT{JWTFile: path},
		"userpass":   UserPass{Username: "midas", Password: source},
	} {
		l := newLogins(t)
		for n, credential := range []string{"canary-first", "canary-second"} {
			require.NoError(t, os.WriteFile(path, []byte(credential), 0o600))
			require.NoError(t, l.logIn(t, auth))
			require.Contains(t, l.asked[n], credential, name)
		}
	}
}

func TestACredentialOfAnyMethodThatCannotBeHadIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	broken := func() (string, error) { return "canary-x", errors.New("open /run/x: no such file") }
	for want, auth := range map[string]Auth{
		"reading jwt_file: open " + missing + ": no such file or directory": Kubernetes{Role: "midas", JWTFile: missing},
		"jwt_file is empty": JWT{JWTFile: os.DevNull},
		"reading jwt_file: open " + serviceAccountToken + ": no such file or directory": Kubernetes{Role: "midas"},
		"reading password: open /run/x: no such file":                                   UserPass{Username: "midas", Password: broken},
		"password is empty":                            UserPass{Username: "midas", Password: fixed("\n")},
		"reading secret_id: open /run/x: no such file": WrappedAppRole(AppRole{RoleID: fixed("r"), SecretID: broken}),
	} {
		l := newLogins(t)
		require.EqualError(t, l.logIn(t, auth), want)
		require.Empty(t, l.asked)
	}
}
