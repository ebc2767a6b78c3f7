package credentials

import (
	"context"
	"sync/atomic"

	"midas-sidecar/internal/secrets"
)

// switchable is a store in whose place another one may be put that holds the same:
// one that logs in otherwise, or waits less long.
type switchable struct{ store atomic.Pointer[secrets.Store] }

func (s *switchable) use(store secrets.Store) { s.store.Store(&store) }

// Read implements secrets.Store.
func (s *switchable) Read(ctx context.Context, path string) (secrets.Secret, error) {
	return (*s.store.Load()).Read(ctx, path)
}

// writer returns the store if it can be written.
func (s *switchable) writer() (secrets.Writer, error) {
	if writer, ok := (*s.store.Load()).(secrets.Writer); ok {
		return writer, nil
	}
	return nil, secrets.ErrReadOnly
}

// troubled reports whether the store is known not to be usable.
func (s *switchable) troubled() bool {
	store, tells := (*s.store.Load()).(interface{ Trouble() *secrets.Trouble })
	return tells && store.Trouble() != nil
}

// Version is that of the store, if it has one.
func (s *switchable) Version() uint64 {
	if versioned, ok := (*s.store.Load()).(interface{ Version() uint64 }); ok {
		return versioned.Version()
	}
	return 0
}

// Look makes a store that is looked at now and then look at once.
func (s *switchable) Look() {
	if store, ok := (*s.store.Load()).(interface{ Look() }); ok {
		store.Look()
	}
}

// history is a store that keeps earlier versions of its secrets.
type history interface {
	// Earlier returns the newest of a secret's earlier versions that is another
	// one, or secrets.ErrNotFound.
	Earlier(ctx context.Context, path string, other func(secrets.Secret) bool) (secrets.Secret, error)
}

// Earlier is that of the store, if it has one.
func (s *switchable) Earlier(ctx context.Context, path string, other func(secrets.Secret) bool) (secrets.Secret, error) {
	if kept, ok := (*s.store.Load()).(history); ok {
		return kept.Earlier(ctx, path, other)
	}
	return nil, secrets.ErrNotFound
}
