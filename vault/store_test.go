package vault

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/secrets/secretstest"
)

func TestReadReturnsTheTextFieldsOfASecretOfEitherVersion(t *testing.T) {
	const fields = `{"key": "canary-key", "empty": "", "number": 12345678901234567000, "object": {"a": "b"}, "nothing": null}`
	for version, body := range map[string]string{
		"1": `{"data": ` + fields + `}`,
		"2": `{"data": {"data": ` + fields + `, "metadata": {"version": 7}}}`,
	} {
		t.Run("version "+version, func(t *testing.T) {
			f := newFake()
			f.kv = version
			path := map[string]string{"1": "/v1/secret/a/b", "2": "/v1/secret/data/a/b"}[version]
			f.bodies[path] = body

			secret, err := f.store(t, withToken()).Read(t.Context(), "a/b")

			require.NoError(t, err)
			require.Equal(t, secrets.Secret{"key": secrets.NewValue("canary-key"), "empty": secrets.NewValue("")}, secret)
		})
	}
}

func TestTheVersionOfTheMountIsAskedOnce(t *testing.T) {
	f := newFake()
	store := f.store(t, withToken())
	for range 3 {
		requireKey(t, store)
	}
	require.Equal(t, 1, f.count("/sys/internal/ui/mounts/"))
	require.Equal(t, 3, f.reads())
}

func TestSlashesAroundTheMountDoNotMatter(t *testing.T) {
	f := newFake()
	config := withToken()
	config.Mount = "/secret/"
	requireKey(t, f.store(t, config))
}

func TestAMountThatHoldsNoSecretsIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"another engine":       {`{"path": "secret/", "type": "transit"}`, "it is not a KV secrets engine"},
		"a path inside of one": {`{"path": "sec/", "type": "kv"}`, "there is no such mount"},
		"nothing":              {`{}`, "there is no such mount"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.answer = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"request_id": "x", "data": %s}`, c.data)
			}
			_, err := f.store(t, withToken()).Read(t.Context(), "midas/wx1")
			require.EqualError(t, err, "finding the KV version of mount secret: "+c.want)
		})
	}
}

func TestASecretThatIsNotThereIsErrNotFound(t *testing.T) {
	for name, body := range map[string]string{
		"missing":   `{"errors": []}`,
		"deleted":   `{"data": {"data": null, "metadata": {"deletion_time": "2026-01-01T00:00:00Z", "destroyed": false}}}`,
		"destroyed": `{"data": {"data": null, "metadata": {"deletion_time": "", "destroyed": true}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			store := f.store(t, withToken())
			requireKey(t, store)
			f.answer = answering(http.StatusNotFound, body)

			_, err := store.Read(t.Context(), "midas/wx9")

			require.ErrorIs(t, err, secrets.ErrNotFound)
			require.EqualError(t, err, "no such secret")
		})
	}
}

func TestA404ThatDoesNotSayThereIsNoSecretIsNotErrNotFound(t *testing.T) {
	for name, body := range map[string]string{
		"the mount is gone":       `{"errors": ["no handler for route \"secret/data/midas/wx1\". route entry not found."]}`,
		"the mount was upgraded":  `{"data": null, "warnings": ["Invalid path for a versioned K/V secrets engine."]}`,
		"a page":                  `<h1>404 canary-page</h1>`,
		"a gateway's answer":      `{"message": "no route matched canary-x"}`,
		"an answer of other form": `{"errors": "canary-x"}`,
		"half an answer":          `{"data": {"metadata": {"version": 1`,
		"no answer":               ``,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			store := f.store(t, withToken())
			requireKey(t, store)
			f.answer = answering(http.StatusNotFound, body)

			_, err := store.Read(t.Context(), "midas/wx1")
			require.EqualError(t, err, "no KV secrets engine of the expected version answers there")

			f.answer, f.kv = nil, "1"
			delete(f.bodies, "/v1/secret/data/midas/wx1")
			requireKey(t, store)
		})
	}
}

func TestA404ForTheMountIsNotErrNotFound(t *testing.T) {
	f := newFake()
	f.answer = answering(http.StatusNotFound, `{"errors": []}`)
	_, err := f.store(t, withToken()).Read(t.Context(), "midas/wx1")
	require.Error(t, err)
	require.NotErrorIs(t, err, secrets.ErrNotFound)
}

func TestAFaultOfVaultIsToldInFewWords(t *testing.T) {
	const down = "the secret store cannot be used: "
	for want, c := range map[string]struct {
		status int
		body   string
	}{
		down + "answered with status 472": {472, `{"errors": ["canary-internal"]}`},
		down + "answered with status 473": {473, `{"errors": ["canary-internal"]}`},
		"answered with status 405":        {405, `{"errors": ["canary-x"]}`},
		"permission denied":               {403, `{"errors": ["1 error occurred:\n\t* permission denied canary-x\n\n"]}`},
		down + "rate limited":             {429, `{"errors": ["request path canary-x: rate limit quota exceeded"]}`},
		down + "vault is sealed":          {503, `{"errors": ["Vault is sealed"]}`},
		down + "answered with status 503": {503, `canary-upstream connect error`},
		"answered with status 500":        {500, `{"errors": ["canary-internal"]}`},
		"unreadable answer":               {200, `<h1>canary-page</h1>`},
	} {
		t.Run(want, func(t *testing.T) {
			f := newFake()
			store := f.store(t, withToken())
			requireKey(t, store)
			asked := f.reads()
			f.answer = answering(c.status, c.body)

			_, err := store.Read(t.Context(), "midas/wx1")

			require.EqualError(t, err, want)
			require.Equal(t, strings.HasPrefix(want, down), errors.Is(err, secrets.ErrUnavailable))
			require.Equal(t, asked+1, f.reads(), "the library must not try again")
		})
	}
}

func TestAnAnswerWithoutASecretIsNotOne(t *testing.T) {
	huge := `{"data": {"data": {"midas_key": "` + strings.Repeat("x", maxAnswer) + `"}}}`
	for _, body := range []string{huge, ``, `{}`, `null`, `[]`, `{"data": null}`, `{"data": {}}`, `{"data": {"data": null}}`, `{"data": {"data": "canary-x"}}`} {
		f := newFake()
		store := f.store(t, withToken())
		requireKey(t, store)
		f.answer = answering(http.StatusOK, body)

		_, err := store.Read(t.Context(), "midas/wx1")

		require.EqualError(t, err, "unreadable answer", body)
	}
}

func TestARequestIsGivenUpAfterTheTimeout(t *testing.T) {
	for name, config := range map[string]Config{"reading": withToken(), "logging in": withAppRole()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
				start := time.Now()

				_, err := f.store(t, config).Read(t.Context(), "midas/wx1")

				require.ErrorContains(t, err, "no answer within 2s")
				require.Equal(t, 2*time.Second, time.Since(start))
			})
		})
	}
}

func TestAPathThatMightReachAnotherSecretIsRefused(t *testing.T) {
	f := newFake()
	store := f.store(t, withToken())
	for path, rule := range map[string]string{
		"":                  "must not have empty segments",
		"/midas/wx1":        "must not have empty segments",
		"midas/wx1/":        "must not have empty segments",
		"midas//wx1":        "must not have empty segments",
		"midas/../wx1":      `must not have the segments "." and ".."`,
		"midas/.":           `must not have the segments "." and ".."`,
		"midas/wx1?version": `must not contain any of ? # % \`,
		"midas/wx1#a":       `must not contain any of ? # % \`,
		"midas/%2e%2e/wx1":  `must not contain any of ? # % \`,
		`midas\..\wx1`:      `must not contain any of ? # % \`,
		"midas/wx1\n":       "must consist of printable UTF-8",
		"midas/wx1\x00":     "must consist of printable UTF-8",
		"midas/\xff":        "must consist of printable UTF-8",
		"midas/a\u202eb":    "must consist of printable UTF-8",
	} {
		_, err := store.Read(t.Context(), path)
		require.EqualError(t, err, "path "+rule)
	}
	require.Empty(t, f.asked)
}

func TestAnUnusualPathReachesItsOwnSecret(t *testing.T) {
	f := newFake()
	f.bodies["/v1/secret/data/midas/%E7%8E%A9%20%E5%AE%B6;+&="] = f.bodies["/v1/secret/data/midas/wx1"]
	_, err := f.store(t, withToken()).Read(t.Context(), "midas/玩 家;+&=")
	require.NoError(t, err)
}

func TestNothingThatIsPrintedShowsASecret(t *testing.T) {
	f := newFake()
	config := withAppRole()
	store := f.store(t, config)
	requireKey(t, store)
	granted, err := config.Auth.login(t.Context(), store.client.forLogin())
	require.NoError(t, err)
	role := AppRole{RoleID: fixed("canary-role"), SecretID: fixed("canary-wrapping")}
	wrapped := &wrappedAppRole{role: role, token: conceal("canary-wrapping"), secretID: conceal("canary-secret")}
	password := UserPass{Username: "midas", Password: fixed("canary-password")}
	type closed struct{ auth Auth }
	for _, value := range []any{
		store, config, granted, &granted, conceal("canary-text"), config.Auth,
		Token{fixed("canary-fixed")},
		role, wrapped, password,
		role.SecretID,
		[]Auth{role, wrapped, password},
		closed{role},
		&closed{wrapped},
		closed{password},
	} {
		t.Run(fmt.Sprintf("%T", value), func(t *testing.T) {
			shown := secretstest.Printed(value)
			require.NotContains(t, shown, canary)
			require.NotContains(t, shown, hex.EncodeToString([]byte(canary)))
			require.NotContains(t, shown, "99 97 110 97 114 121", "in decimal")
		})
	}
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestAnAnswerThatIsNotVaultsIsNoSecret(t *testing.T) {
	for status, body := range map[int]string{200: `{"status": "ok"}`, 203: `{"data": {"midas_key": "x"}}`} {
		f := newFake()
		f.kv = "1"
		store := f.store(t, withToken())
		requireKey(t, store)
		f.answer = answering(status, body)
		_, err := store.Read(t.Context(), "midas/wx1")
		require.EqualError(t, err, "unreadable answer")
	}
}
