//go:build race

package payment_test

// The race detector makes everything ten times slower, and now and then crashes itself
// where much happens in fake time (golang.org/issue/78156).
const (
	defaultHistories = 300
	manyOrders       = 2_000
)
