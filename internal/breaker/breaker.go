// Package breaker is a circuit breaker: it spares what fails. A caller asks before each
// use, and while that fails the breaker allows one use from time to time, to see whether
// it works again.
package breaker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Breaker stands before something that may fail. While that works the breaker is closed and
// allows every use; it opens at a failure. The log has one line when failing begins, when
// its reason changes, and when it ends, however many callers notice. Create it with New.
type Breaker struct {
	log             *slog.Logger
	failing, worked string
	pace            *Pace

	mu      sync.Mutex
	failure error     // why it fails, nil while it works
	since   time.Time // when it began to fail
	next    time.Time // when the next try is allowed, while it fails
	proved  time.Time // when the last try began that worked
	refuted time.Time // when the last try began that failed
}

// Pace is how often breakers that share it try what fails, in all. Each has its turn.
type Pace struct {
	every   time.Duration
	failing atomic.Int64 // breakers
}

// NewPace returns a pace of one try in the time every.
func NewPace(every time.Duration) *Pace { return &Pace{every: every} }

// turn is how long until the next turn of a breaker that has had one.
func (p *Pace) turn() time.Duration { return p.every * time.Duration(max(p.failing.Load(), 1)) }

// New returns a closed breaker. Its log messages are failing, at level WARN, and worked, at
// INFO.
func New(log *slog.Logger, failing, worked string, pace *Pace) *Breaker {
	return &Breaker{log: log, failing: failing, worked: worked, pace: pace}
}

// Try is one use of what may fail. A caller that cannot tell how it went reports neither
// Success nor Failure.
type Try struct {
	breaker *Breaker
	began   time.Time
}

// Allow returns a try, or why the last ones failed.
func (b *Breaker) Allow() (Try, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.failure != nil {
		if now.Before(b.next) {
			return Try{}, b.failure
		}
		b.next = now.Add(b.pace.turn())
	}
	return Try{b, now}, nil
}

// Probe returns a try that cannot be made later, whatever the breaker's state.
func (b *Breaker) Probe() Try { return Try{b, time.Now()} }

// State returns since when it has been failing and why, nil while it works.
func (b *Breaker) State() (since time.Time, failure error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since, b.failure
}

// Success closes the breaker. A try that began before one that failed says nothing about how
// things are now.
func (t Try) Success() {
	b := t.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.began.Before(b.refuted) {
		return
	}
	if t.began.After(b.proved) {
		b.proved = t.began
	}
	if b.failure != nil {
		b.failure = nil
		b.pace.failing.Add(-1)
		b.log.Info(b.worked, "after", time.Since(b.since).Round(time.Millisecond))
	}
}

// Failure opens the breaker until its next turn, and for at least the time rest. A try that
// began before one that worked says nothing about how things are now.
func (t Try) Failure(failure error, rest time.Duration) {
	b := t.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.began.Before(b.proved) {
		return
	}
	if t.began.After(b.refuted) {
		b.refuted = t.began
	}
	now := time.Now()
	before := b.failure
	if before == nil {
		b.since = now
		b.pace.failing.Add(1)
		b.next = now.Add(b.pace.turn()) // later tries were given their turn on entering
	}
	b.failure = failure
	if until := now.Add(rest); until.After(b.next) {
		b.next = until
	}
	if before == nil || before.Error() != failure.Error() {
		b.log.Warn(b.failing, "error", failure, "since", b.since)
	}
}
