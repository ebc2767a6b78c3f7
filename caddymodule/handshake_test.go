package caddymodule_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/handshake/handshaketest"
	"midas-sidecar/internal/simulator"
)

// Some networks drop a ClientHello of two packets. A single order gets through, as long as
// its deadline has time for an attempt more than there are hosts.
func TestAnOrderGetsThroughANetworkThatDropsALargeClientHello(t *testing.T) {
	for _, c := range []struct{ transport, versions string }{
		{"midas", "1.1"},
		{"http", "1.1"},
		{"http", "1.1 2"},
	} {
		t.Run(c.transport+" "+c.versions, func(t *testing.T) {
			weChat, err := simulator.New(simulator.Demo(), simulator.Options{})
			require.NoError(t, err)
			server := httptest.NewUnstartedServer(weChat)
			server.EnableHTTP2 = true
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
			server.StartTLS()
			defer server.Close()
			dir := t.TempDir()
			ca, lines := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "log")
			require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
			relays := []*handshaketest.Relay{
				handshaketest.NewRelay(t, server.Listener.Addr().String()),
				handshaketest.NewRelay(t, server.Listener.Addr().String()),
			}
			w := newWorld(t, fmt.Sprintf(`app %s {
				offer_id 12345678
			}
			deadline 8s
			attempt_timeout 500ms
			transport %s {
				tls_trust_pool file %s
				versions %s
			}`, appID, c.transport, ca, c.versions), "midas")
			before, after, _ := strings.Cut(w.config, "upstream http://")
			_, after, _ = strings.Cut(after, "\n")
			config := before + "upstream https://" + relays[0].Addr + " https://" + relays[1].Addr + "\n" + after
			w.reload(strings.Replace(config, "output discard", "output file "+lines, 1))

			for n := range 11 { // the first one finds out
				a := w.post("/cgi-bin/midas/pay", pay(fmt.Sprint("b1", n), 1))
				require.Equal(t, "applied", a.header.Get("Midas-Outcome"), a.body)
				require.Equal(t, "1", a.header.Get("Midas-Attempts"))
			}
			text, err := os.ReadFile(lines)
			require.NoError(t, err)
			for _, relay := range relays {
				require.LessOrEqual(t, relay.Dropped.Load(), int32(1))
				require.EqualValues(t, relay.Dropped.Load(), strings.Count(string(text), `leave out ML-KEM, since some networks drop a ClientHello of two packets","host":"`+relay.Addr))
			}
			require.Contains(t, string(text), "TLS handshake timed out")
			require.NotContains(t, string(text), "deadline exceeded")

			// A reload remembers what the network is like.
			dropped := relays[0].Dropped.Load()
			w.reload(strings.Replace(w.config, "deadline 8s", "deadline 9s", 1))
			require.Equal(t, http.StatusOK, w.post("/cgi-bin/midas/pay", pay("b2", 1)).status)
			require.Equal(t, dropped, relays[0].Dropped.Load())
		})
	}
}
