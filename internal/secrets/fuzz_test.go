package secrets

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is taken from a secrets file is what any reader of JSON finds there, and a
// mistake in it is told without quoting it.
func FuzzASecretsFileIsReadStrictly(f *testing.F) {
	for _, text := range []string{
		`{"midas/wx1":{"midas_key":"canary","app_secret":"canary"}}`, `{"a":{"b":""}}`, `{"a":{}}`, `{}`, `null`, `[]`, ``,
		`{"a":null}`, `{"a":{"canary":null}}`, `{"a":{"b":1}}`, `{"a":"canary"}`, `{"a":{"b":"canary"},"a":{}}`, `{"a":{"canary":"1","\u0063anary":"2"}}`,
		"{\"a\":{\"b\":\"canary\xff\"}}", `{"a":{"b":"canary\ud800"}}`, `{"a":{"b":"canary"}}x`, "\ufeff{\"a\":{\"b\":\"canary\"}}", `{"A":{"B":"1"},"a":{"b":"2"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parse(text)
		if err != nil {
			require.Nil(t, got)
			require.NotContains(t, err.Error(), "canary")
			return
		}
		var want map[string]map[string]string
		require.NoError(t, json.Unmarshal(text, &want))
		require.Len(t, got, len(want))
		for path, fields := range want {
			require.Len(t, got[path], len(fields))
			for field, value := range fields {
				require.Equal(t, value, got[path][field].Reveal())
			}
		}
	})
}
