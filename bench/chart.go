package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// The chart: bars that compare the contenders with plain Caddy, and below them a
// curve for each thing that grows.

const (
	panelWidth  = 400
	panelHeight = 300
	barsTop     = 64
	plotLeft    = 56
	plotRight   = panelWidth - 24
	plotTop     = 64
	plotBottom  = panelHeight - 56
)

const (
	inkColor   = "#24292f"
	faintColor = "#8c959f"
	gridColor  = "#d8dee4"
	firstColor = "#0a6ebd"
	otherColor = "#7fb8e6"
)

// bar is one bar of a panel: its length, or nothing.
type bar struct {
	value float64
	ok    bool
}

func (r report) chart() string {
	var panels []string
	panels = append(panels,
		r.bars("Throughput, × Caddy", "more is better", at16, at64, func(scenario, name string) (float64, bool) {
			return r.results.ratio(scenario, name, nameCaddy, perSecond)
		}),
		r.bars("CPU for a payment, × Caddy", "less is better", at16, at64, func(scenario, name string) (float64, bool) {
			return r.results.ratio(scenario, name, nameCaddy, cpu)
		}),
		r.bars("Added latency, × Caddy", fmt.Sprintf("less is better; %d/s, WeChat takes 50 ms", r.rate), "p50", "p99", func(quantile, name string) (float64, bool) {
			of := p50
			if quantile == "p99" {
				of = p99
			}
			return r.results.addedRatio(atSlow, name, nameCaddy, of)
		}))
	for _, c := range r.curves.all {
		panels = append(panels, c.lines(r.curves.contender))
	}

	height := (len(panels) + 2) / 3 * panelHeight
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12" fill="%s">`+"\n",
		3*panelWidth, height, 3*panelWidth, height, inkColor)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="white"/>`+"\n", 3*panelWidth, height)
	for i, panel := range panels {
		fmt.Fprintf(&svg, `<g transform="translate(%d %d)">`+"\n%s</g>\n", i%3*panelWidth, i/3*panelHeight, panel)
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

// bars draws two bars for each proxy.
func (r report) bars(title, hint, first, second string, of func(which, name string) (float64, bool)) string {
	var svg strings.Builder
	writeTitle(&svg, title, hint)
	var names []string
	longest := 1.0
	pairs := make(map[string][2]bar)
	for _, name := range r.names(at16) {
		if name == nameDirect {
			continue
		}
		var pair [2]bar
		for i, which := range []string{first, second} {
			pair[i].value, pair[i].ok = of(which, name)
			longest = max(longest, pair[i].value)
		}
		names, pairs[name] = append(names, name), pair
	}

	widest := 0
	for _, name := range names {
		widest = max(widest, len(name))
	}
	left, right := 32+6.5*float64(widest), panelWidth-56.0
	step := float64(panelHeight-barsTop-40) / float64(max(len(names), 1))
	thick := min(16, step*0.36)
	for i, name := range names {
		middle := barsTop + step*(float64(i)+0.5)
		writeText(&svg, left-8, middle+4, "end", inkColor, name)
		for k, b := range pairs[name] {
			top := middle + float64(k-1)*thick
			if !b.ok {
				writeText(&svg, left+4, top+thick-3, "start", faintColor, "–")
				continue
			}
			width := max(0, b.value) / longest * (right - left)
			fmt.Fprintf(&svg, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", left, top, width, thick-1, []string{firstColor, otherColor}[k])
			writeText(&svg, left+width+5, top+thick-4, "start", inkColor, number(b.value, true))
		}
	}
	// Where Caddy is.
	one := left + 1/longest*(right-left)
	fmt.Fprintf(&svg, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-dasharray="3 3"/>`+"\n", one, one, barsTop, panelHeight-40, faintColor)
	for k, which := range []string{first, second} {
		x := left + 130*float64(k)
		fmt.Fprintf(&svg, `<rect x="%.1f" y="%d" width="10" height="10" fill="%s"/>`+"\n", x, panelHeight-27, []string{firstColor, otherColor}[k])
		writeText(&svg, x+15, panelHeight-18, "start", inkColor, which)
	}
	return svg.String()
}

// lines draws what a payment costs at each size, next to the first.
func (c *curve) lines(contender string) string {
	var svg strings.Builder
	writeTitle(&svg, "CPU for a payment by "+c.name, contender+", × the first")
	ratios := c.ratios(cpu, 0)
	top := 1.5
	for _, ratio := range ratios {
		top = max(top, ratio*1.1)
	}
	y := func(value float64) float64 { return plotBottom - value/top*(plotBottom-plotTop) }
	lowest, highest := math.Log(float64(c.points[0].size)), math.Log(float64(c.points[len(c.points)-1].size))
	x := func(size int) float64 {
		return plotLeft + 12 + (math.Log(float64(size))-lowest)/max(highest-lowest, 1e-9)*(plotRight-plotLeft-24)
	}

	for value := 0.0; value <= top; value += max(0.5, math.Round(top/4*2)/2) {
		fmt.Fprintf(&svg, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, plotRight, y(value), y(value), gridColor)
		writeText(&svg, plotLeft-8, y(value)+4, "end", faintColor, fmt.Sprintf("%.1f", value))
	}
	var path []string
	for i, p := range c.points {
		path = append(path, fmt.Sprintf("%.1f,%.1f", x(p.size), y(ratios[i])))
	}
	fmt.Fprintf(&svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), firstColor)
	for i, p := range c.points {
		fmt.Fprintf(&svg, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(p.size), y(ratios[i]), firstColor)
		writeText(&svg, x(p.size), y(ratios[i])-9, "middle", inkColor, number(ratios[i], true))
		writeText(&svg, x(p.size), plotBottom+18, "middle", faintColor, thousands(p.size))
	}
	writeText(&svg, (plotLeft+plotRight)/2, plotBottom+38, "middle", inkColor, c.name)
	return svg.String()
}

func writeTitle(svg *strings.Builder, title, hint string) {
	fmt.Fprintf(svg, `<text x="24" y="28" font-size="15" font-weight="600">%s</text>`+"\n", html.EscapeString(title))
	writeText(svg, 24, 46, "start", faintColor, hint)
}

func writeText(svg *strings.Builder, x, y float64, anchor, color, text string) {
	fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, color, html.EscapeString(text))
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
