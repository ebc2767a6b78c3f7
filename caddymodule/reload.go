package caddymodule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"midas-sidecar/internal/inflight"
	"midas-sidecar/internal/ledger"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/watch"
)

// pool holds what outlives a change of the config, as long as any config uses it.
var pool = caddy.NewUsagePool()

// acquired are the keys of what a config has taken from the pool.
type acquired []string

// acquire takes what the pool holds under key, or else what create makes.
func acquire[T caddy.Destructor](l *acquired, key string, create func() (T, error)) (none T, _ error) {
	taken, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return create() })
	if err != nil {
		return none, err
	}
	*l = append(*l, key)
	return taken.(T), nil
}

// release gives back all that was taken, the last first.
func (l acquired) release() error {
	var errs []error
	for _, key := range slices.Backward(l) {
		if _, err := pool.Delete(key); err != nil {
			errs = append(errs, err) // without the key, which is a digest
		}
	}
	return errors.Join(errs...)
}

// running are the apps of the configs that were started.
var running generations[*Midas]

// shared is what all configs of the process share.
type shared struct {
	ledger *ledger.Ledger
	watch  *watch.Watch
	// resigned are the fields of callers that sign that the log has heard of.
	resigned *resigned
	// calls are those being answered, up to their line in the log.
	calls inflight.Counter
	// longest is how long a call may take, of all configs that there were.
	longest atomic.Int64
	// closing are the stores that only calls which began earlier still use.
	closing inflight.Counter
}

func newShared() (*shared, error) {
	return &shared{ledger: ledger.New(), watch: watch.New(latestLog()), resigned: newResigned(latestLog())}, nil
}

// allow notes how long calls may take from now on.
func (l *shared) allow(p *payment.Processor) {
	longest := p.Deadline
	if p.CancelUnknown {
		longest *= 2
	}
	for before := l.longest.Load(); before < int64(longest); before = l.longest.Load() {
		l.longest.CompareAndSwap(before, int64(longest))
	}
}

// await returns when every order has come to its end, or the time is up that any may
// take.
func (l *shared) await() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.longest.Load()))
	defer cancel()
	_ = l.calls.Wait(ctx)
}

// Destruct does nothing: what is no longer used is garbage.
func (*shared) Destruct() error { return nil }

// generations are the configs that there are, each with what others follow while it is the
// newest. A config that cannot be started leaves its place to the one before, which runs on.
type generations[T any] struct {
	// follow, where there is one, is called with the newest whenever that may have changed.
	follow func(T)

	mu      sync.Mutex
	members []T // the oldest first
}

func (s *generations[T]) enter(member T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, member)
	s.tell()
}

func (s *generations[T]) leave(is func(T) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = slices.DeleteFunc(s.members, is)
	s.tell()
}

func (s *generations[T]) tell() {
	if n := len(s.members); n > 0 && s.follow != nil {
		s.follow(s.members[n-1])
	}
}

// newest returns the newest member, the zero value if there is none.
func (s *generations[T]) newest() (newest T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.members); n > 0 {
		newest = s.members[n-1]
	}
	return newest
}
