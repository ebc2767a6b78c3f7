package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/crowd"
	"midas-sidecar/payment"
)

// lasting is what outlives a change of the config, and is shared by all handlers.
type lasting struct {
	memory *payment.Memory
	// calls are those being answered, up to their line in the log.
	calls crowd.Crowd
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
