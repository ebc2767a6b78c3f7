//go:build !race

package payment_test

const (
	defaultHistories = 10_000
	manyOrders       = 10_000
)
