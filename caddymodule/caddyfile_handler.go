package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("midas", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("midas", httpcaddyfile.Before, "respond")
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	midas [<matcher>] {
//		environment official|sandbox
//		signed      reject|resign|pass
//		apis        <name...>
//		login
//		max_amount  <n>
//		max_body    <size>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if err := noArgument(d); err != nil {
		return err
	}
	return lines{
		"environment": word(&h.Environment, environments),
		"signed":      word(&h.Signed, signedModes),
		"apis":        h.readAPIs,
		"login":       flag(&h.Login),
		"max_amount":  checked(&h.MaxAmount, parseCount),
		"max_body":    checked(&h.MaxBody, parseSize),
	}.readBlock(d)
}

func (h *Handler) readAPIs(d *caddyfile.Dispenser) error {
	h.APIs = d.RemainingArgs()
	if len(h.APIs) == 0 {
		return d.Errf("apis: must be of %s", oneOf(apiNames()))
	}
	for i, name := range h.APIs {
		if !slices.Contains(apiNames(), name) {
			return d.Errf("apis: must be of %s, got %q", oneOf(apiNames()), name)
		}
		if slices.Contains(h.APIs[:i], name) {
			return d.Errf("apis: %s is already specified", name)
		}
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
