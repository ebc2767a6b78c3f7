package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The health checks, on the admin API and where a site has midas_health.
const (
	livePath  = "/midas/health/live"
	readyPath = "/midas/health/ready"

	// readyPatience is how long a check may wait for what is not at hand yet.
	readyPatience = 2 * time.Second
)

func init() {
	caddy.RegisterModule(Health{})
}

// Health answers GET /midas/health/live and GET /midas/health/ready on a site, for
// probes from outside the host; every other request goes to the next handler. It is
// ready, with status 200, once every app's Midas key and access_token could be had,
// and no longer, with status 503, when one of them may no longer be used or the process
// has been told to stop.
type Health struct {
	midas *Midas
}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.midas_health", New: func() caddy.Module { return new(Health) }}
}

// Provision finds the app.
func (h *Health) Provision(ctx caddy.Context) (err error) {
	h.midas, err = theApp(ctx)
	return err
}

// ServeHTTP answers a health check.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path != livePath && r.URL.Path != readyPath {
		return next.ServeHTTP(w, r)
	}
	return h.midas.health(w, r)
}

// health answers a check. It names what is missing and what is malformed; why a secret
// cannot be read is in the log.
func (m *Midas) health(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	state := struct {
		Status  string            `json:"status"`
		Missing map[string]string `json:"missing,omitempty"` // by appid
		// Malformed are fields and the rules that they break, by appid.
		Malformed map[string]map[string]string `json:"malformed,omitempty"`
	}{Status: "live"}
	status := http.StatusOK
	if r.URL.Path == readyPath {
		state.Status, state.Missing = "ready", m.missing(r.Context())
		state.Malformed = m.malformed()
		switch {
		case caddy.Exiting():
			// During shutdown_delay calls are still taken: time for balancers to send
			// no more. A reload is no reason, its next config takes over at once.
			state.Status, status = "stopping", http.StatusServiceUnavailable
		case len(state.Missing) > 0:
			state.Status, status = "unready", http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(state)
}

// missing returns, by appid, without what no payment can be made.
func (m *Midas) missing(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	missing := make(map[string]string)
	for appID, game := range m.games {
		if what := game.credentials.Missing(ctx); what != "" {
			missing[appID] = what
		}
	}
	return missing
}

// malformed returns, by appid, the fields of secrets that can never be right, whether or
// not an order needs them, and why.
func (m *Midas) malformed() map[string]map[string]string {
	malformed := make(map[string]map[string]string)
	for appID, game := range m.games {
		if fields := game.credentials.Malformed(); len(fields) > 0 {
			malformed[appID] = fields
		}
	}
	return malformed
}

var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
)
