// Package crowd waits until everybody has left. A sync.WaitGroup cannot be waited
// for with a context, nor while others may still come.
package crowd

import (
	"context"
	"sync"
)

// Crowd counts those who are inside. The zero value is empty.
type Crowd struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when the last one leaves; nil while nobody waits
}

// Enter counts one more, until leave is called for the first time.
func (c *Crowd) Enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return sync.OnceFunc(c.leave)
}

func (c *Crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

// Count returns how many are inside.
func (c *Crowd) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Wait returns when nobody is inside, or ctx ends, which is its error.
func (c *Crowd) Wait(ctx context.Context) error {
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
func (c *Crowd) whenEmpty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 0 && c.empty == nil {
		c.empty = make(chan struct{})
	}
	return c.empty
}
