// Command midas-sidecar is Caddy with its standard modules and those that sign
// WeChat's virtual payment calls, and a few commands of its own.
package main

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"go.uber.org/zap"

	_ "midas-sidecar/caddymodule"
)

func main() {
	beFrugal()
	if err := harden(); err != nil {
		// Whoever runs it where that is forbidden wants it to run all the same.
		caddy.Log().Warn("memory is not kept out of core dumps", zap.Error(err))
	}
	caddycmd.Main()
}
