package vault

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAppRoleReadsItsCredentialsAgainAtEveryLogin(t *testing.T) {
	f := newFake()
	secretID := " canary-first\n"
	config := withAppRole()
	config.Auth = AppRole{
		RoleID:   fixed("canary-role\n"),
		SecretID: func() (string, error) { return secretID, nil },
	}
	store := f.store(t, config)
	requireKey(t, store)
	secretID = "canary-second"
	f.kill()
	requireKey(t, store)

	require.Equal(t, 2, f.count("/v1/auth/approle/login"))
	require.JSONEq(t, `{"role_id": "canary-role", "secret_id": "canary-first"}`, f.sent[0])
	require.JSONEq(t, `{"role_id": "canary-role", "secret_id": "canary-second"}`, f.sent[1])
}

func TestAppRoleLogsInAtItsMount(t *testing.T) {
	f := newFake()
	config := withAppRole()
	config.Auth = AppRole{RoleID: fixed("r"), SecretID: fixed("s"), Mount: "/teams/game/"}
	requireKey(t, f.store(t, config))
	require.Equal(t, 1, f.count("/v1/auth/teams/game/login"))
}

func TestACredentialThatCannotBeHadIsNamed(t *testing.T) {
	empty := func() (string, error) { return " \n", nil }
	broken := func() (string, error) { return "canary-x", errors.New("open /run/x: no such file") }
	missing := filepath.Join(t.TempDir(), "missing")
	for want, auth := range map[string]Auth{
		"role_id is empty":                                                    AppRole{RoleID: empty, SecretID: fixed("s")},
		"secret_id is empty":                                                  AppRole{RoleID: fixed("canary-role"), SecretID: empty},
		"reading role_id: open /run/x: no such file":                          AppRole{RoleID: broken, SecretID: fixed("s")},
		"reading secret_id: open /run/x: no such file":                        AppRole{RoleID: fixed("canary-role"), SecretID: broken},
		"token is empty":                                                      Token{empty},
		"reading token: open /run/x: no such file":                            Token{broken},
		"reading token_file: open " + missing + ": no such file or directory": TokenFile{missing},
		"token_file is empty":                                                 TokenFile{os.DevNull},
	} {
		_, err := newFake().store(t, Config{Address: "http://vault.test", Auth: auth}).Read(t.Context(), "midas/wx1")
		require.EqualError(t, err, want)
	}
}

func TestALoginThatYieldsNoTokenIsAnError(t *testing.T) {
	for body, want := range map[string]string{
		``:                               "unreadable answer",
		`{}`:                             "unreadable answer",
		`{"auth": {"client_token": ""}}`: "unreadable answer",
	} {
		f := newFake()
		f.answer = answering(http.StatusOK, body)
		_, err := f.store(t, withAppRole()).Read(t.Context(), "midas/wx1")
		require.EqualError(t, err, "logging in at auth/approle: "+want, body)
	}
}

func TestWhatALoginIsAnsweredIsNotShown(t *testing.T) {
	for _, status := range []int{200, 204, 400, 403, 404, 429, 500, 503} {
		for _, body := range []string{`<h1>canary-secret</h1>`, `{"errors": ["canary-secret"]}`, `{"auth": canary-token}`, `{"lease_duration": "canary-x"}`} {
			f := newFake()
			f.answer = answering(status, body)
			_, err := f.store(t, withAppRole()).Read(t.Context(), "midas/wx1")
			require.ErrorContains(t, err, "logging in at auth/approle: ")
			require.NotContains(t, err.Error(), canary)
			require.NotContains(t, err.Error(), "vault.test")
		}
	}
}

func TestATokenThatNoHeaderCanCarryIsNotShown(t *testing.T) {
	config := withToken()
	config.Auth = Token{fixed("canary-a\ncanary-b")}
	store, err := New(config)
	require.NoError(t, err)
	_, err = store.Read(t.Context(), "midas/wx1")
	require.ErrorContains(t, err, `invalid header field value for "X-Vault-Token"`)
	require.NotContains(t, err.Error(), canary)
}

func TestATokenIsAskedForAgainWhenItIsRefused(t *testing.T) {
	f := newFake()
	token := "canary-fixed"
	config := withToken()
	config.Auth = Token{func() (string, error) { return token, nil }}
	store := f.store(t, config)
	requireKey(t, store)

	f.kill()
	token = "canary-rotated"
	f.alive[token] = true
	requireKey(t, store)
}

func TestATokenFileIsReadAgainWhenItChanges(t *testing.T) {
	rewritten := func(t *testing.T, path, token string) {
		require.NoError(t, os.WriteFile(path, []byte(token), 0o600))
	}
	renamed := func(t *testing.T, path, token string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(token), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	sameTime := func(t *testing.T, path, token string) {
		before, err := os.Stat(path)
		require.NoError(t, err)
		renamed(t, path, token)
		require.NoError(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
	}
	longer := func(t *testing.T, path, token string) {
		before, err := os.Stat(path)
		require.NoError(t, err)
		rewritten(t, path, token+"\n")
		require.NoError(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
	}
	for name, change := range map[string]func(t *testing.T, path, token string){
		"rewritten": rewritten, "replaced": renamed,
		"replaced by one as old and long": sameTime, "rewritten within the clock's tick": longer,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.alive["canary-one"] = true
			f.alive["canary-two"] = true
			path := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(path, []byte("canary-one\n"), 0o600))
			longAgo := time.Now().Add(-time.Hour)
			require.NoError(t, os.Chtimes(path, longAgo, longAgo))
			store := f.store(t, Config{Address: "http://vault.test", Auth: TokenFile{path}})
			requireKey(t, store)

			change(t, path, "canary-two\n")
			requireKey(t, store)

			require.Equal(t, "canary-two", f.asked[len(f.asked)-1].Header.Get("X-Vault-Token"))
			require.Equal(t, 2, f.reads(), "none was refused")
		})
	}
}

func TestATokenFileThatIsGoneLeavesTheTokenUsable(t *testing.T) {
	f := newFake()
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("canary-fixed"), 0o600))
	store := f.store(t, Config{Address: "http://vault.test", Auth: TokenFile{path}})
	requireKey(t, store)
	require.NoError(t, os.Remove(path))
	requireKey(t, store)
}

func TestATokenFileThatAppearsLateIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		path := filepath.Join(t.TempDir(), "token")
		store := f.store(t, Config{Address: "http://vault.test", Auth: TokenFile{path}})
		_, err := store.Read(t.Context(), "midas/wx1")
		require.ErrorContains(t, err, "reading token_file: ")

		require.NoError(t, os.WriteFile(path, []byte("canary-fixed"), 0o600))
		time.Sleep(failedPause)
		requireKey(t, store)
	})
}
