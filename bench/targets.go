package main

import "fmt"

// target is one that the sidecar is to meet, and whether it did. floor and frugal are what
// a handler reaches that does nothing, and what Caddy does with as little of the machine.
type target struct {
	what, want, got, verdict, floor, frugal string
}

// The scenarios that the targets are about.
const (
	at16    = "16 connections"
	at64    = "64 connections"
	atSlow  = "fixed rate, WeChat takes 50 ms"
	notMeet = "**not met**"
)

// flat is how much more than at the first point of a curve a payment may cost. The
// other bounds are the project's goals, this one is our reading of "flat".
const flat = 1.25

// targets judges one sidecar. Each goal is a ratio to plain Caddy, or to nginx that
// signs.
func (r report) targets(sidecar string) (targets []target) {
	type compared func(contender string) (float64, bool)
	atLeast := func(what string, bound float64, of compared) {
		got, ok := of(sidecar)
		targets = append(targets, target{what, fmt.Sprintf("≥ %.4g", bound), number(got, ok), verdict(got >= bound, ok), number(of(nameFloor)), number(of(nameFrugal))})
	}
	atMost := func(what string, bound float64, of compared) {
		got, ok := of(sidecar)
		targets = append(targets, target{what, fmt.Sprintf("≤ %.4g", bound), number(got, ok), verdict(got <= bound, ok), number(of(nameFloor)), number(of(nameFrugal))})
	}
	ratio := func(scenario, other string, of property) compared {
		return func(contender string) (float64, bool) { return r.results.ratio(scenario, contender, other, of) }
	}
	added := func(scenario, other string, of property) compared {
		return func(contender string) (float64, bool) { return r.results.addedRatio(scenario, contender, other, of) }
	}
	for _, s := range []string{at16, at64} {
		atLeast("throughput over Caddy's, "+s, 1.5, ratio(s, nameCaddy, perSecond))
		atLeast("the same, aim", 2, ratio(s, nameCaddy, perSecond))
		atLeast("throughput over nginx+lua's, "+s+", aim", 1, ratio(s, nameLua, perSecond))
	}
	for _, s := range []string{at16, at64} {
		atMost("CPU for a payment over Caddy's, "+s, 0.6, ratio(s, nameCaddy, cpu))
		atMost("CPU for a payment over nginx+lua's, "+s+", aim", 1, ratio(s, nameLua, cpu))
	}
	for _, quantile := range []struct {
		name string
		of   property
	}{{"p50", p50}, {"p99", p99}} {
		atMost("added "+quantile.name+" over Caddy's, "+atSlow, 0.6, added(atSlow, nameCaddy, quantile.of))
		atMost("added "+quantile.name+" over nginx+lua's, "+atSlow, 1, added(atSlow, nameLua, quantile.of))
	}
	atMost("RSS over Caddy's, "+at64, 1.3, ratio(at64, nameCaddy, rss))
	for _, s := range []string{at16, at64} {
		atLeast("connection reuse, %, "+s, 99, func(contender string) (float64, bool) {
			share, ok := r.results.middle(s, contender, reuse)
			return share * 100, ok
		})
	}
	calls, ok := r.vaultCalls(sidecar)
	targets = append(targets, target{what: "Vault calls in all measured payments", want: "0", got: number(float64(calls), ok), verdict: verdict(calls == 0, ok)})
	if sidecar == r.curves.contender {
		targets = append(targets, r.curves.targets()...)
	}
	return targets
}

// targets judges the curves.
func (c curves) targets() (targets []target) {
	for _, curve := range c.all {
		first, last := curve.points[0], curve.points[len(curve.points)-1]
		if curve.name == sessionsCurve {
			more := last.middle(rss) - first.middle(rss)
			targets = append(targets, target{
				what: fmt.Sprintf("MB more for %d sessions than for %d", last.size, first.size), want: "≤ 80",
				got: number(more, true), verdict: verdict(more <= 80, true),
			})
		}
		highest := 0.0
		for _, ratio := range curve.ratios(cpu, 0) {
			highest = max(highest, ratio)
		}
		targets = append(targets, target{
			what: fmt.Sprintf("CPU for a payment with up to %d %s, over %d", last.size, curve.name, first.size), want: fmt.Sprintf("≤ %.4g", flat),
			got: number(highest, highest > 0), verdict: verdict(highest <= flat, highest > 0),
		})
	}
	return targets
}

// vaultCalls counts those of a sidecar in all that was measured.
func (r report) vaultCalls(sidecar string) (calls int64, ok bool) {
	for _, s := range scenarios {
		for _, m := range r.results[s.name][sidecar] {
			calls, ok = calls+m.Vault, true
		}
	}
	return calls, ok
}

func verdict(met, known bool) string {
	switch {
	case !known:
		return "not judged"
	case met:
		return "met"
	}
	return notMeet
}

// number shows three digits that count, "–" where there is none.
func number(value float64, ok bool) string {
	switch {
	case !ok:
		return "–"
	case value >= 100 || value <= -100 || value == 0:
		return fmt.Sprintf("%.0f", value)
	case value >= 10 || value <= -10:
		return fmt.Sprintf("%.1f", value)
	case value >= 0.1 || value <= -0.1:
		return fmt.Sprintf("%.2f", value)
	}
	return fmt.Sprintf("%.3f", value)
}
