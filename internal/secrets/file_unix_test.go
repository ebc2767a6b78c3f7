//go:build unix

package secrets_test

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A file that could not be opened looks no different once it can be: neither its
// size nor its time of change tell.
func TestAFileThatCouldNotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.write(`{"app":{"key":"K"}}`)

		var files syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
		none := files
		none.Cur = 0
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
		_, err := f.Read(t.Context(), "app")
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files))

		require.ErrorIs(t, err, syscall.EMFILE)
		time.Sleep(time.Second)
		require.Equal(t, "K", f.key())
	})
}
