// Package secrets knows what a secret store is, keeps what was read from one
// close at hand, and reads the simplest of them, a file.
package secrets

import (
	"context"
	"errors"
)

// ErrNotFound says that a store answered and holds no secret at the path. Any
// other error of a store means that it could not be asked.
var ErrNotFound = errors.New("no such secret")

// Store reads secrets by path.
type Store interface {
	// Read returns the fields of the secret at path as the store holds them
	// now. The error is ErrNotFound, perhaps wrapped, where there is none; it
	// never carries a secret.
	Read(ctx context.Context, path string) (Secret, error)
}

// Secret is what lies at one path: values by field name.
type Secret map[string]Value
