// Package secrets knows what a secret store is, keeps what was read from one
// close at hand, and reads the simplest of them, a file.
package secrets

import (
	"context"
	"errors"
)

// What an error of a store says of more than the one read. Any other error is about
// what was asked for, such as a path that may not be read.
var (
	// ErrNotFound says that the store answered and holds no secret at the path.
	ErrNotFound = errors.New("no such secret")

	// ErrUnavailable says that the store could not be asked, whatever for. The
	// store tells its log when that begins and ends.
	ErrUnavailable = errors.New("the secret store cannot be used")

	// ErrReadOnly says that the store is of a kind that cannot be written.
	ErrReadOnly = errors.New("the secret store is read only")
)

// Store reads secrets by path.
type Store interface {
	// Read returns the fields of the secret at path as the store holds them
	// now. The error is, perhaps wrapped, ErrNotFound where there is none and
	// ErrUnavailable where nobody answers; it never carries a secret, nor the path,
	// which may name a player and which whoever asked knows.
	Read(ctx context.Context, path string) (Secret, error)
}

// Writer is a Store that can be written, too.
type Writer interface {
	Store

	// Write makes fields all that the secret at path holds. Its errors are those of
	// Read, without ErrNotFound. Where it ends in one, nobody knows what is there.
	Write(ctx context.Context, path string, fields Secret) error
}

// Secret is what lies at one path: values by field name.
type Secret map[string]Value
