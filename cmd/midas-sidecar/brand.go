package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
)

// version is set by the linker: see the Makefile.
var version string

const about = `midas-sidecar signs WeChat's virtual payment (Midas) calls for a game server.

It takes unsigned JSON on a port of the same host, gets the keys from HashiCorp Vault,
signs, and passes the call to WeChat. No key, token or signature enters the game server,
and every answer says whether the player's money moved.

	- 'midas-sidecar demo' shows one payment, with nothing installed.
	- 'midas-sidecar run --config Caddyfile' runs the sidecar.
	- 'midas-sidecar validate --config Caddyfile' checks a config, also while Vault is away.
	- 'midas-sidecar simulator' serves a WeChat that verifies, to try and test against.

It is Caddy with its standard modules and a few more, so all other commands are Caddy's:
https://caddyserver.com/docs/command-line`

// brand makes Caddy speak of the sidecar.
func brand() {
	caddy.CustomBinaryName = "midas-sidecar"
	caddy.CustomLongDescription = about
	caddy.CustomVersion = fmt.Sprintf("midas-sidecar %s, Caddy", cmp.Or(version, revision(), "(devel)"))
}

// revision returns the commit that the binary was built from, as far as Go knows it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return setting.Value[:12]
		}
	}
	return ""
}

// refuseReplacement ends the process where it is asked to replace itself: Caddy's commands
// would install a Caddy that cannot pay.
func refuseReplacement() {
	if len(os.Args) < 2 {
		return
	}
	switch command := os.Args[1]; command {
	case "upgrade", "add-package", "remove-package":
		fmt.Fprintf(os.Stderr, "midas-sidecar %s: refused: it would put a stock Caddy, which cannot sign payments, in this program's place; "+
			"install another midas-sidecar, or build one with other modules from source\n", command)
		os.Exit(1)
	}
}
