// Package inflight waits until everybody has left. A sync.WaitGroup cannot be waited
// for with a context, nor while others may still come.
package inflight

import (
	"context"
	"sync"
)

// Counter counts those who are inside. The zero value is empty.
type Counter struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when the last one leaves; nil while nobody waits
}

// Enter counts one more, until leave is called for the first time.
func (c *Counter) Enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return sync.OnceFunc(c.leave)
}

func (c *Counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

// Count returns how many are inside.
func (c *Counter) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Wait returns when nobody is inside, or ctx ends, which is its error.
func (c *Counter) Wait(ctx context.Context) error {
	empty := c.whenEmpty()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// whenEmpty returns what is closed when the last one leaves, nil if nobody is
// inside.
func (c *Counter) whenEmpty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 0 && c.empty == nil {
		c.empty = make(chan struct{})
	}
	return c.empty
}
