//go:build unix

package main

import "golang.org/x/sys/unix"

// openFiles returns how many files and sockets one process can have open. It raises
// the limit for this process and those that it starts, if it may.
func openFiles(want int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return want
	}
	wanted := uint64(want) //nolint:gosec // it is positive
	raised := unix.Rlimit{Cur: max(wanted, limit.Max), Max: max(wanted, limit.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		return want
	}
	limit.Cur = limit.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	return int(min(limit.Max, wanted)) //nolint:gosec // no more than an int
}
