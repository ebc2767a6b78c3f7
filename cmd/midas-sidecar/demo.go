package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"midas-sidecar/simulator"
	"midas-sidecar/wechat"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "demo",
		Usage: "[--listen <address>]",
		Short: "Shows a payment being signed and accepted, with nothing installed",
		Long: `
Runs the whole thing in one process: a simulated WeChat that verifies every
signature, and the sidecar in front of it with its keys in a file. Pays one order
and shows each step, then keeps serving so that you can try for yourself.

Nothing leaves this host. Ctrl-C ends it and leaves nothing behind.
`,
		CobraFunc: func(cmd *cobra.Command) {
			listen := cmd.Flags().StringP("listen", "l", "127.0.0.1:8080", "Where the sidecar listens")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				defer stop()
				return demo(ctx, *listen, cmd.OutOrStdout())
			}
		},
	})
}

// The one order that the demo pays, as a game server would send it.
const (
	demoApp    = "wx1234567"
	demoPlayer = "odkx20ENSNa2w5y3g_qOkOvBNM1g"
	demoPath   = "/cgi-bin/midas/pay"
	demoBody   = `{"openid":"` + demoPlayer + `","amt":123,"bill_no":"Demo_1"}`
)

// demo shows one payment on out and serves until ctx ends.
func demo(ctx context.Context, listen string, out io.Writer) error {
	address, err := freeAddress(listen)
	if err != nil {
		return err
	}
	weChat, err := startWeChat()
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

	if err := showPayment(out, "http://"+address, caddyfile, weChat); err != nil {
		return err
	}
	fmt.Fprintf(out, `
Try it yourself. The next order, from another terminal:

  curl -i http://%s%s -H 'Content-Type: application/json' \
    -d '{"openid":"%s","amt":5,"bill_no":"Demo_2"}'

Serving until Ctrl-C.
`, address, demoPath, demoPlayer)

	<-ctx.Done()
	fmt.Fprintln(out, "\nDone. Nothing was left behind.")
	return nil
}

// freeAddress makes sure that the address can be listened on, and picks a port
// where it says 0.
func freeAddress(address string) (string, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("%s is taken by another program; choose another port, for example: midas-sidecar demo --listen 127.0.0.1:8090", address)
	}
	if err != nil {
		return "", fmt.Errorf("--listen must be an address such as 127.0.0.1:8080: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// demoCaddyfile is a config that a user could have written.
func demoCaddyfile(address, weChat, keys string) string {
	host, _, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`{
	admin off
	persist_config off
	log {
		level ERROR
	}
	midas {
		secrets file %s
		app %s {
			offer_id 12345678
		}
		upstream %s
	}
}

http://%s {
	bind %s
	midas
}
`, keys, demoApp, weChat, address, host)
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

// weChat is a running simulator that remembers the payment which arrived last.
type weChat struct {
	*simulator.Simulator
	url      string
	server   *http.Server
	received chan received
}

// received is what arrived at WeChat.
type received struct{ query, body string }

func startWeChat() (*weChat, error) {
	simulated, err := simulator.New(simulator.Demo(), simulator.Options{})
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	w := &weChat{Simulator: simulated, url: "http://" + listener.Addr().String(), received: make(chan received, 1)}
	w.server = &http.Server{Handler: http.HandlerFunc(w.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = w.server.Serve(listener) }()
	return w, nil
}

func (w *weChat) stop() { _ = w.server.Close() }

func (w *weChat) serve(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == demoPath {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case w.received <- received{r.URL.RawQuery, string(body)}:
		default: // only the first is shown
		}
	}
	w.ServeHTTP(rw, r)
}

// showPayment pays one order and shows each step of it.
func showPayment(out io.Writer, sidecar, caddyfile string, weChat *weChat) error {
	fmt.Fprintf(out, "The sidecar runs with this Caddyfile, in front of a simulated WeChat at\n%s that verifies every signature:\n\n%s\n", weChat.url, indent(caddyfile))
	fmt.Fprintf(out, "1. The game server sends an order. It knows no key, no token and no signature:\n\n  POST %s\n  %s\n\n", demoPath, demoBody)

	before := weChat.Purse(demoApp, demoPlayer, wechat.Official).Balance
	answer, err := http.Post(sidecar+demoPath, "application/json", strings.NewReader(demoBody))
	if err != nil {
		return fmt.Errorf("paying: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("paying: %w", err)
	}
	if outcome := answer.Header.Get("Midas-Outcome"); outcome != "applied" {
		return fmt.Errorf("the payment did not end as it should: %s %s", outcome, body)
	}

	if err := showSigning(out, <-weChat.received); err != nil {
		return err
	}
	fmt.Fprintf(out, "4. WeChat found both signatures right, took the coins, and its answer came back,\n   byte for byte, with the outcome:\n\n  HTTP %s\n", answer.Status)
	for _, name := range []string{"Midas-Outcome", "Midas-Attempts"} {
		fmt.Fprintf(out, "  %s: %s\n", name, answer.Header.Get(name))
	}
	after := weChat.Purse(demoApp, demoPlayer, wechat.Official).Balance
	fmt.Fprintf(out, "  %s\n\nThe player had %d coins and has %d now.\n", bytes.TrimSpace(body), before, after)
	return nil
}

// showSigning shows what was signed and what left the sidecar, from what arrived.
func showSigning(out io.Writer, got received) error {
	var sent struct {
		TS    int64  `json:"ts"`
		Sig   string `json:"sig"`
		MPSig string `json:"mp_sig"`
	}
	if err := json.Unmarshal([]byte(got.body), &sent); err != nil {
		return fmt.Errorf("reading what left the sidecar: %w", err)
	}
	request, err := wechat.Decode(wechat.At(wechat.Pay, wechat.Official), []byte(demoBody))
	if err == nil {
		request, err = request.Complete(demoApp, "12345678")
	}
	if err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	sigText, mpSigText := request.CanonicalTexts(time.Unix(sent.TS, 0))
	fmt.Fprintf(out, "2. The sidecar fills in what is missing and signs two texts (secrets masked):\n\n  sig, with the Midas key:\n  %s\n\n  mp_sig, with the player's session_key:\n  %s\n\n", sigText, mpSigText)

	shown := strings.NewReplacer(sent.Sig, sent.Sig[:8]+"…", sent.MPSig, sent.MPSig[:8]+"…").Replace(got.body)
	fmt.Fprintf(out, "3. This went out to WeChat (signatures cut, token masked):\n\n  POST %s?access_token=******\n  %s\n\n", demoPath, shown)
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}
