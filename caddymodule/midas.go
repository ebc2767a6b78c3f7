// Package caddymodule is the Caddy skin of midas-sidecar: the app "midas", which
// holds what all sites share, and the handler "midas", which takes a game
// server's unsigned calls. What they decide is decided elsewhere; this is glue.
package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/handshake"
	"midas-sidecar/internal/login"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/upstream"
)

const (
	defaultDeadline       = 10 * time.Second
	defaultAttemptTimeout = 3 * time.Second
	defaultReplay         = 10 * time.Minute
)

var defaultUpstreams = []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com"}

func init() {
	caddy.RegisterModule(Midas{})
}

// Midas signs the virtual payment calls of WeChat mini games. This app holds what
// all sites share: the secret store, the games and the way to WeChat. The handler
// "midas" puts it to work.
//
// All values may be placeholders such as {env.NAME} and {file./path}. They are
// resolved when the config is loaded; those of credentials for Vault at every
// login.
type Midas struct {
	// Secrets is where keys and tokens are kept. Required.
	Secrets *Secrets `json:"secrets,omitempty"`

	// Cache says how long secrets are used that were read once.
	Cache *Cache `json:"cache,omitempty"`

	// Apps are the games that may pay, by appid. At least one.
	Apps map[string]*App `json:"apps,omitempty"`

	// Upstreams are WeChat's access points in order of preference: scheme and
	// host. Default: https://api.weixin.qq.com, then https://api2.weixin.qq.com.
	Upstreams []string `json:"upstreams,omitempty"`

	// TransportRaw is the transport to WeChat, as in reverse_proxy. Default: midas.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Deadline is how long one order may take, all in all. Default: 10s.
	Deadline Setting `json:"deadline,omitempty"`

	// AttemptTimeout is how long WeChat may take to answer one attempt. Default:
	// 3s, or Deadline where that is shorter.
	AttemptTimeout Setting `json:"attempt_timeout,omitempty"`

	// Replay is how long an order is remembered: its answer is given again to the
	// same call, and its bill_no stands for nothing else. At most 100000 orders.
	// "0" turns that off. Default: 10m.
	Replay Setting `json:"replay,omitempty"`

	// OnUnknown says what happens to a pay whose end stays unknown: "leave" it to
	// the caller, or "cancel" it, within one more deadline. Default: leave.
	OnUnknown string `json:"on_unknown,omitempty"`

	games     map[string]game
	processor *payment.Processor
	logins    *login.Processor
	shared    *shared
	store     store
	keys      *sharedKeys
	acquired  acquired // of what outlives the config
	summary   summary
	closeIdle func() // connections to WeChat that no module of the config has, nil where there are none
	log       *slog.Logger
	events    *caddyevents.App
	ctx       caddy.Context // of its events, and to find the http app
}

// game is an app that is ready to pay.
type game struct {
	appID       string
	offerIDs    offerIDs
	credentials *credentials.Credentials
}

// CaddyModule returns the Caddy module information.
func (Midas) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "midas", New: func() caddy.Module { return new(Midas) }}
}

// Provision makes the games ready to pay. It speaks to nobody, so that a config
// can be validated anywhere and a store that is down prevents no start.
func (m *Midas) Provision(ctx caddy.Context) error {
	if m.Secrets == nil && len(m.Apps) == 0 {
		return errors.New("the global option midas is missing or empty, which says where keys are kept and which apps may pay")
	}
	if m.Secrets == nil {
		return errors.New("secrets: is missing: say where keys are kept, in the global option midas")
	}
	if len(m.Apps) == 0 {
		return errors.New("app: is missing: configure at least one, in the global option midas")
	}
	m.log = ctx.Slogger()
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	m.events, m.ctx = events.(*caddyevents.App), ctx
	var values resolver
	hosts, err := m.hosts(values)
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	options := optionsOf(m.TransportRaw)
	m.summary.upstreams, m.summary.transport = hosts, cmp.Or(options.Protocol, "midas")
	client, err := m.client(ctx, hosts)
	if err != nil {
		return err
	}
	if m.shared, err = acquire(&m.acquired, "shared", newShared); err != nil {
		return err
	}
	weChat := strings.Join(hosts, " ")
	if err := m.takeKeys(values, weChat, client); err != nil {
		return err
	}
	m.warnOfWhatIsShown(values, hosts, options)
	if err := m.openGames(values, weChat, client); err != nil {
		return err
	}
	if m.processor, err = m.newProcessor(values, client); err != nil {
		return err
	}
	m.logins = &login.Processor{Sender: client, Deadline: m.processor.Deadline, AttemptTimeout: m.processor.AttemptTimeout}
	m.shared.allow(m.processor)
	return nil
}

func (m *Midas) openGames(values resolver, weChat string, client *upstream.Client) error {
	m.games = make(map[string]game)
	for appID, app := range m.Apps {
		resolved, err := app.resolve(values, appID)
		if err != nil {
			return fmt.Errorf("app %s: %w", appID, err)
		}
		id := resolved.credentials.AppID
		if _, twice := m.games[id]; twice {
			return fmt.Errorf("app %s: is configured twice", id)
		}
		resolved.credentials.WeChat = weChat
		m.games[id] = game{id, resolved.offerIDs, m.keys.Of(resolved.credentials, client)}
	}
	return nil
}

func (m *Midas) newProcessor(values resolver, client *upstream.Client) (*payment.Processor, error) {
	deadline, attempt, err := m.times(values)
	if err != nil {
		return nil, err
	}
	replay, err := resolve(values, m.Replay, defaultReplay, parseDurationOrZero)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return &payment.Processor{
		Sender:         client,
		Ledger:         m.shared.ledger,
		Deadline:       deadline,
		AttemptTimeout: attempt,
		Replay:         replay,
		CancelUnknown:  m.OnUnknown == "cancel",
		Observe:        m.shared.observe,
	}, nil
}

// times returns how long an order and an attempt may take.
func (m *Midas) times(values resolver) (deadline, attempt time.Duration, err error) {
	if deadline, err = resolve(values, m.Deadline, defaultDeadline, parseDuration); err != nil {
		return 0, 0, fmt.Errorf("deadline: %w", err)
	}
	if attempt, err = resolve(values, m.AttemptTimeout, min(defaultAttemptTimeout, deadline), parseDuration); err != nil {
		return 0, 0, fmt.Errorf("attempt_timeout: %w", err)
	}
	if deadline < attempt {
		return 0, 0, fmt.Errorf("deadline: must not be shorter than attempt_timeout: %s is shorter than %s", deadline, attempt)
	}
	return deadline, attempt, nil
}

// Validate checks the fixed word.
func (m *Midas) Validate() error {
	if m.OnUnknown != "" && !slices.Contains(unknownModes, m.OnUnknown) {
		return fmt.Errorf("on_unknown: must be %s, got %q", oneOf(unknownModes), m.OnUnknown)
	}
	return nil
}

var unknownModes = []string{"leave", "cancel"}

// hosts returns WeChat's access points.
func (m *Midas) hosts(values resolver) ([]string, error) {
	if len(m.Upstreams) == 0 {
		return defaultUpstreams, nil
	}
	hosts := slices.Clone(m.Upstreams)
	for i, host := range hosts {
		var err error
		if hosts[i], err = values.text(host); err != nil {
			return nil, err
		}
	}
	return hosts, checkPorts(hosts)
}

// checkPorts finds the hosts that cannot be dialled. What else may be wrong with one is
// for upstream to say.
func checkPorts(hosts []string) error {
	for i, host := range hosts {
		u, err := url.Parse(host)
		if err != nil || u.Port() == "" {
			continue
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return fmt.Errorf("the port must be from 1 to 65535; that of number %d is not", i+1)
		}
	}
	return nil
}

// client makes the way to WeChat.
func (m *Midas) client(ctx caddy.Context, hosts []string) (*upstream.Client, error) {
	if m.TransportRaw == nil {
		m.TransportRaw = json.RawMessage(`{"protocol":"midas"}`)
	}
	module, err := ctx.LoadModule(m, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("loading transport: %w", err)
	}
	transport, err := sender(module)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if t, ok := module.(*reverseproxy.HTTPTransport); ok {
		careful := handshake.NewTransport(t.Transport, withoutMLKEM)
		m.closeIdle = careful.CloseIdleConnections
		transport = careful
	}
	return upstream.New(hosts, transport)
}

// sender returns the transport that a module is, if orders may be trusted to it: they
// go on while the config is replaced, whose transport Caddy then cleans up. Of HTTP 1
// and 2 that closes what is idle, of HTTP/3 everything.
func sender(module any) (http.RoundTripper, error) {
	if _, ok := module.(*fastcgi.Transport); ok {
		return nil, errors.New("speaks FastCGI and not HTTP")
	}
	if t, ok := module.(*reverseproxy.HTTPTransport); ok {
		switch {
		case slices.Contains(t.Versions, "3"):
			return nil, errors.New("versions: must not be 3: a reload would cut the orders that are in flight over HTTP/3")
		case t.ProxyProtocol != "":
			return nil, errors.New("proxy_protocol: must not be set: WeChat is not told who calls, and no order would be sent")
		}
	}
	transport, ok := module.(http.RoundTripper)
	if !ok {
		return nil, fmt.Errorf("%T cannot send requests", module)
	}
	return transport, nil
}

// Start turns the logs of what outlives configs over to this one, and warns where it
// serves too many or lets them change it. All else is read when it is first needed.
func (m *Midas) Start() error {
	running.enter(m)
	warnOfExposure(m.ctx, m.log)
	warnOfAdmin(m.ctx, m.log)
	m.logServing()
	return nil
}

// Stop does nothing: apps stop in no particular order, and the http app may still
// be taking calls.
func (*Midas) Stop() error { return nil }

// Cleanup gives back what outlives the config. Where only that changes, orders in
// flight go on meanwhile; they hold on to what they need. Where the process is about
// to end, they are waited for, since the http app waits no longer than grace_period.
func (m *Midas) Cleanup() error {
	defer running.leave(func(other *Midas) bool { return other == m })
	if m.closeIdle != nil {
		m.closeIdle()
	}
	if m.keys != nil {
		m.keys.users.leave(func(u user) bool { return u.config == m })
	}
	if m.shared == nil || !caddy.Exiting() {
		return m.acquired.release()
	}
	m.shared.await()
	err := m.acquired.release()
	ctx, cancel := context.WithTimeout(context.Background(), closingTime)
	defer cancel()
	return errors.Join(err, m.shared.closing.Wait(ctx))
}

var (
	_ caddy.App          = (*Midas)(nil)
	_ caddy.Provisioner  = (*Midas)(nil)
	_ caddy.Validator    = (*Midas)(nil)
	_ caddy.CleanerUpper = (*Midas)(nil)
)
