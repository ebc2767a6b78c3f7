// Floor is the least that a payment can cost on Caddy: a handler that passes a body on by
// the sidecar's transport, and its answer back, and does nothing else. No signing, no
// memory, no log: what the sidecar costs beyond this is its own, what this costs is Caddy's
// and the kernel's.
package main

import (
	"bytes"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"midas-sidecar/internal/http1"
)

func init() {
	caddy.RegisterModule(floor{})
	httpcaddyfile.RegisterHandlerDirective("floor", parse)
	httpcaddyfile.RegisterDirectiveOrder("floor", httpcaddyfile.Before, "reverse_proxy")
}

func main() { caddycmd.Main() }

// floor passes requests on to an upstream.
type floor struct {
	Upstream  string `json:"upstream"`
	transport http.RoundTripper
}

// CaddyModule returns the Caddy module information.
func (floor) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.floor", New: func() caddy.Module { return new(floor) }}
}

func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	f := new(floor)
	return f, f.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads "floor <address>".
func (f *floor) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&f.Upstream) {
		return d.ArgErr()
	}
	return nil
}

// Provision makes the transport.
func (f *floor) Provision(caddy.Context) error {
	f.transport = http1.New(&http.Transport{MaxIdleConnsPerHost: 10_000}, nil)
	return nil
}

// ServeHTTP passes one request on.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://"+f.Upstream+r.URL.Path, bytes.NewReader(body)) //nolint:gosec // where the config says
	if err != nil {
		return err
	}
	req.Header["Content-Type"] = r.Header["Content-Type"]
	res, err := f.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = res.Header["Content-Type"]
	w.WriteHeader(res.StatusCode)
	_, err = w.Write(answer)
	return err
}
