// Command midas-sidecar is Caddy with its standard modules and those that sign WeChat's
// virtual payment calls.
package main

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"go.uber.org/zap"

	_ "midas-sidecar/caddymodule"
)

func main() {
	brand()
	refuseReplacement()
	if err := harden(); err != nil {
		// Where that is forbidden, the sidecar is wanted to run nevertheless.
		caddy.Log().Warn("memory is not kept out of core dumps", zap.Error(err))
	}
	caddycmd.Main()
}
