package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps the process's memory, where the keys are, out of core dumps and from
// other processes of the same user. A limit of core size alone would not do: it does
// not hold where the kernel pipes dumps to a program.
func harden() error {
	var errs []error
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("making the process undumpable: %w", err))
	}
	return errors.Join(append(errs, noCore())...)
}
