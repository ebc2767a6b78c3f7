package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

var keyOfPlayer = secrets.Secret{"session_key": secrets.NewValue("canary-session")}

const sessionPath = "midas/wx1/sessions/o1"

// written makes a fake take writes as a KV engine does, and notes them.
func (f *fake) written() (writes func() []string) {
	var mu sync.Mutex
	var noted []string
	note := func(answer func(http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			noted = append(noted, r.Method+" "+r.URL.Path+" "+string(body))
			mu.Unlock()
			answer(w)
		}
	}
	nothing := func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
	f.faults["/data/"+sessionPath] = note(func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"data":{"version":3,"destroyed":false}}`) })
	f.faults["/metadata/"+sessionPath] = note(nothing)
	f.faults["/v1/secret/"+sessionPath] = note(nothing)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return noted
	}
}

func TestASecretIsWrittenIntoAMountOfEitherVersion(t *testing.T) {
	for version, want := range map[string][]string{
		"1": {`PUT /v1/secret/midas/wx1/sessions/o1 {"session_key":"canary-session"}`, `PUT /v1/secret/midas/wx1/sessions/o1 {"session_key":"canary-session"}`},
		"2": {
			`PUT /v1/secret/metadata/midas/wx1/sessions/o1 {"max_versions":1}`,
			`PUT /v1/secret/data/midas/wx1/sessions/o1 {"data":{"session_key":"canary-session"}}`,
			`PUT /v1/secret/data/midas/wx1/sessions/o1 {"data":{"session_key":"canary-session"}}`,
		},
	} {
		f := newFake()
		f.kv = version
		writes := f.written()
		store := f.store(t, withToken())
		for range 2 {
			require.NoError(t, store.Write(t.Context(), sessionPath, keyOfPlayer))
		}
		require.Equal(t, want, writes(), "only the first write tells to keep one version")
	}
}

func TestAPathThatMayBeAnotherIsNotWritten(t *testing.T) {
	f := newFake()
	for _, path := range []string{"a/../b", "a//b", "a?b", "a%2fb", ""} {
		require.Error(t, f.store(t, withToken()).Write(t.Context(), path, keyOfPlayer))
	}
	require.Zero(t, f.total())
}

func TestWithoutTheRightToMetadataTheSecretIsWrittenAndTheLogHearsOfItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		writes := f.written()
		f.faults["/metadata/"+sessionPath] = func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		}
		config := withToken()
		lines := logged(&config)
		store := f.store(t, config)
		for range 3 {
			require.NoError(t, store.Write(t.Context(), sessionPath, keyOfPlayer))
		}
		require.Len(t, writes(), 3)
		asked := f.count("/metadata/")
		require.LessOrEqual(t, asked, 2, "with the token, and with another")

		time.Sleep(unheeded)
		require.NoError(t, store.Write(t.Context(), sessionPath, keyOfPlayer))
		require.Greater(t, f.count("/metadata/"), asked, "the policy may be mended")
		require.Len(t, lines(), 1)
		require.Contains(t, lines()[0], "keeps old versions")
		require.NotContains(t, lines()[0], "o1")
		require.NoError(t, store.Close(t.Context()))
	})
}

func TestAWriteThatIsRefusedIsAnErrorThatNamesNoPath(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"forbidden":           {403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, "permission denied"},
		"check-and-set":       {400, `{"errors":["check-and-set parameter required for this call o1"]}`, "answered with status 400"},
		"no mount":            {404, `{"errors":["no handler for route \"secret/data/o1\""]}`, "no KV secrets engine of the expected version answers there"},
		"no mount, no word":   {404, ``, "no KV secrets engine of the expected version answers there"},
		"of another version":  {404, `{"warnings":["Invalid path for a versioned K/V secrets engine o1"]}`, "no KV secrets engine of the expected version answers there"},
		"of the other one":    {204, ``, "no KV secrets engine of the expected version answers there"},
		"a page":              {200, `<html>canary-session`, "unreadable answer"},
		"sealed":              {503, `{"errors":["Vault is sealed"]}`, "the secret store cannot be used: vault is sealed"},
		"an error of Vault's": {500, `{"errors":["canary-session"]}`, "answered with status 500"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.written()
			f.faults["/data/"+sessionPath] = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
			err := f.store(t, withToken()).Write(t.Context(), sessionPath, keyOfPlayer)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestAWriteWithADeadTokenLogsInAndIsMadeOnceMore(t *testing.T) {
	f := newFake()
	writes := f.written()
	store := f.store(t, withAppRole())
	requireKey(t, store)
	f.kill()
	live := f.faults["/data/"+sessionPath]
	f.faults["/metadata/"+sessionPath] = func(w http.ResponseWriter, r *http.Request) {
		if !f.lives(r.Header.Get("X-Vault-Token")) {
			refuse(w, http.StatusForbidden, "permission denied", "invalid token")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	f.faults["/data/"+sessionPath] = live
	require.NoError(t, store.Write(t.Context(), sessionPath, keyOfPlayer))
	require.Equal(t, 2, f.logins())
	require.Len(t, writes(), 1)
}

func TestAWriteTakesNoLongerThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.written()
		f.trip = tripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		})
		store := f.store(t, withToken())
		began := time.Now()
		err := store.Write(t.Context(), sessionPath, keyOfPlayer)
		require.ErrorIs(t, err, secrets.ErrUnavailable)
		require.Equal(t, 2*time.Second, time.Since(began))
		require.ErrorIs(t, store.Write(t.Context(), sessionPath, keyOfPlayer), secrets.ErrUnavailable)
		require.Equal(t, 2*time.Second, time.Since(began), "the breaker is open")
		require.NotContains(t, fmt.Sprint(err), "canary")
	})
}

func TestThePathsThatKeepOneVersionAreForgottenBeforeTheyAreTooMany(t *testing.T) {
	var s singles
	for i := range maxSingles + 10 {
		s.done(strconv.Itoa(i))
	}
	require.Len(t, s.paths, maxSingles)
	require.False(t, s.due(strconv.Itoa(maxSingles+9)))
}

// Whatever Vault, or what stands in its place, answers to a write: an error quotes
// neither what was written nor what was answered.
func FuzzVaultsAnswersToAWrite(f *testing.F) {
	f.Add(uint16(200), []byte(`{"data":{"version":3}}`))
	f.Add(uint16(204), []byte(``))
	f.Add(uint16(404), []byte(`{"errors":["canary"]}`))
	f.Add(uint16(403), []byte(`{"errors":["permission denied: invalid token canary"]}`))
	f.Add(uint16(400), []byte(`{"errors":"canary"}`))
	f.Add(uint16(503), []byte(`Vault is sealed canary`))
	f.Fuzz(func(t *testing.T, status uint16, body []byte) {
		vault := parrot{
			200 + int(status+200)%400, "", []byte(`{"auth":{"client_token":"canary-token","lease_duration":3600,"renewable":true}}`),
			[]byte(`{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`), body,
		}
		synctest.Test(t, func(t *testing.T) {
			store, err := newStore(withAppRole().withDefaults(), vault)
			require.NoError(t, err)
			err = store.Write(t.Context(), sessionPath, keyOfPlayer)
			_ = store.Close(t.Context())
			if err != nil {
				require.NotContains(t, err.Error(), "canary")
				require.NotContains(t, err.Error(), "o1")
				return
			}
			var answer struct {
				Data struct{ Version *json.Number }
			}
			require.NoError(t, json.NewDecoder(strings.NewReader(string(body))).Decode(&answer))
			require.NotNil(t, answer.Data.Version)
		})
	})
}
