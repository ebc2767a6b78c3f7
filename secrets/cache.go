package secrets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
)

// Absent is how long a cache remembers that a secret does not exist: long enough
// to spare the store a storm, short enough for a player who just logged in.
const Absent = 2 * time.Second

// Cache keeps what was read from a store in the form in which it is used. A
// store is asked by one reader per path, however many callers wait for it.
type Cache[V any] struct {
	store   Store
	parse   func(Secret) (V, error)
	entries *otter.Cache[string, entry[V]]
}

type entry[V any] struct {
	value   V
	err     error     // nil, or why there is no value, known for a short time
	version uint64    // of the store before it was read
	renewed time.Time // when Renew read it, zero if Get did
}

// NewCache returns a cache of at most size secrets, each used for the time fresh
// before it is read again. parse turns a secret into what is used; its error goes
// on from the secret's path ("has no field midas_key") and names no value.
func NewCache[V any](store Store, size int, fresh time.Duration, parse func(Secret) (V, error)) *Cache[V] {
	return &Cache[V]{
		store: store,
		parse: parse,
		entries: otter.Must(&otter.Options[string, entry[V]]{
			MaximumSize: size,
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, entry[V]]) time.Duration {
				if e.Value.err != nil {
					return Absent
				}
				return fresh
			}),
			// Needed by Renew, and later than the expiry: nothing else refreshes.
			RefreshCalculator: otter.RefreshWriting[string, entry[V]](2 * fresh),
			Logger:            &otter.NoopLogger{}, // errors are returned, and logged where they matter
			Clock:             clock{},
		}),
	}
}

// Get returns the parsed secret at path. The error is ErrNotFound, perhaps
// wrapped, where there is none, the parser's where it makes no sense, and the
// store's where it cannot be asked; the last is never remembered.
func (c *Cache[V]) Get(ctx context.Context, path string) (V, error) {
	version := c.version()
	for {
		e, err := c.entries.Get(ctx, path, otter.LoaderFunc[string, entry[V]](c.load))
		if err != nil {
			return e.value, err
		}
		if e.version >= version {
			return e.value, e.err
		}
		c.entries.ComputeIfPresent(path, func(kept entry[V]) (entry[V], otter.ComputeOp) {
			if kept.version >= version {
				return kept, otter.CancelOp // another caller was here before
			}
			return kept, otter.InvalidateOp
		})
	}
}

// Renew is Get past what is kept, as long as that is still what failed: what another
// caller has read since is returned as it is. A value that fails though it was
// just renewed is wrong and not stale; it is not read again for the time Absent.
func (c *Cache[V]) Renew(ctx context.Context, path string, failed func(V) bool) (V, error) {
	e, kept := c.entries.GetIfPresent(path)
	if !kept || e.err != nil || !failed(e.value) {
		return c.Get(ctx, path)
	}
	if time.Since(e.renewed) < Absent {
		return e.value, nil
	}
	reload := func(ctx context.Context, path string) (entry[V], error) {
		e, err := c.load(ctx, path)
		e.renewed = time.Now()
		return e, err
	}
	select {
	case result := <-c.entries.Refresh(ctx, path, otter.LoaderFunc[string, entry[V]](reload)):
		if result.Err != nil {
			return e.value, result.Err
		}
		return result.Value.value, result.Value.err
	case <-ctx.Done():
		return e.value, context.Cause(ctx)
	}
}

// version grows with every change of a store that tells of changes. What was read
// before the last one is not used.
func (c *Cache[V]) version() uint64 {
	if s, ok := c.store.(interface{ Version() uint64 }); ok {
		return s.Version()
	}
	return 0
}

func (c *Cache[V]) load(ctx context.Context, path string) (entry[V], error) {
	e := entry[V]{version: c.version()}
	secret, err := c.store.Read(ctx, path)
	switch {
	case errors.Is(err, ErrNotFound):
		e.err = err
		return e, nil
	case err != nil:
		return e, err
	}
	if e.value, err = c.parse(secret); err != nil {
		e.err = fmt.Errorf("%s %w", path, err)
	}
	return e, nil
}

// clock ticks never: entries that have expired leave when they are asked for or
// when room is needed, and no cache has a goroutine to stop.
type clock struct{}

func (clock) NowNano() int64                      { return time.Now().UnixNano() }
func (clock) Tick(time.Duration) <-chan time.Time { return nil }
