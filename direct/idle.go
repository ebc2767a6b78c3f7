package direct

import (
	"sync"
	"time"
)

// idle are the connections that nobody uses, by where they lead. The one that was used
// last is taken first, so that those that are not needed grow old.
type idle struct {
	timeout time.Duration // 0 for as long as the other side keeps them
	most    int           // for each key, 0 for any number

	mu    sync.Mutex
	conns map[string][]*conn
	sweep *time.Timer // runs while there are connections and a timeout
}

// take returns a connection on which the other side did nothing since, or nil.
func (i *idle) take(key string) *conn {
	for {
		c := i.pop(key)
		if c == nil || c.quiet() {
			return c
		}
		_ = c.Close()
	}
}

func (i *idle) pop(key string) *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	conns := i.conns[key]
	if len(conns) == 0 {
		return nil
	}
	last := len(conns) - 1
	c := conns[last]
	conns[last] = nil
	i.conns[key] = conns[:last]
	return c
}

func (i *idle) put(c *conn) {
	c.since = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.most > 0 && len(i.conns[c.key]) >= i.most {
		_ = c.Close()
		return
	}
	if i.conns == nil {
		i.conns = make(map[string][]*conn)
	}
	i.conns[c.key] = append(i.conns[c.key], c)
	if i.timeout > 0 && i.sweep == nil {
		i.sweep = time.AfterFunc(i.timeout, i.closeOld)
	}
}

// closeOld closes the connections that were not used for the timeout, and comes again
// while there are others.
func (i *idle) closeOld() {
	i.mu.Lock()
	defer i.mu.Unlock()
	left := false
	for key, conns := range i.conns {
		n := 0
		for n < len(conns) && time.Since(conns[n].since) >= i.timeout {
			_ = conns[n].Close()
			n++
		}
		i.conns[key] = append(conns[:0:0], conns[n:]...)
		left = left || n < len(conns)
	}
	i.sweep = nil
	if left {
		i.sweep = time.AfterFunc(i.timeout, i.closeOld)
	}
}

func (i *idle) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, conns := range i.conns {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	clear(i.conns)
}
