// Command midas-sidecar is Caddy with its standard modules and those that sign
// WeChat's virtual payment calls, and a few commands of its own.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "midas-sidecar/caddymodule"
)

func main() {
	caddycmd.Main()
}
