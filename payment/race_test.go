//go:build race

package payment_test

// The race detector makes everything ten times slower.
const (
	defaultHistories = 1_000
	manyOrders       = 2_000
)
