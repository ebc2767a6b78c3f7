package simulator

import (
	"context"
	"maps"
	"sync"

	"midas-sidecar/wechat"
)

// attempts counts the calls that arrived, by order and name of the API.
type attempts map[OrderID]map[string]int

func (a attempts) count(c Call) {
	if c.BillNo == "" {
		return
	}
	id := OrderID{c.AppID, c.Environment, c.BillNo}
	if a[id] == nil {
		a[id] = make(map[string]int)
	}
	a[id][c.API.Name]++
}

func (a attempts) clone() attempts {
	copied := make(attempts, len(a))
	for id, counts := range a {
		copied[id] = maps.Clone(counts)
	}
	return copied
}

// Attempts returns how many calls of the API for an order were read since the
// simulator began, whatever became of them.
func (s *Simulator) Attempts(api *wechat.API, id OrderID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[id][api.Name]
}

// Settle waits until every call that has arrived has come to its end, those that
// hang and those that land late included: from then on the books change only by
// new calls. It cannot know of a request that is still on its way.
func (s *Simulator) Settle(ctx context.Context) error { return s.inside.wait(ctx) }

// crowd counts those who are inside.
type crowd struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when the last one leaves; nil while nobody waits
}

// enter counts one more, until leave is called for the first time.
func (c *crowd) enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count--
		if c.count == 0 && c.empty != nil {
			close(c.empty)
			c.empty = nil
		}
	})
}

func (c *crowd) wait(ctx context.Context) error {
	c.mu.Lock()
	if c.count == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
