package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/http1"
)

// defaultIdle is how many idle connections are kept for each host. Caddy's 32 would
// make a busier sidecar dial all the time.
const defaultIdle = 10_000

// defaultMaxHeader is how many bytes an answer's header may have: WeChat's have a few
// hundred, and net/http would take 10 MiB.
const defaultMaxHeader = 64 << 10

// withoutMLKEM are the hosts of WeChat whose TLS handshakes leave it out, over reloads.
var withoutMLKEM = handshake.NewHosts(latestLog())

func init() {
	caddy.RegisterModule(Transport{})
}

// Transport is a transport for HTTP/1.1 that makes each call on the goroutine of its
// caller, without the two that Caddy's transport "http" wakes for each. It takes the same
// options, but for max_conns_per_host, keepalive_idle_conns (of all hosts),
// response_header_timeout, expect_continue_timeout, compression, read_buffer,
// write_buffer and proxy_protocol, and no version but 1.1. What goes by a proxy
// (network_proxy, or HTTPS_PROXY in the environment) goes as in "http".
type Transport struct {
	reverseproxy.HTTPTransport

	transport *http1.Transport
}

// CaddyModule returns the Caddy module information.
func (Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.midas", New: func() caddy.Module { return new(Transport) }}
}

// Provision sets the transport up.
func (t *Transport) Provision(ctx caddy.Context) error {
	if err := t.check(); err != nil {
		return err
	}
	t.Versions = []string{"1.1"}
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	if t.KeepAlive.MaxIdleConnsPerHost == 0 {
		t.KeepAlive.MaxIdleConnsPerHost = defaultIdle
	}
	if t.MaxResponseHeaderSize == 0 {
		t.MaxResponseHeaderSize = defaultMaxHeader
	}
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	t.transport = http1.New(t.Transport, withoutMLKEM)
	return nil
}

// check refuses options that would be without effect.
func (t *Transport) check() error {
	switch {
	case len(t.Versions) > 0 && !slices.Equal(t.Versions, []string{"1.1"}):
		return fmt.Errorf("versions: must be 1.1 for midas, got %q", t.Versions)
	case t.ResponseHeaderTimeout != 0:
		return errors.New("response_header_timeout: is not an option of midas; attempt_timeout is what bounds an attempt")
	}
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"max_conns_per_host", t.MaxConnsPerHost != 0},
		{"keepalive_idle_conns", t.KeepAlive != nil && t.KeepAlive.MaxIdleConns != 0},
		{"expect_continue_timeout", t.ExpectContinueTimeout != 0},
		{"compression", t.Compression != nil},
		{"read_buffer", t.ReadBufferSize != 0},
		{"write_buffer", t.WriteBufferSize != 0},
		{"proxy_protocol", t.ProxyProtocol != ""},
	} {
		if option.set {
			return fmt.Errorf("%s: is not an option of midas", option.name)
		}
	}
	return nil
}

// UnmarshalCaddyfile reads the block of the transport "http".
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if err := t.HTTPTransport.UnmarshalCaddyfile(d); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return d.Err(err.Error())
	}
	return nil
}

// RoundTrip sends the request.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.SetScheme(req)
	return t.transport.RoundTrip(req)
}

// Cleanup closes the connections that nobody uses.
func (t *Transport) Cleanup() error {
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Transport)(nil)
	_ caddy.CleanerUpper    = (*Transport)(nil)
	_ caddyfile.Unmarshaler = (*Transport)(nil)
	_ http.RoundTripper     = (*Transport)(nil)
)
