//go:build !linux

package main

// harden keeps the process's memory, where the keys are, out of core files.
func harden() error { return noCore() }
