package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"midas-sidecar/internal/upstream"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("midas", func(d *caddyfile.Dispenser, existing any) (any, error) {
		if existing != nil {
			d.Next() // so that the error names the line
			return nil, d.Err("midas is already specified")
		}
		midas := new(Midas)
		if err := midas.UnmarshalCaddyfile(d); err != nil {
			return nil, err
		}
		return httpcaddyfile.App{Name: "midas", Value: caddyconfig.JSON(midas, nil)}, nil
	})
}

// UnmarshalCaddyfile sets up the app from the tokens of the global option. Syntax:
//
//	midas {
//		secrets vault <address> {
//			namespace   <ns>
//			mount       <path>
//			auth        token <token> | token_file <path> | approle { … }
//			ca_file     <pem>
//			client_cert <cert> <key>
//			server_name <name>
//			timeout     <duration>
//		}
//		secrets file <path>
//		cache {
//			fresh    <duration>
//			stale    <duration>
//			sessions <n>
//		}
//		app <appid> {
//			offer_id     <id>
//			offer_id_v2  <id>
//			secret       <path>
//			session      <path>
//			access_token stable | secret <path> [<field>]
//			mp_sig       on|off
//		}
//		upstream        <url...>
//		transport       <name> { … }
//		deadline        <duration>
//		attempt_timeout <duration>
//		replay          <duration>
//		on_unknown      leave|cancel
//	}
func (m *Midas) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if err := noArgument(d); err != nil {
		return err
	}
	err := lines{
		"secrets":         m.readSecrets,
		"cache":           m.readCache,
		"app":             m.readApp,
		"upstream":        m.readUpstream,
		"transport":       m.readTransport,
		"deadline":        checked(&m.Deadline, parseDuration),
		"attempt_timeout": checked(&m.AttemptTimeout, parseDuration),
		"replay":          checked(&m.Replay, parseDurationOrZero),
		"on_unknown":      word(&m.OnUnknown, unknownModes),
	}.readBlock(d, "app")
	if err == nil && !hasPlaceholder(string(m.Deadline+m.AttemptTimeout)) {
		if _, _, wrong := m.times(nil); wrong != nil {
			return d.Err(wrong.Error())
		}
	}
	return err
}

func (m *Midas) readCache(d *caddyfile.Dispenser) error {
	if err := noArgument(d); err != nil {
		return err
	}
	m.Cache = new(Cache)
	return lines{
		"fresh":    checked(&m.Cache.Fresh, parseDuration),
		"stale":    checked(&m.Cache.Stale, parseDurationOrZero),
		"sessions": checked(&m.Cache.Sessions, parseCount),
	}.readBlock(d)
}

func (m *Midas) readApp(d *caddyfile.Dispenser) error {
	var appID string
	if !d.AllArgs(&appID) {
		return d.Err("app: takes one argument, the appid")
	}
	if !hasPlaceholder(appID) {
		if err := checkAppID(appID); err != nil {
			return d.Errf("app: %v, got %q", err, appID)
		}
	}
	if m.Apps[appID] != nil {
		return d.Errf("app %s is already specified", appID)
	}
	app := new(App)
	if m.Apps == nil {
		m.Apps = make(map[string]*App)
	}
	m.Apps[appID] = app
	err := lines{
		"offer_id":     ruled(&app.OfferID, checkOfferID),
		"offer_id_v2":  ruled(&app.OfferIDV2, checkOfferID),
		"secret":       text(&app.Secret),
		"session":      app.readSession,
		"access_token": app.readAccessToken,
		"mp_sig":       app.readMPSig,
	}.readBlock(d)
	if err == nil && app.OfferID == "" {
		err = d.Errf("app %s: offer_id is missing", appID)
	}
	return err
}

// readSession knows that {openid} is no placeholder that could become another.
func (a *App) readSession(d *caddyfile.Dispenser) error {
	if err := text(&a.Session)(d); err != nil {
		return err
	}
	if strings.Count(a.Session, "{") == strings.Count(a.Session, "{appid}") {
		if err := checkSession(a.Session); err != nil {
			return d.Errf("session: %v", err)
		}
	}
	return nil
}

func (a *App) readAccessToken(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 1 && args[0] == "stable":
		return nil // the default
	case len(args) == 2 && args[0] == "secret":
		a.AccessToken = &AccessToken{Secret: args[1]}
		return nil
	case len(args) == 3 && args[0] == "secret":
		a.AccessToken = &AccessToken{Secret: args[1], Field: args[2]}
		return nil
	}
	return d.Err("access_token: must be stable, or secret <path> [<field>]")
}

func (a *App) readMPSig(d *caddyfile.Dispenser) error {
	var state string
	if err := word(&state, []string{"on", "off"})(d); err != nil {
		return err
	}
	on := state == "on"
	a.MPSig = &on
	return nil
}

func (m *Midas) readUpstream(d *caddyfile.Dispenser) error {
	m.Upstreams = d.RemainingArgs()
	if len(m.Upstreams) == 0 {
		return d.Err("upstream: takes one URL or more")
	}
	for _, host := range m.Upstreams {
		if hasPlaceholder(host) {
			continue
		}
		if _, err := upstream.New([]string{host}, nil); err != nil {
			return d.Err(err.Error())
		}
	}
	if err := checkPorts(m.Upstreams); err != nil {
		return d.Errf("upstream: %v", err)
	}
	if d.NextBlock(d.Nesting()) {
		return d.Err("upstream: takes no block; what concerns connections belongs into transport")
	}
	return nil
}

// transports are those that are made for orders; plugins may bring others.
var transports = []string{"midas", "http"}

func (m *Midas) readTransport(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("transport: must be %s", oneOf(transports))
	}
	name := d.Val()
	if slices.Contains(transports, name) && d.CountRemainingArgs() > 0 {
		return d.Errf("transport %s: takes no arguments, but a block", name)
	}
	id := "http.reverse_proxy.transport." + name
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("transport: must be %s, got %q", oneOf(transports), name)
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	if _, err := sender(module); err != nil {
		return d.Errf("transport %s: %v", name, err)
	}
	m.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}

var _ caddyfile.Unmarshaler = (*Midas)(nil)
