package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"midas-sidecar/internal/breaker"
)

// warnEvery is how often the log is told that players' secrets are malformed.
const warnEvery = time.Minute

// Reader reads secrets of one kind, such as the session_keys of one app's players,
// from a store through a cache. The store is asked once at a time per path, however
// many callers wait for it, and nobody waits while there is a value that may be
// used. A kind that may not be read is asked for now and then only.
type Reader[V any] struct {
	cache   *Cache[V]
	store   Store
	breaker *breaker.Breaker
	kind    Kind

	unusable atomic.Bool             // whether the log has heard so
	warned   atomic.Int64            // when it last heard of a player, in Unix nanoseconds
	failed   atomic.Pointer[string]  // the path that was refused, if the last read was
	refusals atomic.Int64            // how many reads were refused since one worked
	trouble  atomic.Pointer[Trouble] // nil while secrets of the kind can be read again
}

// Kind is what the secrets of a Reader have in common.
type Kind struct {
	// Log, which should name the kind, is told when its secrets can no longer be
	// read though the store is there, and when one that is used no longer makes
	// sense.
	Log *slog.Logger

	// Players is the path where there is a secret for each player. It is then shown
	// instead of theirs, and it is no news if one of them is missing.
	Players string

	// Pace is that of asking for what cannot be read. Kinds that share one are
	// asked for no more often than that, all in all.
	Pace *breaker.Pace

	// Watcher is told what else there is to know. Default: nobody.
	Watcher Watcher
}

// Watcher is told what a Reader meets. It must not keep the Reader waiting.
type Watcher interface {
	// Read tells how a read of the store ended.
	Read(Result)
	// Stale tells once that secrets which are in use can no longer be read, and why.
	Stale(error)
}

// Result is how a read of the store ended.
type Result string

// The results.
const (
	Found       Result = "found"
	Absent      Result = "absent"      // there is none
	Malformed   Result = "malformed"   // it makes no sense
	Refused     Result = "refused"     // the store is there and does not give it
	Unavailable Result = "unavailable" // the store cannot be used
)

// ResultOf returns how a read of the store ended, by the error that it returned.
func ResultOf(err error) Result {
	switch {
	case err == nil:
		return Found
	case errors.Is(err, ErrNotFound):
		return Absent
	case errors.Is(err, ErrUnavailable):
		return Unavailable
	default:
		return Refused
	}
}

// Trouble is why secrets cannot be read again, and since when.
type Trouble struct {
	Since   time.Time
	Failure error
}

// Reader returns a reader of secrets of that kind from store.
func (c *Cache[V]) Reader(store Store, kind Kind) *Reader[V] {
	if kind.Watcher == nil {
		kind.Watcher = nobody{}
	}
	closed := breaker.New(kind.Log, "secret cannot be read", "secret can be read again", kind.Pace)
	return &Reader[V]{cache: c, store: store, breaker: closed, kind: kind}
}

type nobody struct{}

func (nobody) Read(Result) {}
func (nobody) Stale(error) {}

// Get returns the parsed secret at path. The error is ErrNotFound, perhaps
// wrapped, where there is none, the parser's where it makes no sense, and the
// store's where it cannot be read; the last is never remembered.
func (r *Reader[V]) Get(ctx context.Context, path string) (V, error) {
	version := r.version()
	for {
		e, err := r.cache.entries.Get(ctx, path, loader[V]{r, false})
		if err != nil {
			return e.value, err
		}
		if e.version >= version {
			return e.use()
		}
		select {
		case result := <-r.cache.entries.Refresh(ctx, path, loader[V]{r, true}):
			if result.Err != nil {
				return e.value, result.Err
			}
		case <-ctx.Done():
			return e.value, context.Cause(ctx)
		}
	}
}

// Renew is Get past what is kept, as long as that is still what failed: what another
// caller has read since is returned as it is. A value that fails though it was
// just renewed is wrong and not stale; it is not read again for a while.
func (r *Reader[V]) Renew(ctx context.Context, path string, failed func(V) bool) (V, error) {
	if s, ok := r.store.(interface{ Look() }); ok {
		s.Look()
	}
	e, kept := r.cache.entries.GetIfPresent(path)
	if !kept || !e.usable || e.version < r.version() || !failed(e.value) {
		return r.Get(ctx, path)
	}
	if e.renewed != 0 && since(e.renewed) < NegativeTTL {
		return e.value, nil
	}
	select {
	case result := <-r.cache.entries.Refresh(ctx, path, loader[V]{r, true}):
		if newer, kept := r.cache.entries.GetIfPresent(path); kept && newer.usable && !failed(newer.value) {
			return newer.value, nil // perhaps put there while the store was asked
		}
		if result.Err != nil {
			return e.value, result.Err
		}
		return result.Value.use()
	case <-ctx.Done():
		return e.value, context.Cause(ctx)
	}
}

// Put makes value what is known of the secret at path, to which the store was just
// changed. A read that began before the change, and may bring what was there before,
// does not replace it: the cache drops what is read for an entry that changes meanwhile.
func (r *Reader[V]) Put(path string, value V) {
	r.cache.entries.Set(path, entry[V]{value: value, usable: true, version: r.version(), read: time.Now().UnixNano()})
}

// version grows with every change of a store that tells of changes. What was read
// before the last one is not used.
func (r *Reader[V]) version() uint64 {
	if s, ok := r.store.(interface{ Version() uint64 }); ok {
		return s.Version()
	}
	return 0
}

// loader is how the cache reads.
type loader[V any] struct {
	*Reader[V]
	// renewing tells that somebody waits, since what is kept has failed.
	renewing bool
}

var errPanic = errors.New("reading a secret: panic")

// Load reads a secret of which nothing is known. The read goes on if whoever asked
// gives up: others may wait for what it says about the store.
func (l loader[V]) Load(ctx context.Context, path string) (entry[V], error) {
	type result struct {
		entry[V]
		error
	}
	done := make(chan result, 1)
	go func() {
		defer func() {
			if recover() != nil { // whose value may hold a secret
				done <- result{error: errPanic}
			}
		}()
		e, err := l.read(context.WithoutCancel(ctx), path, entry[V]{})
		switch {
		case err == nil:
			l.noteUse(e)
		default:
			l.neverHad(err)
			if e.err != nil {
				err = nil // a refusal is remembered for a while
			}
		}
		done <- result{e, err}
	}()
	select {
	case r := <-done:
		return r.entry, r.error
	case <-ctx.Done():
		return entry[V]{}, context.Cause(ctx)
	}
}

// Reload reads a secret again. One that has become malformed is a slip in the store,
// so the last good value is used on, as if it could not be read.
func (l loader[V]) Reload(ctx context.Context, path string, before entry[V]) (entry[V], error) {
	if !l.renewing {
		l.cache.slots <- struct{}{}
		defer func() { <-l.cache.slots }()
	}
	// Nobody waits, or else not here.
	e, err := l.read(context.WithoutCancel(ctx), path, before)
	if err != nil {
		l.goesStale(err)
		return e, err
	}
	if l.renewing {
		e.renewed = time.Now().UnixNano()
	}
	switch {
	case e.malformed():
		e.value, e.usable, e.read = before.value, before.usable, before.read
		if !before.malformed() {
			l.kind.Log.Warn("secret is malformed: the last good value is used", "error", e.err)
		}
		if l.kind.Players == "" { // one player's is not the kind's
			l.goesStale(e.err)
		}
	case before.malformed():
		l.kind.Log.Info("secret is well formed again")
	}
	l.noteUse(e)
	return e, nil
}

// noteUse tells the log when there is no secret to use, and when there is one again.
func (r *Reader[V]) noteUse(e entry[V]) {
	switch {
	case r.kind.Players != "":
		if !e.usable && e.malformed() {
			r.notePlayer(e.err)
		}
	case !e.usable && r.unusable.CompareAndSwap(false, true):
		r.kind.Log.Warn("secret cannot be used", "error", e.err)
	case e.usable && r.unusable.CompareAndSwap(true, false):
		r.kind.Log.Info("secret can be used")
	}
}

// notePlayer notes that the secret of a player is malformed. The log is told now and
// then only: whatever spoils one may spoil all.
func (r *Reader[V]) notePlayer(failure error) {
	r.trouble.CompareAndSwap(nil, &Trouble{time.Now(), failure})
	last, now := r.warned.Load(), time.Now().UnixNano()
	if now-last >= int64(warnEvery) && r.warned.CompareAndSwap(last, now) {
		r.kind.Log.Warn("secret cannot be used", "error", failure)
	}
}

// goesStale notes that a secret which is in use could not be read again.
func (r *Reader[V]) goesStale(failure error) {
	if r.trouble.CompareAndSwap(nil, &Trouble{time.Now(), failure}) {
		r.kind.Watcher.Stale(failure)
	}
}

// neverHad notes that a secret could not be read of which nothing is known. That is no
// news to the watcher, who is told of what is in use.
func (r *Reader[V]) neverHad(failure error) {
	if r.kind.Players == "" { // one player's is not the kind's
		r.trouble.CompareAndSwap(nil, &Trouble{time.Now(), failure})
	}
}

func (e entry[V]) malformed() bool { return e.err != nil && !errors.Is(e.err, ErrNotFound) }

// read asks the store, if its breaker allows it. The error is why the store did not tell
// whether there is such a secret; it is in the entry, too, if the store was asked.
func (r *Reader[V]) read(ctx context.Context, path string, before entry[V]) (entry[V], error) {
	e := entry[V]{version: r.version(), read: time.Now().UnixNano()}
	shown := path
	if r.kind.Players != "" {
		shown = r.kind.Players
	}
	try, err := r.breaker.Allow()
	if err != nil {
		return e, fmt.Errorf("reading %s: %w", shown, err)
	}
	secret, err := r.store.Read(ctx, path)
	switch {
	case errors.Is(err, ErrNotFound):
		r.worked(try, Absent)
		e.err = fmt.Errorf("reading %s: %w", shown, err)
		return e, nil
	case errors.Is(err, ErrUnavailable):
		r.kind.Watcher.Read(Unavailable)
		return e, fmt.Errorf("reading %s: %w", shown, err)
	case err != nil:
		r.refused(try, path, err)
		e.err = fmt.Errorf("reading %s: %w", shown, err)
		return e, e.err
	}
	if e.value, err = r.cache.parse(secret, before.value); err != nil {
		r.worked(try, Malformed)
		e.err = fmt.Errorf("%s %w", shown, err)
		return e, nil
	}
	r.worked(try, Found)
	e.usable = true
	return e, nil
}

// A kind is closed once so many reads of it running were refused. A store that refuses
// one read in ten, or every other one, such as a load balancer in front of nodes that
// do not all answer themselves, costs the reads that it refuses and no others: the
// chance that it refuses so many running is small. A policy that forbids the kind is
// asked that often before it is left alone.
const (
	refusalsOfOne     = 3 // the kind is one secret, and callers share a read of it
	refusalsOfPlayers = 8
)

// refused opens the breaker of the kind where the store refuses all of it, and not just
// some reads, or one player's secret.
func (r *Reader[V]) refused(try breaker.Try, path string, err error) {
	r.kind.Watcher.Read(Refused)
	before, limit := r.failed.Swap(&path), int64(refusalsOfOne)
	if r.kind.Players != "" {
		if before != nil && *before == path {
			return
		}
		limit = refusalsOfPlayers
	}
	if r.refusals.Add(1) >= limit {
		try.Failure(err, 0)
	}
}

// worked notes that secrets of the kind can be read.
func (r *Reader[V]) worked(try breaker.Try, result Result) {
	try.Success()
	r.failed.Store(nil)
	r.refusals.Store(0)
	if result != Malformed {
		r.trouble.Store(nil)
	}
	r.kind.Watcher.Read(result)
}

// Peek returns the value at path that is in use, and false where none is.
func (r *Reader[V]) Peek(path string) (value V, used bool) {
	e, kept := r.cache.entries.GetEntryQuietly(path)
	if !kept || !e.Value.usable {
		return value, false
	}
	return e.Value.value, true
}

// Age returns how long ago the value at path was read that is in use, and false where
// none is.
func (r *Reader[V]) Age(path string) (time.Duration, bool) {
	e, kept := r.cache.entries.GetEntryQuietly(path)
	if !kept || !e.Value.usable {
		return 0, false
	}
	return since(e.Value.read), true
}

// Trouble returns why secrets of the kind that are in use cannot be read again, nil
// where they can.
func (r *Reader[V]) Trouble() *Trouble { return r.trouble.Load() }

// Forget drops what is known of the secret at path.
func (r *Reader[V]) Forget(path string) { r.cache.entries.Invalidate(path) }
