package inflight_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/inflight"
)

func TestACrowdIsWaitedForUntilTheLastOneLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c inflight.Counter
		require.NoError(t, c.Wait(t.Context()), "nobody is there")

		for i := range 2 {
			leave := c.Enter()
			go func() {
				time.Sleep(time.Duration(i+1) * time.Second)
				leave()
			}()
		}
		began := time.Now()
		require.NoError(t, c.Wait(t.Context()))
		require.Equal(t, 2*time.Second, time.Since(began))

		defer c.Enter()()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Wait(impatient), context.DeadlineExceeded)
	})
}
