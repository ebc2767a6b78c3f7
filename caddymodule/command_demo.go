package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "demo",
		Usage: "[--v2] [--listen <address>]",
		Short: "Shows a payment being signed and accepted, with nothing installed",
		Long: `
Runs the whole thing in one process: a simulated WeChat that verifies every
signature, and the sidecar in front of it with its keys in a file. Pays one order
and shows each step, then keeps serving so that you can try for yourself. The order
is one of WeChat's v1 API, or with --v2 one of the API that newer games must use.
Both are served either way.

Nothing leaves this host. Ctrl-C ends it and leaves nothing behind.
`,
		CobraFunc: func(cmd *cobra.Command) {
			listen := cmd.Flags().StringP("listen", "l", "127.0.0.1:8080", "Where the sidecar listens")
			v2 := cmd.Flags().Bool("v2", false, "Pay with /wxa/game/pay, for games that enabled payment after 2022-11-05")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				defer stop()
				paid := orderV1
				if *v2 {
					paid = orderV2
				}
				return demo(ctx, *listen, paid, cmd.OutOrStdout())
			}
		},
	})
}

const (
	demoApp    = "wx1234567"
	demoOffer  = "12345678"
	demoPlayer = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
)

// order is what the demo pays, as a game server would send it.
type order struct {
	api     *wechat.API
	command string // that pays it
	body    string
	next    string // another body, for whoever tries it
	// What the two signatures of the API are called.
	byMidasKey, bySessionKey string
}

var (
	orderV1 = order{
		api:     wechat.Pay,
		command: "demo",
		body:    `{"openid":"` + demoPlayer + `","amt":123,"bill_no":"Demo_1"}`,
		next:    `{"openid":"` + demoPlayer + `","amt":5,"bill_no":"Demo_2"}`,

		byMidasKey: "sig", bySessionKey: "mp_sig",
	}
	orderV2 = order{
		api:     wechat.PayV2,
		command: "demo --v2",
		body:    `{"openid":"` + demoPlayer + `","amount":123,"bill_no":"Demo_1"}`,
		next:    `{"openid":"` + demoPlayer + `","amount":5,"bill_no":"Demo_2"}`,

		byMidasKey: "pay_sig", bySessionKey: "signature",
	}
)

func (o order) endpoint() wechat.Endpoint { return wechat.At(o.api, wechat.Official) }

// demo shows one payment on out and serves until ctx ends.
func demo(ctx context.Context, address string, paid order, out io.Writer) error {
	// Opened to learn whether it can be, and which port it is where it says 0.
	probe, err := listenOn(ctx, address, paid.command+" --listen 127.0.0.1:8090")
	if err != nil {
		return err
	}
	address = probe.Addr().String()
	if err := probe.Close(); err != nil {
		return fmt.Errorf("trying %s: %w", address, err)
	}
	weChat, err := startWeChat(ctx, paid.endpoint().Path)
	if err != nil {
		return err
	}
	defer weChat.stop()

	dir, err := os.MkdirTemp("", "midas-sidecar-demo-")
	if err != nil {
		return fmt.Errorf("making a place for the demo's keys: %w", err)
	}
	defer os.RemoveAll(dir)
	keys := filepath.Join(dir, "keys.json")
	if err := writeKeys(keys, weChat.State()); err != nil {
		return err
	}
	caddyfile := demoCaddyfile(address, weChat.url, keys)
	if err := startSidecar(caddyfile); err != nil {
		return err
	}
	defer func() { _ = caddy.Stop() }()

	if err := showPayment(ctx, out, paid, "http://"+address, caddyfile, weChat); err != nil {
		return err
	}
	fmt.Fprintf(out, `
Try it yourself. The next order, from another terminal:

  curl -i http://%s%s -H 'Content-Type: application/json' \
    -d '%s'

Serving until Ctrl-C.
`, address, paid.endpoint().Path, paid.next)

	<-ctx.Done()
	fmt.Fprintln(out, "\nDone. Nothing was left behind.")
	return nil
}

// demoCaddyfile is a config that a user could have written.
func demoCaddyfile(address, weChat, keys string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`{
	admin off
	grace_period 30s
	persist_config off
	log {
		level ERROR
	}
	midas {
		secrets file %q
		app %s {
			offer_id %s
		}
		upstream %s
	}
}

http://:%s {
	bind %s
	midas
	respond 404
}
`, keys, demoApp, demoOffer, weChat, port, host)
}

func startSidecar(caddyfile string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return fmt.Errorf("reading the demo's Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting the sidecar: %w", err)
	}
	return nil
}

// writeKeys puts what the simulated WeChat gave out into a secrets file, as a Vault
// Agent template would.
func writeKeys(file string, state simulator.State) error {
	secrets := make(map[string]map[string]string)
	for appID, app := range state.Apps {
		secrets["midas/"+appID] = map[string]string{
			"midas_key":         app.MidasKey,
			"midas_key_sandbox": app.MidasKeySandbox,
			"app_secret":        app.Secret,
		}
		for openid, player := range app.Players {
			secrets["midas/"+appID+"/sessions/"+openid] = map[string]string{"session_key": player.SessionKey}
		}
	}
	text, err := json.MarshalIndent(secrets, "", "  ")
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the demo's keys: %w", err)
	}
	return nil
}
