// Package backoff says how long to wait before something is tried again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = time.Second
)

// Pause waits before the nth repeat of an attempt, counted from 0: a random time between
// nothing and a bound that doubles from 100ms to 1s, since callers that failed together
// should not come back together. It reports whether there is time for the repeat: it
// returns false at once where ctx would end first, and as soon as ctx ends. The jitter
// returns a random duration in [0, d); nil spreads evenly.
func Pause(ctx context.Context, n int, jitter func(d time.Duration) time.Duration) bool {
	bound := longestPause
	if n < 4 {
		bound = firstPause << n
	}
	if jitter == nil {
		jitter = rand.N[time.Duration]
	}
	wait := jitter(bound)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
