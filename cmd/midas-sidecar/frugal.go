package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// beFrugal leaves to the game server what the sidecar can do without. GOMAXPROCS and
// GOGC in the environment overrule it.
//
// Half of the CPUs: a payment is mostly system calls, and waking another CPU for a part of
// it costs more than it gains. The CPU limit of a container counts instead, since Caddy's
// run heeds that: that much has been given to the sidecar alone.
//
// And half of the memory that Go lets become garbage before it collects: most of what is
// kept are remembered orders, through which the collector does not have to look, so that
// to collect twice as often costs little.
func beFrugal() {
	if os.Getenv("GOMAXPROCS") == "" {
		_ = os.Unsetenv("GOMAXPROCS") // Caddy would take "" for a wish
		runtime.GOMAXPROCS(max(1, min(runtime.GOMAXPROCS(0), runtime.NumCPU()/2)))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}
