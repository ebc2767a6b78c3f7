package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"midas-sidecar/internal/simulator"
	"midas-sidecar/internal/wechat"
)

// weChat is a running simulator that remembers the first call that arrived at path.
type weChat struct {
	*simulator.Simulator
	path     string
	url      string
	server   *http.Server
	received chan received
}

// received is what arrived at WeChat.
type received struct{ query, body string }

func startWeChat(ctx context.Context, path string) (*weChat, error) {
	simulated, err := simulator.New(simulator.Demo(), simulator.Options{})
	if err != nil {
		return nil, fmt.Errorf("starting the simulator: %w", err)
	}
	listener, err := listenOn(ctx, "127.0.0.1:0", "")
	if err != nil {
		return nil, err
	}
	w := &weChat{Simulator: simulated, path: path, url: "http://" + listener.Addr().String(), received: make(chan received, 1)}
	w.server = &http.Server{Handler: http.HandlerFunc(w.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = w.server.Serve(listener) }()
	return w, nil
}

func (w *weChat) stop() { _ = w.server.Close() }

func (w *weChat) serve(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == w.path {
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
func showPayment(ctx context.Context, out io.Writer, paid order, sidecar, caddyfile string, weChat *weChat) error {
	fmt.Fprintf(out, "The sidecar runs with this Caddyfile, in front of a simulated WeChat at\n%s that verifies every signature:\n\n%s\n", weChat.url, indent(caddyfile))
	fmt.Fprintf(out, "1. The game server sends an order. It knows no key, no token and no signature:\n\n  POST %s\n  %s\n\n", weChat.path, paid.body)

	before := weChat.Purse(demoApp, demoPlayer, wechat.Official).Balance
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, sidecar+weChat.path, strings.NewReader(paid.body))
	if err != nil {
		return fmt.Errorf("paying: %w", err)
	}
	call.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(call)
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

	if err := showSigning(out, paid, <-weChat.received); err != nil {
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
func showSigning(out io.Writer, paid order, got received) error {
	var sent struct {
		TS int64 `json:"ts"`
	}
	if err := json.Unmarshal([]byte(got.body), &sent); err != nil {
		return fmt.Errorf("reading what left the sidecar: %w", err)
	}
	request, err := wechat.Decode(paid.endpoint(), []byte(paid.body))
	if err == nil {
		request, err = request.Complete(demoApp, demoOffer)
	}
	if err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	byMidasKey, bySessionKey := request.CanonicalTexts(time.Unix(sent.TS, 0))
	fmt.Fprintf(out, "2. The sidecar fills in what is missing and signs two texts (secrets masked):\n\n  %s, with the Midas key:\n  %s\n\n  %s, with the player's session_key:\n  %s\n\n",
		paid.byMidasKey, byMidasKey, paid.bySessionKey, bySessionKey)

	query := token.ReplaceAllString(got.query, "access_token=******")
	fmt.Fprintf(out, "3. This went out to WeChat (signatures cut, token masked):\n\n  POST %s?%s\n  %s\n\n", paid.endpoint().Path, cut(query), cut(got.body))
	return nil
}

var (
	token     = regexp.MustCompile(`\baccess_token=[^&]*`)
	signature = regexp.MustCompile(`\b([0-9a-f]{8})[0-9a-f]{56}\b`)
)

// cut leaves of each signature what is enough to see that it is there.
func cut(text string) string { return signature.ReplaceAllString(text, "$1…") }

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}
