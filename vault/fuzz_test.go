package vault

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/secrets"
)

// parrot is a Vault that says the same every time: to logins, about the mount,
// and to whatever else it is asked.
type parrot struct {
	status             int
	retryAfter         string
	login, mount, read []byte
}

func (a parrot) RoundTrip(r *http.Request) (*http.Response, error) {
	body := a.read
	switch {
	case strings.HasSuffix(r.URL.Path, "/login"):
		body = a.login
	case strings.Contains(r.URL.Path, "/ui/mounts/"):
		body = a.mount
	}
	status := http.StatusOK
	if !strings.HasPrefix(r.URL.Path, "/v1/auth/") {
		status = a.status
	}
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Retry-After": {a.retryAfter}},
		Body:       io.NopCloser(bytes.NewReader(body)),
		Request:    r,
	}, nil
}

// Whatever Vault, or what stands in its place, answers: a secret is the one that any
// reader finds in the answer, and an error quotes neither a token nor a secret.
func FuzzVaultsAnswers(f *testing.F) {
	const (
		login  = `{"auth":{"client_token":"canary-token","lease_duration":3600,"renewable":true}}`
		mount1 = `{"data":{"path":"secret/","type":"kv","options":null}}`
		mount2 = `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`
		kv1    = `{"data":{"midas_key":"canary-key","n":1}}`
		kv2    = `{"data":{"data":{"midas_key":"canary-key","n":{}},"metadata":{"version":3}}}`
	)
	for _, seed := range []struct {
		status                           uint16
		retryAfter, login, mount, answer string
	}{
		{200, "", login, mount1, kv1},
		{200, "", login, mount2, kv2},
		{200, "", login, mount2, `{"data":{"data":null,"metadata":{"version":3}}}`},
		{200, "", login, mount2, kv1},
		{200, "", login, mount1, `{"data":{"midas_key":"canary-key\ud800","midas_key":"canary-two"}} canary`},
		{200, "", login, `{"data":{"path":"sec/","type":"transit"}}`, ""},
		{200, "", `{"auth":{"client_token":"canary-token","lease_duration":-9223372036854775808}}`, mount1, kv1},
		{200, "", `{"auth":{"client_token":"canary-token","lease_duration":9223372036854775807}}`, mount1, kv1},
		{200, "", `{"auth":{"client_token":7}}`, mount1, kv1},
		{200, "", `{"wrap_info":{"token":"canary"},"warnings":["canary"]}`, `<html>canary`, "canary"},
		{404, "", login, mount1, `{"errors":[]}`},
		{404, "", login, mount2, `{"data":{"data":null,"metadata":{"deletion_time":"x"}}}`},
		{404, "", login, mount2, `{"errors":["canary"]}`},
		{403, "", login, mount1, `{"errors":["permission denied: invalid token canary"]}`},
		{400, "", login, mount1, `{"errors":"canary"}`},
		{412, "1", login, mount1, `{"errors":["canary"]}`},
		{429, "5", login, mount1, `{"errors":["canary"]}`},
		{500, "", login, mount1, `{"errors":["canary"]}`},
		{503, "Wed, 21 Oct 2015 07:28:00 GMT", login, mount1, `{"errors":["Vault is sealed"]}`},
		{503, "99999999999999999999", login, mount1, "canary"},
		{473, "-2147483648", login, mount1, ""},
		{307, "canary", login, mount1, ""},
	} {
		f.Add(seed.status, seed.retryAfter, []byte(seed.login), []byte(seed.mount), []byte(seed.answer))
	}
	f.Fuzz(func(t *testing.T, status uint16, retryAfter string, login, mount, read []byte) {
		vault := parrot{200 + int(status+200)%400, retryAfter, login, mount, read} // 100s are not answers
		synctest.Test(t, func(t *testing.T) {
			store, err := newStore(withAppRole().withDefaults(), vault)
			require.NoError(t, err)
			secret, err := store.Read(t.Context(), "midas/wx1")
			closed := store.Close(t.Context())
			for _, err := range []error{err, closed} {
				if err != nil {
					require.NotContains(t, err.Error(), "canary")
					require.Less(t, len(err.Error()), 400)
				}
			}
			if err != nil {
				require.Nil(t, secret)
				return
			}
			require.Equal(t, found(t, mount, read), secret)
		})
		require.LessOrEqual(t, rest(&http.Response{Header: http.Header{"Retry-After": {retryAfter}}}), maxRest)
	})
}

// found are the texts in an answer, as any reader finds them.
func found(t *testing.T, mount, read []byte) secrets.Secret {
	t.Helper()
	decode := func(text []byte, into any) {
		// What comes behind the answer is not Vault's.
		require.NoError(t, json.NewDecoder(bytes.NewReader(text)).Decode(into))
	}
	var about, answer struct{ Data map[string]any }
	decode(mount, &about)
	decode(read, &answer)
	options, _ := about.Data["options"].(map[string]any)
	fields := answer.Data
	switch {
	case options["version"] == "2":
		fields, _ = answer.Data["data"].(map[string]any)
	case fields == nil: // the library takes what knows no word of Vault's for data
		decode(read, &fields)
	}
	secret := secrets.Secret{}
	for name, value := range fields {
		if text, ok := value.(string); ok {
			secret[name] = secrets.NewValue(text)
		}
	}
	return secret
}
