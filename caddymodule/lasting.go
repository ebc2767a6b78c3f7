package caddymodule

import (
	"context"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/payment"
)

// lasting is what outlives a change of the config, and is shared by all handlers.
type lasting struct {
	memory *payment.Memory
	calls  crowd
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

// crowd counts the calls that are being answered, up to their line in the log.
type crowd struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when the last one leaves; nil while nobody waits
}

// enter counts one more, until leave is called.
func (c *crowd) enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return c.leave
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

// wait returns when nobody is inside, or ctx ends.
func (c *crowd) wait(ctx context.Context) {
	c.mu.Lock()
	if c.count > 0 && c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	if empty == nil {
		return
	}
	select {
	case <-empty:
	case <-ctx.Done():
	}
}
