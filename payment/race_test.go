//go:build race

package payment_test

// The race detector makes a history ten times slower.
const defaultHistories = 1_000
