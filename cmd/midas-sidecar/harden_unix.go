//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noCore forbids core files to this process and those that it starts.
func noCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limiting core files: %w", err)
	}
	return nil
}
