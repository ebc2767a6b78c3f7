// Package inflight counts what is in progress, and waits for its end. A sync.WaitGroup
// cannot be waited for with a context, nor while more may still begin.
package inflight

import (
	"context"
	"sync"
)

// Counter counts calls in progress. The zero value has none.
type Counter struct {
	mu    sync.Mutex
	count int
	idle  chan struct{} // closed when the last one ends; nil while no caller waits
}

// Enter counts one more call, until leave is called for the first time.
func (c *Counter) Enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return sync.OnceFunc(c.leave)
}

func (c *Counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Count returns how many calls are in progress.
func (c *Counter) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Wait returns when no call is in progress, or when ctx ends, with the cause of that.
func (c *Counter) Wait(ctx context.Context) error {
	idle := c.whenIdle()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// whenIdle returns what is closed when the last call ends, nil if there is none.
func (c *Counter) whenIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 0 && c.idle == nil {
		c.idle = make(chan struct{})
	}
	return c.idle
}
