//go:build !unix

package main

// openFiles returns how many files and sockets one process can have open: this
// system knows no limit.
func openFiles(want int) int { return want }
