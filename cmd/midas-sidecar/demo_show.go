package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"midas-sidecar/simulator"
	"midas-sidecar/wechat"
)

// weChat is a running simulator that remembers the payment which arrived last.
type weChat struct {
	*simulator.Simulator
	url      string
	server   *http.Server
	received chan received
}

// received is what arrived at WeChat.
type received struct{ query, body string }

func startWeChat(ctx context.Context) (*weChat, error) {
	simulated, err := simulator.New(simulator.Demo(), simulator.Options{})
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	listener, err := listenOn(ctx, "127.0.0.1:0", "")
	if err != nil {
		return nil, err
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
func showPayment(ctx context.Context, out io.Writer, sidecar, caddyfile string, weChat *weChat) error {
	fmt.Fprintf(out, "The sidecar runs with this Caddyfile, in front of a simulated WeChat at\n%s that verifies every signature:\n\n%s\n", weChat.url, indent(caddyfile))
	fmt.Fprintf(out, "1. The game server sends an order. It knows no key, no token and no signature:\n\n  POST %s\n  %s\n\n", demoPath, demoBody)

	before := weChat.Purse(demoApp, demoPlayer, wechat.Official).Balance
	order, err := http.NewRequestWithContext(ctx, http.MethodPost, sidecar+demoPath, strings.NewReader(demoBody))
	if err != nil {
		return fmt.Errorf("paying: %w", err)
	}
	order.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(order)
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
