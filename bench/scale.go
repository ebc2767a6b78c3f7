package main

import (
	"context"
	"fmt"
	"time"
)

// sizes are the points of the curves.
type sizes struct {
	connections, sessions, apps []int
	payments                    int // before sessions are measured
	rounds                      int
}

// As many payments as the sidecar remembers orders, so that memory shows sessions
// alone.
var (
	allSizes = sizes{
		connections: []int{1, 10, 100, 1000, mostConnections},
		sessions:    []int{10, 100, 1000, 10000, 100000},
		apps:        []int{1, 10, 100},
		payments:    100000,
		rounds:      3,
	}
	quickSizes = sizes{connections: []int{1, 100}, sessions: []int{10, 100}, apps: []int{1, 2}, payments: 200, rounds: 1}
)

const (
	mostConnections = 10000
	// A process has some files open before it has connections.
	spareFiles = 500
)

// point is one size of what is scaled, with the measures of all rounds.
type point struct {
	size     int
	measures []measure

	proxy *proxy
	job   job
}

const sessionsCurve = "sessions in the cache"

// curve shows the cost of a payment as one thing grows.
type curve struct {
	name   string
	points []*point
}

// curves are those of one sidecar.
type curves struct {
	contender string
	all       []*curve
	fewer     string // why not as many connections as wanted
}

// scale measures the first sidecar that is wanted at all sizes.
func (l *lab) scale(ctx context.Context, o options) (curves, error) {
	if c, ok := o.firstSidecar(); ok {
		return l.scaleOf(ctx, o, c)
	}
	return curves{}, nil
}

func (l *lab) scaleOf(ctx context.Context, o options, c contender) (curves, error) {
	out := curves{contender: c.name}
	fmt.Fprintf(l.log, "Scale: filling the caches of %d sidecars.\n", len(o.sizes.connections)+len(o.sizes.sessions)+len(o.sizes.apps))
	var proxies []*proxy
	defer func() {
		for _, p := range proxies {
			p.stop()
		}
	}()
	start := func(apps, sessions, payments int) (*proxy, error) {
		p, err := l.start(ctx, c, apps, sessions)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, p)
		return p, l.warm(ctx, p, apps, sessions, payments)
	}

	byConnections := &curve{name: "connections"}
	for _, n := range o.sizes.connections {
		// The sidecar has one to the caller and one to WeChat for each payment.
		if possible := (l.files - spareFiles) / 2; n > possible {
			out.fewer = fmt.Sprintf("%d connections instead of %d: one process can have no more than %d files open here.", possible, n, l.files)
			n = possible
		}
		p, err := start(1, players, players)
		if err != nil {
			return out, err
		}
		// Each has to open one to WeChat before the cost is what it stays at.
		warm := warming + time.Duration(n)*time.Millisecond/2
		byConnections.add(n, p, job{Connections: n, Players: players, Apps: 1, Warm: warm})
	}
	bySessions := &curve{name: sessionsCurve}
	for _, n := range o.sizes.sessions {
		p, err := start(1, n, max(n, o.sizes.payments))
		if err != nil {
			return out, err
		}
		bySessions.add(n, p, job{Connections: 16, Players: n, Apps: 1, Warm: warming})
	}
	byApps := &curve{name: "apps in the config"}
	for _, n := range o.sizes.apps {
		p, err := start(n, players, players)
		if err != nil {
			return out, err
		}
		byApps.add(n, p, job{Connections: 16, Players: players, Apps: n, Warm: warming})
	}
	out.all = []*curve{byConnections, bySessions, byApps}
	return out, l.measureCurves(ctx, o, out.all)
}

func (c *curve) add(size int, p *proxy, j job) {
	c.points = append(c.points, &point{size: size, proxy: p, job: j})
}

// measureCurves measures all points of a curve in turn, in several rounds.
func (l *lab) measureCurves(ctx context.Context, o options, all []*curve) error {
	for round := range o.sizes.rounds {
		fmt.Fprintf(l.log, "Scale: round %d of %d.\n", round+1, o.sizes.rounds)
		for _, c := range all {
			for _, i := range shuffled(len(c.points)) {
				p := c.points[i]
				p.job.Measure = o.seconds
				m, err := l.do(ctx, p.proxy, p.job, manner{})
				what := fmt.Sprintf("%s, %d %s", p.proxy.name, p.size, c.name)
				if err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				l.judge(what, m)
				p.measures = append(p.measures, m)
			}
		}
	}
	return nil
}

// middle returns the median of a property at a point.
func (p *point) middle(of property) float64 {
	var values []float64
	for _, m := range p.measures {
		values = append(values, of(m))
	}
	middle, _ := median(values)
	return middle
}

// ratios compare the points of a curve with one of them, round by round.
func (c *curve) ratios(of property, base int) (ratios []float64) {
	for _, p := range c.points {
		var values []float64
		for round, m := range p.measures {
			if divisor := of(c.points[base].measures[round]); divisor > 0 {
				values = append(values, of(m)/divisor)
			}
		}
		ratio, _ := median(values)
		ratios = append(ratios, ratio)
	}
	return ratios
}
