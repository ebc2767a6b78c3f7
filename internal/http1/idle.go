package http1

import (
	"sync"
	"time"
)

// idle are the connections that nobody uses, by where they lead. The one that was used
// last is taken first, so that those that are not needed grow old.
type idle struct {
	timeout time.Duration
	most    int // for each key

	mu      sync.Mutex
	closing bool // since closeAll, until somebody asks for a connection
	conns   map[string][]*conn
	sweep   *time.Timer // runs while there are connections
}

// take returns a connection on which the other side did nothing since, or nil. It does
// not wait until those that are dead are closed: there may be many.
func (i *idle) take(key string) *conn {
	var dead []*conn
	for {
		c := i.pop(key)
		if c != nil && (time.Since(c.since) >= i.timeout || !c.quiet()) {
			dead = append(dead, c)
			continue
		}
		if len(dead) > 0 {
			go closeEach(dead)
		}
		return c
	}
}

func (i *idle) pop(key string) *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closing = false
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

// put keeps the connection, or closes it.
func (i *idle) put(c *conn) {
	if !i.push(c) {
		_ = c.Close()
	}
}

func (i *idle) push(c *conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closing || c.wire.socket == nil || len(i.conns[c.key]) >= i.most {
		return false
	}
	if i.conns == nil {
		i.conns = make(map[string][]*conn)
	}
	c.since = time.Now()
	i.conns[c.key] = append(i.conns[c.key], c)
	if i.sweep == nil {
		i.sweep = time.AfterFunc(i.timeout, i.closeOld)
	}
	return true
}

// closeOld closes the connections that were not used for the timeout, and comes again
// when the oldest of the others will be as old.
func (i *idle) closeOld() {
	var old []*conn
	defer func() { closeEach(old) }()
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	var oldest time.Time
	for key, conns := range i.conns {
		n := 0
		for n < len(conns) && now.Sub(conns[n].since) >= i.timeout {
			n++
		}
		old = append(old, conns[:n]...)
		if n == len(conns) {
			delete(i.conns, key)
			continue
		}
		i.conns[key] = append([]*conn(nil), conns[n:]...)
		if since := conns[n].since; oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	i.sweep = nil
	if !oldest.IsZero() {
		i.sweep = time.AfterFunc(i.timeout-now.Sub(oldest), i.closeOld)
	}
}

// closeAll closes the connections that nobody uses, and those that come back after the
// last request: after it nothing stays open.
func (i *idle) closeAll() {
	i.mu.Lock()
	i.closing = true
	conns := i.conns
	i.conns = nil
	i.mu.Unlock()
	for _, c := range conns {
		closeEach(c)
	}
}

// closeEach is not called with the lock held: TLS says goodbye to each.
func closeEach(conns []*conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
