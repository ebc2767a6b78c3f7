package caddymodule

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/internal/inflight"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/watch"
)

// pool holds what outlives a change of the config, as long as any config uses it.
var pool = caddy.NewUsagePool()

// leases are the keys of what a config has taken from the pool.
type leases []string

// lease takes what the pool holds under key, or else what create makes.
func lease[T caddy.Destructor](l *leases, key string, create func() (T, error)) (none T, _ error) {
	taken, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return create() })
	if err != nil {
		return none, err
	}
	*l = append(*l, key)
	return taken.(T), nil
}

// giveBack gives back all that was taken, the last first.
func (l leases) giveBack() error {
	var errs []error
	for _, key := range slices.Backward(l) {
		if _, err := pool.Delete(key); err != nil {
			errs = append(errs, err) // without the key, which is a digest
		}
	}
	return errors.Join(errs...)
}

// running are the apps of the configs that were started.
var running succession[*Midas]

// lasting is what all configs of the process share.
type lasting struct {
	ledger *ledger.Ledger
	watch  *watch.Watch
	// resigned are the fields of callers that sign that the log has heard of.
	resigned *resigned
	// calls are those being answered, up to their line in the log.
	calls inflight.Counter
	// longest is how long a call may take, of all configs that there were.
	longest atomic.Int64
	// closing are the stores that nobody uses any more but calls that began before.
	closing inflight.Counter
}

func newLasting() (*lasting, error) {
	return &lasting{ledger: ledger.New(), watch: watch.New(latestLog()), resigned: newResigned(latestLog())}, nil
}

// allow notes how long calls may take from now on.
func (l *lasting) allow(p *payment.Processor) {
	longest := p.Deadline
	if p.CancelUnknown {
		longest *= 2
	}
	for before := l.longest.Load(); before < int64(longest); before = l.longest.Load() {
		l.longest.CompareAndSwap(before, int64(longest))
	}
}

// await returns when every order has come to its end, or the time is up that any may
// take.
func (l *lasting) await() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.longest.Load()))
	defer cancel()
	_ = l.calls.Wait(ctx)
}

// Destruct does nothing: what nobody uses is garbage.
func (*lasting) Destruct() error { return nil }
