package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// scenario is one way to call all contenders.
type scenario struct {
	name        string
	connections int
	verify      bool
	open        bool // at a fixed rate
	delay       time.Duration
}

const slow = 50 * time.Millisecond

var scenarios = []scenario{
	{name: "1 connection", connections: 1},
	{name: "16 connections", connections: 16},
	{name: "64 connections", connections: 64},
	{name: "16 connections, verified", connections: 16, verify: true},
	{name: "64 connections, verified", connections: 64, verify: true},
	{name: "fixed rate", connections: 128, open: true},
	{name: "fixed rate, WeChat takes 50 ms", connections: 128, open: true, delay: slow},
}

// players take their turns to pay.
const players = 100

// warming is how long a measurement goes on before it counts.
const warming = 400 * time.Millisecond

// results are the measures of each scenario and contender, in the order of rounds.
type results map[string]map[string][]measure

// compare measures every contender in every scenario, in several rounds: what happens
// on the machine meanwhile happens to all of them.
func (l *lab) compare(ctx context.Context, o options) (results, error) {
	present, err := l.present(ctx, o)
	if err != nil {
		return nil, err
	}
	all := make(results)
	for _, s := range scenarios {
		all[s.name] = make(map[string][]measure)
	}
	for round := range o.rounds {
		fmt.Fprintf(l.log, "Round %d of %d.\n", round+1, o.rounds)
		if err := l.round(ctx, o, present, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (l *lab) round(ctx context.Context, o options, present []contender, all results) error {
	var proxies []*proxy
	defer func() {
		for _, p := range proxies {
			p.stop()
		}
	}()
	for _, c := range present {
		p, err := l.start(ctx, c, 1, players)
		if err != nil {
			return err
		}
		proxies = append(proxies, p)
		if err := l.warm(ctx, p, 0, players, players); err != nil {
			return err
		}
	}
	for _, s := range scenarios {
		for _, i := range shuffled(len(proxies)) {
			p := proxies[i]
			if s.verify && !p.signs {
				continue
			}
			m, err := l.do(ctx, p, s.job(o), manner{s.verify, s.delay})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.name, s.name, err)
			}
			l.judge(p.name+", "+s.name, m)
			all[s.name][p.name] = append(all[s.name][p.name], m)
		}
	}
	return nil
}

func (s scenario) job(o options) job {
	j := job{Connections: s.connections, Players: players, Warm: min(warming, o.seconds), Measure: o.seconds}
	if s.open {
		j.Rate = o.rate
	}
	return j
}

// shuffled returns the numbers below n in random order.
func shuffled(n int) []int {
	return rand.Perm(n) //nolint:gosec // nobody gains from guessing it
}

// median returns the middle one, false where there is none.
func median(values []float64) (middle float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	values = slices.Sorted(slices.Values(values))
	half := len(values) / 2
	if len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2, true
	}
	return values[half], true
}

// property is a number that a measure has.
type property func(measure) float64

func perSecond(m measure) float64 { return m.PerSecond }
func cpu(m measure) float64       { return m.CPU }
func busy(m measure) float64      { return m.Busy }
func rss(m measure) float64       { return m.RSS }
func reuse(m measure) float64     { return m.Reuse }
func p50(m measure) float64       { return m.P50.Seconds() * 1000 }
func p99(m measure) float64       { return m.P99.Seconds() * 1000 }

// middle returns the median of a property over the rounds.
func (r results) middle(scenario, contender string, of property) (float64, bool) {
	var values []float64
	for _, m := range r[scenario][contender] {
		values = append(values, of(m))
	}
	return median(values)
}

// ratio returns the median over the rounds of how one contender's property compares
// with the other's in the same round.
func (r results) ratio(scenario, contender, other string, of property) (float64, bool) {
	return r.pairs(scenario, contender, other, func(a, b, _ measure) (float64, float64) { return of(a), of(b) })
}

// added returns how much a contender adds to what a direct call takes.
func (r results) added(scenario, contender string, of property) (float64, bool) {
	return r.pairs(scenario, contender, nameDirect, func(a, b, _ measure) (float64, float64) { return of(a) - of(b), 1 })
}

// addedRatio compares what two contenders add.
func (r results) addedRatio(scenario, contender, other string, of property) (float64, bool) {
	return r.pairs(scenario, contender, other, func(a, b, direct measure) (float64, float64) {
		if of(a) <= of(direct) {
			return 0, 0 // noise as much as a divisor of nothing
		}
		return of(a) - of(direct), of(b) - of(direct)
	})
}

// pairs returns the median over the rounds of the quotient of what parts returns.
// Where noise made the divisor nothing or less, the round says nothing.
func (r results) pairs(scenario, contender, other string, parts func(a, b, direct measure) (float64, float64)) (float64, bool) {
	as, bs, directs := r[scenario][contender], r[scenario][other], r[scenario][nameDirect]
	var values []float64
	for round := range min(len(as), len(bs)) {
		var direct measure
		if round < len(directs) {
			direct = directs[round]
		}
		if a, b := parts(as[round], bs[round], direct); b > 0 {
			values = append(values, a/b)
		}
	}
	return median(values)
}
