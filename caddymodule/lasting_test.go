package caddymodule

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACrowdIsWaitedForUntilTheLastOneLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crowd
		c.wait(t.Context()) // nobody is there: at once

		for i := range 2 {
			leave := c.enter()
			go func() {
				time.Sleep(time.Duration(i+1) * time.Second)
				leave()
			}()
		}
		began := time.Now()
		c.wait(t.Context())
		require.Equal(t, 2*time.Second, time.Since(began))

		defer c.enter()()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.wait(impatient)
		require.Error(t, impatient.Err())
	})
}
