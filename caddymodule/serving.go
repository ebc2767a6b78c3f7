package caddymodule

import (
	"maps"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"midas-sidecar/internal/wechat"
)

// summary is what the line of the start says of a config, besides its sites and apps.
type summary struct {
	store, transport string
	upstreams        []string
	// environments are those that at least one handler serves.
	environments map[string]bool
}

// serves notes that a handler serves the environment, or all where it names none.
func (s *summary) serves(environment string) {
	if s.environments == nil {
		s.environments = make(map[string]bool)
	}
	for _, one := range []wechat.Environment{wechat.Official, wechat.Sandbox} {
		if environment == "" || environment == string(one) {
			s.environments[string(one)] = true
		}
	}
}

// logServing writes the one line that each config begins with, which says what is
// served. It holds addresses, and of those no user, password, path or query.
func (m *Midas) logServing() {
	var hosts []string
	for _, upstream := range m.summary.upstreams {
		hosts = append(hosts, origin(upstream))
	}
	m.log.Info("serving",
		"sites", listeners(m.ctx),
		"apps", slices.Sorted(maps.Keys(m.games)),
		"environments", slices.Sorted(maps.Keys(m.summary.environments)),
		"secrets", m.summary.store,
		"upstreams", hosts,
		"transport", m.summary.transport,
		"version", version(),
	)
}

// listeners are the addresses of the http app's servers.
func listeners(ctx caddy.Context) []string {
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nil // nothing is served
	}
	var all []string
	for _, server := range module.(*caddyhttp.App).Servers {
		all = append(all, server.Listen...)
	}
	slices.Sort(all)
	return all
}

// where names the store by its kind and address.
func (p place) where() string {
	if p.File != "" {
		return "file " + p.File
	}
	return "vault " + origin(p.Vault.Address)
}

// origin is the scheme and the host of a URL.
func origin(of string) string {
	u, err := url.Parse(of)
	if err != nil {
		return "" // refused elsewhere
	}
	return u.Scheme + "://" + u.Host
}

// module is what this package is part of.
const module = "midas-sidecar"

// version is that of this module and its commit, as far as the build knows them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path != module { // built into another Caddy
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
		return "unknown"
	}
	parts := []string{info.Main.Version}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			parts = append(parts, setting.Value)
		}
	}
	return strings.Join(parts, " ")
}
