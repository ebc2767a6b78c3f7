package simulator

import (
	"context"
	"maps"

	"midas-sidecar/internal/wechat"
)

// attempts counts the calls that arrived, by order and name of the API.
type attempts map[OrderID]map[string]int

func (a attempts) count(c Call) {
	if c.BillNo == "" {
		return
	}
	id := c.orderID()
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
func (s *Simulator) Settle(ctx context.Context) error { return s.inside.Wait(ctx) }
