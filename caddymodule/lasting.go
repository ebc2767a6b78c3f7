package caddymodule

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/crowd"
	"midas-sidecar/payment"
)

// lasting is what outlives a change of the config, and is shared by all handlers.
type lasting struct {
	memory *payment.Memory
	// calls are those being answered, up to their line in the log.
	calls crowd.Crowd
	// longest is how long a call may take, of all configs that there were.
	longest atomic.Int64
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

// pool holds the one lasting as long as any config uses it.
var pool = caddy.NewUsagePool()

const poolKey = "lasting"

func takeLasting() (*lasting, error) {
	taken, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) {
		return &lasting{memory: payment.NewMemory()}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("sharing the memory of orders: %w", err)
	}
	return taken.(*lasting), nil
}

func giveBackLasting() error {
	_, err := pool.Delete(poolKey)
	return err
}
