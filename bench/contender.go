package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"
)

// contender is what the load can call.
type contender struct {
	name    string
	signs   bool   // WeChat may verify
	sidecar bool   // answers say their outcome
	command string // the Go package of its program, "" where it is none
	config  string
	lines   string // of the midas block, where the contender is a sidecar
	frugal  bool   // is told to use half of the CPUs, and to collect garbage at 50%
	admin   bool   // with Caddy's admin API, which shows profiles
}

const (
	nameDirect = "direct"
	nameCaddy  = "caddy"
	nameFrugal = "caddy, as frugal"
	nameFloor  = "floor"
	nameNginx  = "nginx"
	nameLua    = "nginx+lua"
)

// contenders are in the order of the tables. The sidecar may be there several times,
// with other lines in its midas block, such as "transport http { … }".
var contenders = []contender{
	{name: nameDirect},
	{name: nameCaddy, command: commandCaddy, config: "caddy.Caddyfile"},
	{name: nameFrugal, command: commandCaddy, config: "caddy.Caddyfile", frugal: true},
	{name: nameFloor, command: "midas-sidecar/bench/floor", config: "floor.Caddyfile", frugal: true},
	{name: "midas-sidecar", command: commandSidecar, config: "sidecar.Caddyfile", signs: true, sidecar: true, frugal: true},
	{name: "midas-sidecar, transport http", command: commandSidecar, config: "sidecar.Caddyfile", signs: true, sidecar: true, frugal: true, lines: "transport http"},
	{name: nameNginx, config: "nginx.conf"},
	{name: nameLua, config: "nginx.conf", signs: true},
}

const (
	commandCaddy   = "github.com/caddyserver/caddy/v2/cmd/caddy"
	commandSidecar = "midas-sidecar/cmd/midas-sidecar"
)

// firstSidecar returns the first that is wanted.
func (o options) firstSidecar() (c contender, ok bool) {
	at := slices.IndexFunc(contenders, func(c contender) bool { return c.sidecar && o.only.MatchString(c.name) })
	if at < 0 {
		return contender{}, false
	}
	return contenders[at], true
}

func (c contender) isNginx() bool { return c.config == "nginx.conf" }

//go:embed config
var configs embed.FS

var templates = template.Must(template.ParseFS(configs, "config/*.conf", "config/*.Caddyfile"))

// site is what the templates of the configs are filled with.
type site struct {
	Address string // where the contender listens
	Admin   string // where its admin API does, or "off"
	WeChat  string
	Vault   string
	Dir     string // the contender's own

	Apps  []app
	Lines string

	Signs   bool
	Root    bool
	Workers int
	Modules []string
}

// app is a game in a config.
type app struct{ ID, OfferID string }

// proxy is a contender that runs.
type proxy struct {
	contender
	address string
	admin   string // the address of its admin API, or "off"
	pid     int    // 0 where the load calls WeChat itself
	stop    func()
}

// nginxModules are the files to load for Lua, in this order.
var nginxModules = []string{"ndk_http_module.so", "ngx_http_lua_module.so"}

// missing says why a contender cannot run here, "" where it can.
func (l *lab) missing(ctx context.Context, c contender) string {
	if !c.isNginx() {
		return ""
	}
	if l.nginx == "" {
		return "nginx is not installed"
	}
	dir, err := os.MkdirTemp(l.dir, "try-")
	if err != nil {
		return err.Error()
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err.Error()
	}
	s := l.site(c, dir, address, 1)
	for _, module := range s.Modules {
		if _, err := os.Stat(module); err != nil {
			return "the Lua module of nginx is not installed"
		}
	}
	if _, err := l.writeConfig(c, s, 1); err != nil {
		return err.Error()
	}
	said, err := exec.CommandContext(ctx, l.nginx, "-t", "-e", "stderr", "-p", dir, "-c", "nginx.conf").CombinedOutput() //nolint:gosec // nginx, which was looked for
	if err != nil {
		line, _, _ := strings.Cut(string(said), "\n")
		return "nginx does not take its config: " + line
	}
	return ""
}

// site returns what the config of a contender needs to know.
func (l *lab) site(c contender, dir, address string, apps int) site {
	s := site{
		Address: address, Admin: "off", WeChat: l.places.WeChat, Vault: l.places.Vault, Dir: dir,
		Lines: c.lines, Signs: c.signs,
		Root: os.Geteuid() == 0, Workers: l.workers,
	}
	for i := range apps {
		s.Apps = append(s.Apps, app{appID(i), offerID(i)})
	}
	if c.isNginx() && c.signs {
		for _, name := range nginxModules {
			s.Modules = append(s.Modules, filepath.Join(l.nginxModules, name))
		}
	}
	return s
}

// writeConfig writes what a contender reads when it starts, for as many players.
func (l *lab) writeConfig(c contender, s site, players int) (file string, err error) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, c.config, s); err != nil {
		return "", err
	}
	file = filepath.Join(s.Dir, c.config)
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return "", err
	}
	if !c.isNginx() || !c.signs {
		return file, nil
	}
	sign, err := configs.ReadFile("config/sign.lua")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "sign.lua"), sign, 0o600); err != nil {
		return "", err
	}
	return file, os.WriteFile(filepath.Join(s.Dir, "keys.lua"), luaKeys(players), 0o600)
}

// luaKeys is the module that sign.lua gets its keys from.
func luaKeys(players int) []byte {
	text := fmt.Appendf(nil, "return {\n\tmidas_key = %q,\n\tappid = %q,\n\toffer_id = %q,\n\taccess_token = %q,\n\tsessions = {\n",
		midasKey(appID(0)), appID(0), offerID(0), accessToken)
	for i := range players {
		text = fmt.Appendf(text, "\t\t[%q] = %q,\n", openID(i), sessionKey(openID(i)))
	}
	return append(text, "\t}\n}\n"...)
}

// start starts a contender and waits until it listens.
func (l *lab) start(ctx context.Context, c contender, apps, players int) (*proxy, error) {
	if c.config == "" {
		return &proxy{contender: c, address: l.places.WeChat, stop: func() {}}, nil
	}
	dir, err := os.MkdirTemp(l.dir, "proxy-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := l.site(c, dir, address, apps)
	if c.admin {
		if s.Admin, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	file, err := l.writeConfig(c, s, players)
	if err != nil {
		return nil, fmt.Errorf("writing the config of %s: %w", c.name, err)
	}

	ctx, cancel := context.WithCancel(ctx)
	args := []string{l.programs[c.command], "run", "--config", file, "--adapter", "caddyfile"}
	if c.isNginx() {
		args = []string{l.nginx, "-e", "stderr", "-p", dir, "-c", "nginx.conf"}
	}
	command := l.proxyCPUs.command(ctx, args[0], args[1:]...)
	// Caddy keeps its files where these say.
	command.Env = append(l.environment(c), "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	// A log goes to a file, as a service's would.
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		cancel()
		return nil, err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	p := &proxy{contender: c, address: address, admin: s.Admin, pid: command.Process.Pid, stop: func() {
		cancel()
		<-ended
		_ = os.RemoveAll(dir)
	}}
	if err := p.listens(ctx, ended); err != nil {
		p.stop()
		return nil, fmt.Errorf("starting %s: %w; its log ends: %s", c.name, err, tail(log.Name()))
	}
	return p, nil
}

// environment is what a contender finds, whatever the benchmark itself was told about
// CPUs and memory.
func (l *lab) environment(c contender) []string {
	environment := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOMAXPROCS=") || strings.HasPrefix(v, "GOGC=")
	})
	if c.frugal {
		environment = append(environment, fmt.Sprintf("GOMAXPROCS=%d", l.cpusOf(c)), "GOGC=50")
	}
	return environment
}

// cpusOf is how many CPUs a contender uses.
func (l *lab) cpusOf(c contender) int {
	if c.frugal {
		return max(1, l.workers/2)
	}
	return l.workers
}

// listens waits until the proxy does.
func (p *proxy) listens(ctx context.Context, ended <-chan struct{}) error {
	var dialer net.Dialer
	for start := time.Now(); time.Since(start) < patience; {
		conn, err := dialer.DialContext(ctx, "tcp", p.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not listen")
}

// freeAddress returns one where nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// tail returns the end of a log.
func tail(file string) string {
	text, _ := os.ReadFile(file)
	return string(text[max(0, len(text)-1000):])
}

var modulesPath = regexp.MustCompile(`--modules-path=(\S+)`)

// findNginx returns nginx and where its modules are, "" where it is not installed.
func findNginx(ctx context.Context) (nginx, modules, version string) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		// Debian puts it where only root looks.
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return "", "", ""
		}
	}
	said, err := exec.CommandContext(ctx, nginx, "-V").CombinedOutput()
	if err != nil {
		return "", "", ""
	}
	version, _, _ = strings.Cut(string(said), "\n")
	if match := modulesPath.FindSubmatch(said); match != nil {
		modules = string(match[1])
	}
	return nginx, modules, strings.TrimPrefix(version, "nginx version: ")
}
