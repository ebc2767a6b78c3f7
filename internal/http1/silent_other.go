//go:build !unix || aix

package http1

// canAsk is whether the kernel tells that a kept connection is alive and has nothing to
// say. Where it does not, nobody knows, and no connection is kept.
const canAsk = false

func (*wire) silent() bool { return false }
