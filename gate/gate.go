// Package gate spares what fails. Whoever wants to use it asks its gate first,
// which then lets one through from time to time, to see whether it works again.
package gate

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Gate stands before something that may fail. While that works everybody passes.
// It tells the log once that failing began, that its reason changed, and that it
// ended, however many notice. Create it with New.
type Gate struct {
	log             *slog.Logger
	failing, worked string
	pace            *rate.Limiter

	mu      sync.Mutex
	failure error     // why it fails, nil while it works
	since   time.Time // when it began to fail
	closed  time.Time // until when nobody passes
	proved  time.Time // when the last try began that worked
}

// Pace lets the gates that share it try, all in all, no more often than every so
// often.
func Pace(every time.Duration) *rate.Limiter { return rate.NewLimiter(rate.Every(every), 1) }

// New returns an open gate. Its log messages are failing, at level WARN, and
// worked, at INFO.
func New(log *slog.Logger, failing, worked string, pace *rate.Limiter) *Gate {
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
	if g.failure != nil && (now.Before(g.closed) || !g.pace.AllowN(now, 1)) {
		return Try{}, g.failure
	}
	return Try{g, now}, nil
}

// State returns since when it fails and why, nil while it works.
func (g *Gate) State() (since time.Time, failure error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.since, g.failure
}

// Worked opens the gate.
func (t Try) Worked() {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.began.After(g.proved) {
		g.proved = t.began
	}
	if g.failure != nil {
		g.failure = nil
		g.log.Info(g.worked, "after", time.Since(g.since).Round(time.Millisecond))
	}
}

// Failed closes the gate for at least the time rest. A try that began before one
// that worked says nothing about how things are now.
func (t Try) Failed(failure error, rest time.Duration) {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.began.Before(g.proved) {
		return
	}
	now := time.Now()
	before := g.failure
	if before == nil {
		g.since = now
		g.pace.AllowN(now, 1) // this one was the first
	}
	g.failure = failure
	if until := now.Add(rest); until.After(g.closed) {
		g.closed = until
	}
	if before == nil || before.Error() != failure.Error() {
		g.log.Warn(g.failing, "error", failure, "since", g.since)
	}
}
