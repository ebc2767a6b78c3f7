package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"time"
)

// lab has all that a measurement needs, and runs.
type lab struct {
	dir      string
	programs map[string]string // the files of the contenders', by their packages
	places   places
	family   string // of the API, which all payments are of
	serve    *part  // WeChat and Vault
	load     *part
	log      io.Writer

	proxyCPUs, otherCPUs pins
	unpinned             string // why nothing is pinned
	workers              int    // nginx's, one for each CPU of the proxies
	files                int    // that one process can have open

	nginx, nginxModules, nginxVersion string

	failures []string
	skipped  map[string]string // contender → why
}

func newLab(ctx context.Context, pin bool, family string, log io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp("", "midas-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, programs: make(map[string]string), family: family, log: log, skipped: make(map[string]string)}
	if err := l.open(ctx, pin); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) open(ctx context.Context, pin bool) error {
	l.unpinned = "they share, as a game server and its sidecar do"
	if pin {
		l.proxyCPUs, l.otherCPUs, l.unpinned = splitCPUs()
	}
	l.workers = max(len(l.proxyCPUs), 1)
	if l.unpinned != "" {
		l.workers = runtime.NumCPU()
	}
	l.files = openFiles(2*mostConnections + spareFiles)
	l.nginx, l.nginxModules, l.nginxVersion = findNginx(ctx)

	var err error
	if l.serve, err = startPart(ctx, partServe, l.otherCPUs); err != nil {
		return err
	}
	if err := l.serve.hear(&l.places); err != nil {
		return err
	}
	l.load, err = startPart(ctx, partLoad, l.otherCPUs)
	return err
}

// build compiles the program of a contender as releases are, once.
func (l *lab) build(ctx context.Context, c contender) error {
	if c.command == "" || l.programs[c.command] != "" {
		return nil
	}
	file := filepath.Join(l.dir, path.Base(c.command))
	fmt.Fprintf(l.log, "Building %s.\n", path.Base(c.command))
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, c.command) //nolint:gosec // nothing of it comes from outside
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", c.command, err, said)
	}
	l.programs[c.command] = file
	return nil
}

func (l *lab) close() {
	for _, p := range []*part{l.load, l.serve} {
		if p != nil {
			p.close()
		}
	}
	_ = os.RemoveAll(l.dir)
}

// present returns the contenders that are wanted and can run here, and says which
// cannot.
func (l *lab) present(ctx context.Context, o options) (present []contender, err error) {
	for _, c := range contenders {
		if c.name != nameDirect && c.name != nameCaddy && !o.only.MatchString(c.name) {
			continue
		}
		if why := l.missing(ctx, c); why != "" {
			l.skipped[c.name] = why
			fmt.Fprintf(l.log, "Without %s: %s.\n", c.name, why)
			continue
		}
		if err := l.build(ctx, c); err != nil {
			return nil, err
		}
		present = append(present, c)
	}
	return present, nil
}

// behave makes WeChat answer in a manner, and returns what it has seen till now.
func (l *lab) behave(m manner) (counters, error) {
	if err := l.serve.tell(m); err != nil {
		return counters{}, err
	}
	var c counters
	return c, l.serve.hear(&c)
}

// measure is what one job showed of one proxy.
type measure struct {
	PerSecond float64
	CPU       float64 // seconds of the proxy for 1,000 payments
	Busy      float64 // share of the CPUs that the proxy uses
	RSS       float64 // MB, after it
	Reuse     float64 // share of the payments that needed no new connection
	Vault     int64   // calls to Vault
	P50, P99  time.Duration

	outcome outcome
	seen    counters
}

// do has the load do a job with a proxy while WeChat answers in a manner.
func (l *lab) do(ctx context.Context, p *proxy, j job, m manner) (measure, error) {
	j.Address, j.Family, j.Outcome = p.address, l.family, p.sidecar
	before, err := l.behave(m)
	if err != nil {
		return measure{}, err
	}
	if err := l.load.tell(j); err != nil {
		return measure{}, err
	}
	if err := l.load.hear(&started{}); err != nil {
		return measure{}, err
	}
	if j.Payments == 0 { // what came first is not measured
		if before, err = l.behave(m); err != nil {
			return measure{}, err
		}
	}
	cpu, start := cpuOf(p.pid), time.Now()
	var result measure
	if err := l.load.hear(&result.outcome); err != nil {
		return measure{}, err
	}
	cpu, took := cpuOf(p.pid)-cpu, time.Since(start)
	after, err := l.behave(m)
	if err != nil {
		return measure{}, err
	}
	if ctx.Err() != nil {
		return measure{}, context.Cause(ctx)
	}

	result.seen = after.since(before)
	payments := float64(max(result.seen.Payments, 1))
	result.PerSecond = float64(result.outcome.Payments) / max(result.outcome.Seconds, 1e-9)
	result.CPU = cpu.Seconds() / payments * 1000
	result.Busy = cpu.Seconds() / took.Seconds() / float64(l.cpusOf(p.contender))
	result.RSS = rssOf(p.pid)
	result.Reuse = 1 - float64(result.seen.Connections)/payments
	result.Vault = result.seen.VaultCalls
	result.P50, result.P99 = result.outcome.P50, result.outcome.P99
	return result, nil
}

// warm lets each player pay once, so that the proxy has read what there is to read.
// Here WeChat always verifies.
func (l *lab) warm(ctx context.Context, p *proxy, apps, players, payments int) error {
	m, err := l.do(ctx, p, job{Connections: 16, Players: players, Apps: apps, Payments: payments}, manner{Verify: p.signs})
	if err != nil {
		return fmt.Errorf("warming %s: %w", p.name, err)
	}
	l.judge(p.name+", warming", m)
	if p.signs && m.seen.Verified < int64(payments) && m.outcome.Failures == 0 {
		return fmt.Errorf("warming %s: WeChat verified %d of %d payments, and the load saw %d answered", p.name, m.seen.Verified, payments, m.outcome.Payments)
	}
	return nil
}

// judge keeps in mind what failed.
func (l *lab) judge(what string, m measure) {
	if m.outcome.Failures == 0 && m.seen.Refused == 0 && m.outcome.Payments > 0 {
		return
	}
	failure := fmt.Sprintf("%s: %d of %d, first: %s", what, m.outcome.Failures, m.outcome.Payments+m.outcome.Failures, m.outcome.Failure)
	l.failures = append(l.failures, failure)
	fmt.Fprintln(l.log, "FAILED:", failure)
}
