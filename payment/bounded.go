package payment

import (
	"context"
	"sync"
	"time"
)

// bounded is a context that ends at a time. Unlike those of package context it has no
// timer until somebody waits for its end: most orders wait for WeChat alone, and each
// attempt has a timer of its own.
type bounded struct {
	context.Context //nolint:containedctx // it is a context, and this is all but its end
	end             time.Time

	mu     sync.Mutex
	timed  context.Context //nolint:containedctx // the same with a timer, nil while nobody waits
	cancel context.CancelFunc
}

// until returns a context with the values of parent that ends at the time given,
// whatever becomes of parent. It is to be released when it is needed no longer.
func until(parent context.Context, end time.Time) *bounded {
	return &bounded{Context: context.WithoutCancel(parent), end: end}
}

// part returns a context that ends after the time given, or at this one's end.
func (b *bounded) part(d time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if b.end.Before(end) {
		end = b.end
	}
	return context.WithDeadline(b.Context, end)
}

// Deadline returns the end.
func (b *bounded) Deadline() (time.Time, bool) { return b.end, true }

// Done starts the timer.
func (b *bounded) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed == nil {
		b.timed, b.cancel = context.WithDeadline(b.Context, b.end)
	}
	return b.timed.Done()
}

// Err tells whether it has ended.
func (b *bounded) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.timed != nil:
		return b.timed.Err()
	case time.Now().Before(b.end):
		return nil
	}
	return context.DeadlineExceeded
}

// release ends it and frees its timer.
func (b *bounded) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed == nil {
		b.timed, b.cancel = released, func() {}
	}
	b.cancel()
}

// released is a context that has ended.
var released = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
