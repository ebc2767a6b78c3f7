package simulator

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A state that was read is the one that is written, and is read again.
func FuzzAStateSurvivesItsFile(f *testing.F) {
	demo, err := Demo().encode()
	require.NoError(f, err)
	for _, text := range []string{string(demo), "", "{}", "null", "[]", `{"apps":{}}`, `{"apps":{"wx1":null}}`, `{"apps":{"wx1":{"players":{"o1":null}}}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := parseState(text)
		if err != nil {
			return
		}
		written, err := state.encode()
		require.NoError(t, err)
		again, err := parseState(written)
		require.NoError(t, err)
		rewritten, err := again.encode()
		require.NoError(t, err)
		require.Equal(t, string(written), string(rewritten))
		_, err = New(state, Options{})
		require.NoError(t, err)
	})
}
