package caddymodule

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// warnOfExposure logs a line for each server on which somebody from outside of the
// host may pay without being authenticated. Whoever can spend players' coins should
// have been chosen, and a site address alone, which listens on every interface, looks
// as if it had. In doubt it warns.
func warnOfExposure(ctx caddy.Context, log *slog.Logger) {
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return // nothing is served
	}
	app := module.(*caddyhttp.App)
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		if exposed := exposedAddresses(ctx, app, app.Servers[name]); len(exposed) > 0 {
			log.Warn("anyone who reaches this listener can spend players' coins: bind it to loopback or a unix socket, or authenticate callers",
				"server", name, "listen", exposed)
		}
	}
}

// warnOfAdmin logs a line where Caddy's admin API listens on a port. Whoever reaches it
// needs no credentials to send orders, and the secrets they carry, to a host of his own,
// or to have files shown to him that only the sidecar may read.
func warnOfAdmin(ctx caddy.Context, log *slog.Logger) {
	listen := adminListen(ctx)
	if address, err := caddy.ParseNetworkAddress(listen); listen != "" && err == nil && !address.IsUnixNetwork() {
		log.Warn("every program that reaches this port, the game server's too, can change the config through Caddy's admin API, and so take the keys: "+
			"write the global option admin off, or admin unix//run/midas/admin.sock|0600", "listen", listen)
	}
}

// adminListen is where the admin API listens, and empty where there is none. Caddy has
// no other way to tell its modules what stands beside the apps: a Caddy that keeps it
// elsewhere leaves this empty.
func adminListen(ctx caddy.Context) string {
	admin := field(field(reflect.ValueOf(ctx), "cfg"), "Admin")
	if disabled := field(admin, "Disabled"); disabled.Kind() != reflect.Bool || disabled.Bool() {
		return ""
	}
	listen, err := resolver{}.text(field(admin, "Listen").String())
	if err != nil {
		return "" // Caddy has refused it
	}
	return cmp.Or(listen, caddy.DefaultAdminListen)
}

// field is a field of a struct or of what points to one, if there is such a field.
func field(of reflect.Value, name string) reflect.Value {
	if of = reflect.Indirect(of); of.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return of.FieldByName(name)
}

// warnOfWhatIsShown logs a line for each setting that shows a credential to whoever sees
// the config, or all that is sent to whoever is on the network.
func (m *Midas) warnOfWhatIsShown(values resolver, hosts []string, options transportOptions) {
	if v := m.Secrets.Vault; v != nil {
		v.Auth.warnOfLiterals(values, m.log)
		if address, _ := values.text(v.Address); inPlainText(address) {
			m.warnOfNetwork("secrets vault", "write https://")
		}
	}
	if slices.ContainsFunc(hosts, inPlainText) {
		m.warnOfNetwork("upstream", "write https://")
	}
	if options.TLS.InsecureSkipVerify {
		m.warnOfNetwork("transport tls_insecure_skip_verify", "use tls_trust_pool")
	}
	if proxy, err := url.Parse(cmp.Or(options.NetworkProxy.URL, options.ForwardProxyURL)); err == nil && proxy.User != nil {
		password, _ := proxy.User.Password()
		warnOfLiteral(values, m.log, "transport network_proxy", password)
	}
}

func (m *Midas) warnOfNetwork(field, instead string) {
	m.log.Warn("what is sent there, keys or tokens among it, can be read, and changed, on the network: "+instead, "field", field)
}

// inPlainText reports whether what is sent to a URL leaves the host as it is.
func inPlainText(to string) bool {
	u, err := url.Parse(to)
	return err == nil && u.Scheme == "http" && !isLoopback(u.Hostname())
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// transportOptions are those of a transport's that are warned of, and its name.
type transportOptions struct {
	Protocol string `json:"protocol"`
	TLS      struct {
		InsecureSkipVerify bool `json:"insecure_skip_verify"`
	} `json:"tls"`
	NetworkProxy struct {
		URL string `json:"url"`
	} `json:"network_proxy"`
	ForwardProxyURL string `json:"forward_proxy_url"`
}

// optionsOf reads them from a config that Caddy has not loaded: after that it is gone.
// What is wrong with it is for the transport to say.
func optionsOf(transport json.RawMessage) (options transportOptions) {
	_ = json.Unmarshal(transport, &options)
	return options
}

// exposedAddresses are those of a server at which anyone can reach our handler.
func exposedAddresses(ctx caddy.Context, app *caddyhttp.App, server *caddyhttp.Server) (exposed []string) {
	plain := gatekeeper{server: server}
	secured := plain
	if slices.ContainsFunc(server.TLSConnPolicies, policyVerifies) {
		secured.tls = server.TLSConnPolicies.TLSConfig(ctx)
	}
	for _, listen := range server.Listen {
		address, _ := caddy.ParseNetworkAddress(listen) // checked by the http app
		if staysOnTheHost(address) {
			continue
		}
		keeper := secured
		if port := httpPort(app); address.StartPort <= port && port <= address.EndPort {
			keeper = plain // Caddy speaks no TLS there
		}
		if keeper.letsAnyonePay() {
			exposed = append(exposed, listen)
		}
	}
	return exposed
}

func staysOnTheHost(address caddy.NetworkAddress) bool {
	return address.IsUnixNetwork() || isLoopback(address.Host)
}

func httpPort(app *caddyhttp.App) uint {
	if app.HTTPPort == 0 {
		return caddyhttp.DefaultHTTPPort
	}
	return uint(app.HTTPPort)
}

// gatekeeper knows how far into a server somebody gets who has no credentials and
// comes from the internet.
type gatekeeper struct {
	server *caddyhttp.Server
	tls    *tls.Config // nil where nobody is asked for a certificate
	// inside are the named routes that are being looked at, which may go in circles.
	inside []string
}

func (g gatekeeper) letsAnyonePay() bool {
	if g.tls != nil && !slices.ContainsFunc(g.server.TLSConnPolicies, policyAdmitsAnyone) {
		return false
	}
	pays, _ := g.through(g.server.Routes)
	if !pays && g.server.Errors != nil {
		pays, _ = g.through(g.server.Errors.Routes)
	}
	return pays
}

// through reports whether routes lead such a caller to our handler, and if not, whether
// they stop everyone of his kind.
func (g gatekeeper) through(routes caddyhttp.RouteList) (pays, stopped bool) {
	for _, route := range routes {
		if g.refuses(route.MatcherSets) {
			continue
		}
		pays, stopped = g.along(route.Handlers)
		if pays {
			return true, false
		}
		// A route of a group is passed by where another one of it was taken.
		if stopped && len(route.MatcherSets) == 0 && route.Group == "" {
			return false, true
		}
	}
	return false, false
}

// along is through for the handlers of one route.
func (g gatekeeper) along(handlers []caddyhttp.MiddlewareHandler) (pays, stopped bool) {
	for _, handler := range handlers {
		switch handler := handler.(type) {
		case *Handler:
			return true, false
		case *caddyauth.Authentication:
			stopped = true
		case *reverseproxy.Handler:
			stopped = true // goes on only where another server said so, as in forward_auth
		case *caddyhttp.Subroute:
			pays, stopped = g.through(handler.Routes)
			if !pays && handler.Errors != nil {
				pays, _ = g.through(handler.Errors.Routes)
			}
		case *caddyhttp.Invoke:
			pays, stopped = g.throughNamed(handler.Name)
		}
		if pays || stopped {
			return pays, stopped
		}
	}
	return false, false
}

func (g gatekeeper) throughNamed(name string) (pays, stopped bool) {
	route := g.server.NamedRoutes[name]
	if route == nil || slices.Contains(g.inside, name) {
		return false, false
	}
	g.inside = append(slices.Clone(g.inside), name)
	return g.through(caddyhttp.RouteList{*route})
}

// refuses reports whether a route is closed to such a caller, whichever of its matcher
// sets he tries.
func (g gatekeeper) refuses(sets caddyhttp.MatcherSets) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, g.refusesBy)
	})
}

func (g gatekeeper) refusesBy(matcher any) bool {
	switch matcher := matcher.(type) {
	case *caddyhttp.MatchRemoteIP:
		return allPrivate(matcher.Ranges)
	case *caddyhttp.MatchClientIP:
		return allPrivate(matcher.Ranges)
	case *caddyhttp.MatchHost:
		return g.verifiesFor(*matcher)
	}
	return false
}

// verifiesFor reports whether nobody can ask for one of the hosts without a client
// certificate: each name has a TLS policy that requires one, and the server takes no
// request for a host other than the name of the handshake.
func (g gatekeeper) verifiesFor(hosts []string) bool {
	if strict := g.server.StrictSNIHost; g.tls == nil || strict == nil || !*strict {
		return false
	}
	for _, host := range hosts {
		if strings.ContainsAny(host, "*{") {
			return false // stands for names that may have policies of their own
		}
		config, err := g.tls.GetConfigForClient(&tls.ClientHelloInfo{ServerName: host, Conn: outsider{}})
		if err == nil && !slices.ContainsFunc(g.server.TLSConnPolicies, func(p *caddytls.ConnectionPolicy) bool {
			return p.TLSConfig == config && policyVerifies(p)
		}) {
			return false
		}
	}
	return true
}

// policyVerifies reports whether somebody has chosen whose certificates are taken: those of
// an authority, or those that a verifier, such as a list of certificates, lets through.
// Without either Go takes what any of the authorities signed that the system trusts.
func policyVerifies(p *caddytls.ConnectionPolicy) bool {
	if p.TLSConfig == nil {
		return false
	}
	switch p.TLSConfig.ClientAuth {
	case tls.RequireAndVerifyClientCert:
		return p.TLSConfig.ClientCAs != nil || hasVerifiers(p)
	case tls.RequireAnyClientCert:
		return hasVerifiers(p)
	}
	return false
}

// hasVerifiers looks where Caddy keeps them, which nothing else shows once they are made.
func hasVerifiers(p *caddytls.ConnectionPolicy) bool {
	verifiers := field(reflect.ValueOf(p.ClientAuthentication), "verifiers")
	return verifiers.Kind() == reflect.Slice && verifiers.Len() > 0
}

func policyAdmitsAnyone(p *caddytls.ConnectionPolicy) bool { return !p.Drop && !policyVerifies(p) }

// outsider is a connection from an address of the internet, which is all that a TLS
// policy may ask of it.
type outsider struct{ net.Conn }

func (outsider) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 1} }
func (outsider) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 2), Port: 1} }

// allPrivate reports whether ranges, which are addresses or prefixes, are all within those
// that Caddy calls private_ranges. What is a placeholder is in doubt.
func allPrivate(ranges []string) bool {
	return !slices.ContainsFunc(ranges, func(r string) bool {
		return !slices.ContainsFunc(caddyhttp.PrivateRangesCIDR(), func(private string) bool { return within(private, r) })
	})
}

// within reports whether all of inner is in outer, which nothing malformed is.
func within(outer, inner string) bool {
	out, _ := caddyhttp.CIDRExpressionToPrefix(outer)
	in, _ := caddyhttp.CIDRExpressionToPrefix(inner)
	return out.Bits() <= in.Bits() && out.Contains(in.Addr())
}
