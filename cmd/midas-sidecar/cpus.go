package main

import (
	"os"
	"runtime"
)

// leaveCPUs makes Go use half of the CPUs of this machine, whose others are the game
// server's. A payment is mostly system calls, and waking another CPU for a part of it
// costs more than it gains. GOMAXPROCS overrules this, and so does the CPU limit of a
// container, which Caddy heeds: that much has been given to the sidecar alone.
func leaveCPUs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
}
