// Package breaker spares what fails. Whoever wants to use it asks its gate first,
// which then lets one through from time to time, to see whether it works again.
package breaker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Gate stands before something that may fail. While that works everybody passes.
// It tells the log once that failing began, that its reason changed, and that it
// ended, however many notice. Create it with New.
type Gate struct {
	log             *slog.Logger
	failing, worked string
	pace            *Pace

	mu      sync.Mutex
	failure error     // why it fails, nil while it works
	since   time.Time // when it began to fail
	closed  time.Time // until when nobody passes
	proved  time.Time // when the last try began that worked
	refuted time.Time // when the last try began that failed
}

// Pace is how often gates that share it try what fails, all in all. Each has its turn.
type Pace struct {
	every   time.Duration
	failing atomic.Int64 // gates
}

// NewPace returns a pace of one try in the time every.
func NewPace(every time.Duration) *Pace { return &Pace{every: every} }

// turn is how long until the next turn of a gate that has had one.
func (p *Pace) turn() time.Duration { return p.every * time.Duration(max(p.failing.Load(), 1)) }

// New returns an open gate. Its log messages are failing, at level WARN, and
// worked, at INFO.
func New(log *slog.Logger, failing, worked string, pace *Pace) *Gate {
	return &Gate{log: log, failing: failing, worked: worked, pace: pace}
}

// Try is one use of what may fail. Whoever cannot tell how it went says nothing.
type Try struct {
	gate  *Gate
	began time.Time
}

// Enter lets a try through, or says why the last ones failed.
func (g *Gate) Enter() (Try, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.failure != nil {
		if now.Before(g.closed) {
			return Try{}, g.failure
		}
		g.closed = now.Add(g.pace.turn())
	}
	return Try{g, now}, nil
}

// Force lets a try through that cannot be made later.
func (g *Gate) Force() Try { return Try{g, time.Now()} }

// State returns since when it fails and why, nil while it works.
func (g *Gate) State() (since time.Time, failure error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.since, g.failure
}

// Worked opens the gate. A try that began before one that failed says nothing about
// how things are now.
func (t Try) Worked() {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.began.Before(g.refuted) {
		return
	}
	if t.began.After(g.proved) {
		g.proved = t.began
	}
	if g.failure != nil {
		g.failure = nil
		g.pace.failing.Add(-1)
		g.log.Info(g.worked, "after", time.Since(g.since).Round(time.Millisecond))
	}
}

// Failed closes the gate until its next turn, and for at least the time rest. A try
// that began before one that worked says nothing about how things are now.
func (t Try) Failed(failure error, rest time.Duration) {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.began.Before(g.proved) {
		return
	}
	if t.began.After(g.refuted) {
		g.refuted = t.began
	}
	now := time.Now()
	before := g.failure
	if before == nil {
		g.since = now
		g.pace.failing.Add(1)
		g.closed = now.Add(g.pace.turn()) // later tries were given their turn on entering
	}
	g.failure = failure
	if until := now.Add(rest); until.After(g.closed) {
		g.closed = until
	}
	if before == nil || before.Error() != failure.Error() {
		g.log.Warn(g.failing, "error", failure, "since", g.since)
	}
}
