package secrets

import (
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// NegativeTTL is how long it is remembered that a secret does not exist, or makes
	// no sense: long enough to spare the store a storm, short enough for a player who
	// just logged in.
	NegativeTTL = 2 * time.Second

	// again is how long after a read that failed the next one is tried, if by then
	// somebody still needs the secret.
	again = time.Second

	// background is how many reads a cache makes at once that nobody waits for: a
	// store that hangs is not asked for everything before it is known to hang.
	background = 4
)

// Ages are how long a secret may be used that was read once.
type Ages struct {
	// Fresh is the age in which nobody asks for a newer one. Beyond it the secret
	// is still used, while it is read again in the background.
	Fresh time.Duration

	// Stale is how long after that it may be used, if it cannot be read again.
	Stale time.Duration
}

// Cache keeps secrets of one kind in the form in which they are used, by path. It
// is filled and asked by Readers.
type Cache[V any] struct {
	ages    atomic.Pointer[Ages]
	parse   func(Secret, V) (V, error)
	entries *otter.Cache[string, entry[V]]
	slots   chan struct{}
}

// entry is what is known of one secret.
type entry[V any] struct {
	value   V
	usable  bool  // whether there is a value, of the last read that brought one
	err     error // why the last read brought none
	version uint64
	read    int64 // when the value was read, in Unix nanoseconds
	renewed int64 // when it was last read because it had failed, 0 for never
}

// NewCache returns a cache of at most size secrets. parse turns a secret into what
// is used; its error goes on from the secret's path ("has no field midas_key") and
// names no value. It may look at what was used before, which is V's zero value where
// nothing was. A V with a method Flawed() bool that returns true is used, and read
// again as soon as one that makes no sense.
func NewCache[V any](size int, ages Ages, parse func(s Secret, before V) (V, error)) *Cache[V] {
	c := &Cache[V]{parse: parse, slots: make(chan struct{}, background)}
	c.ages.Store(&ages)
	c.entries = otter.Must(&otter.Options[string, entry[V]]{
		MaximumSize:       size,
		ExpiryCalculator:  expiry[V]{&c.ages},
		RefreshCalculator: refresh[V]{&c.ages},
		Logger:            &otter.NoopLogger{}, // errors are logged by the breakers
		Clock:             clock{},
	})
	return c
}

// Set changes the size and the ages, the latter also of what is kept already.
func (c *Cache[V]) Set(size int, ages Ages) {
	c.ages.Store(&ages)
	c.entries.SetMaximum(uint64(max(size, 0)))
}

// SetAges changes the ages only.
func (c *Cache[V]) SetAges(ages Ages) { c.ages.Store(&ages) }

// Len returns about how many secrets are kept.
func (c *Cache[V]) Len() int { return c.entries.EstimatedSize() }

// Forget drops everything.
func (c *Cache[V]) Forget() { c.entries.InvalidateAll() }

func (e entry[V]) use() (V, error) {
	if e.usable {
		return e.value, nil
	}
	return e.value, e.err
}

func flawed(value any) bool {
	v, tells := value.(interface{ Flawed() bool })
	return tells && v.Flawed()
}

func since(unixNano int64) time.Duration { return time.Since(time.Unix(0, unixNano)) }

// expiry is when an entry is no longer used.
type expiry[V any] struct{ ages *atomic.Pointer[Ages] }

func (x expiry[V]) ExpireAfterCreate(e otter.Entry[string, entry[V]]) time.Duration {
	if !e.Value.usable {
		return NegativeTTL
	}
	ages := x.ages.Load()
	return max(ages.Fresh+ages.Stale-since(e.Value.read), 1)
}

func (x expiry[V]) ExpireAfterUpdate(e otter.Entry[string, entry[V]], _ entry[V]) time.Duration {
	return x.ExpireAfterCreate(e)
}

// ExpireAfterRead follows a change of the ages.
func (x expiry[V]) ExpireAfterRead(e otter.Entry[string, entry[V]]) time.Duration {
	if !e.Value.usable {
		return e.ExpiresAfter()
	}
	return x.ExpireAfterCreate(e)
}

// refresh is when an entry that is asked for is read again.
type refresh[V any] struct{ ages *atomic.Pointer[Ages] }

func (x refresh[V]) RefreshAfterCreate(e otter.Entry[string, entry[V]]) time.Duration {
	if e.Value.err != nil || flawed(e.Value.value) {
		return NegativeTTL
	}
	return x.ages.Load().Fresh
}

func (x refresh[V]) RefreshAfterUpdate(e otter.Entry[string, entry[V]], _ entry[V]) time.Duration {
	return x.RefreshAfterCreate(e)
}

func (x refresh[V]) RefreshAfterReload(e otter.Entry[string, entry[V]], _ entry[V]) time.Duration {
	return x.RefreshAfterCreate(e)
}

func (refresh[V]) RefreshAfterReloadFailure(otter.Entry[string, entry[V]], error) time.Duration {
	return again
}

// clock ticks never: entries that have expired leave when they are asked for or
// when room is needed, and no cache has a goroutine to stop.
type clock struct{}

func (clock) NowNano() int64                      { return time.Now().UnixNano() }
func (clock) Tick(time.Duration) <-chan time.Time { return nil }
