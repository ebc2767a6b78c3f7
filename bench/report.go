package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what is written in the end.
type report struct {
	options
	*lab
	started time.Time
	results results
	curves  curves
	top     string // of the profile
}

// write writes the text and, beside it, the chart.
func (r report) write() error {
	chart := filepath.Join(filepath.Dir(r.out), "results.svg")
	if err := os.WriteFile(r.out, []byte(r.markdown()), 0o644); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	return os.WriteFile(chart, []byte(r.chart()), 0o644) //nolint:gosec // for everybody to read
}

func (r report) markdown() string {
	var text strings.Builder
	text.WriteString("# What the sidecar costs\n\n")
	text.WriteString("Written by `" + r.command + "`. Only ratios within one run mean anything: times differ from machine to machine.\n\n")
	if len(r.failures) > 0 {
		text.WriteString("**Payments failed, so this run proves nothing:**\n\n* " + strings.Join(r.failures, "\n* ") + "\n\n")
	}
	text.WriteString("![Throughput, CPU and latency next to plain Caddy's, and what a payment costs as things grow](results.svg)\n\n")
	r.writeTargets(&text)
	r.writeThroughput(&text)
	r.writeLatency(&text)
	r.writeCurves(&text)
	r.writeProfile(&text)
	r.writeMachine(&text)
	return text.String()
}

// sidecars are the contenders to judge.
func (r report) sidecars() (names []string) {
	for _, name := range r.names(at16) {
		if at := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name }); contenders[at].sidecar {
			names = append(names, name)
		}
	}
	return names
}

// names are the contenders that a scenario was measured with, in the order of tables.
func (r report) names(scenario string) (names []string) {
	for _, c := range contenders {
		if len(r.results[scenario][c.name]) > 0 {
			names = append(names, c.name)
		}
	}
	return names
}

func (r report) writeTargets(text *strings.Builder) {
	for _, sidecar := range r.sidecars() {
		fmt.Fprintf(text, "## Targets: %s\n\n", sidecar)
		rows := [][]string{{"", "target", "measured", "", "floor", nameFrugal}}
		for _, t := range r.targets(sidecar) {
			rows = append(rows, []string{t.what, t.want, t.got, t.verdict, t.floor, t.frugal})
		}
		writeTable(text, rows)
	}
	text.WriteString("`floor` and `" + nameFrugal + "` show the same ratio of those two: what is left to gain on Caddy, and what half of the CPUs and the earlier collection alone gain.\n\n")
}

func (r report) writeThroughput(text *strings.Builder) {
	text.WriteString("## Throughput\n\nEach connection pays again as soon as it has its answer. \"Verified\" means that WeChat checks both signatures and the\n" +
		"access_token, \"CPU\" is seconds of the proxy for 1,000 payments, \"busy\" the share of the CPUs that it uses at all: where that is well\n" +
		"below 100%, the throughput was bounded by what calls it, and only CPU compares. All figures are medians of the rounds,\n" +
		"\"× Caddy\" of the ratios within a round.\n\n")
	for _, s := range scenarios {
		if s.open {
			continue
		}
		text.WriteString("### " + s.name + "\n\n")
		rows := [][]string{{"", "payments/s", "× Caddy", "CPU", "× Caddy", "busy", "RSS, MB", "× Caddy", "reuse", "Vault calls"}}
		for _, name := range r.names(s.name) {
			show := func(of property) string { return number(r.results.middle(s.name, name, of)) }
			ratio := func(of property) string { return number(r.results.ratio(s.name, name, nameCaddy, of)) }
			row := []string{name, show(perSecond), ratio(perSecond)}
			if name == nameDirect {
				row = append(row, "", "", "", "", "", "", "")
			} else {
				row = append(row, show(cpu), ratio(cpu), r.percent(s.name, name, busy), show(rss), ratio(rss), r.percent(s.name, name, reuse),
					number(r.results.middle(s.name, name, func(m measure) float64 { return float64(m.Vault) })))
			}
			rows = append(rows, row)
		}
		writeTable(text, rows)
	}
}

func (r report) percent(scenario, name string, of property) string {
	value, ok := r.results.middle(scenario, name, of)
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.1f%%", value*100)
}

func (r report) writeLatency(text *strings.Builder) {
	fmt.Fprintf(text, "## Latency\n\n%d payments are due each second, whatever becomes of those before, and each is timed from when it was due.\n"+
		"\"Added\" is what it takes more than a direct call in the same round.\n\n", r.rate)
	for _, s := range scenarios {
		if !s.open {
			continue
		}
		text.WriteString("### " + s.name + "\n\n")
		rows := [][]string{{"", "p50, ms", "added", "× Caddy", "p99, ms", "added", "× Caddy"}}
		for _, name := range r.names(s.name) {
			row := []string{name}
			for _, of := range []property{p50, p99} {
				row = append(row, number(r.results.middle(s.name, name, of)))
				if name == nameDirect {
					row = append(row, "", "")
					continue
				}
				row = append(row, number(r.results.added(s.name, name, of)), number(r.results.addedRatio(s.name, name, nameCaddy, of)))
			}
			rows = append(rows, row)
		}
		writeTable(text, rows)
	}
}

func (r report) writeCurves(text *strings.Builder) {
	if len(r.curves.all) == 0 {
		return
	}
	fmt.Fprintf(text, "## Scale: %s\n\nCPU is seconds of the sidecar for 1,000 payments, and its ratio to the first line. Sessions and apps are measured\n"+
		"with 16 connections, sessions after %d payments, so that what else is remembered is the same.\n\n", r.curves.contender, r.sizes.payments)
	if r.curves.fewer != "" {
		text.WriteString(r.curves.fewer + "\n\n")
	}
	for _, c := range r.curves.all {
		rows := [][]string{{c.name, "CPU", "× first", "payments/s", "RSS, MB", "reuse", "Vault calls"}}
		ratios := c.ratios(cpu, 0)
		for i, p := range c.points {
			rows = append(rows, []string{
				strconv.Itoa(p.size), number(p.middle(cpu), true), number(ratios[i], true), number(p.middle(perSecond), true), number(p.middle(rss), true),
				fmt.Sprintf("%.1f%%", p.middle(reuse)*100), number(p.middle(func(m measure) float64 { return float64(m.Vault) }), true),
			})
		}
		writeTable(text, rows)
	}
}

func (r report) writeProfile(text *strings.Builder) {
	if r.top == "" {
		return
	}
	fmt.Fprintf(text, "## Profile\n\nWhere the sidecar's CPU goes while 16 connections pay: the top %d.\n\n```\n%s\n```\n\n", topOf, r.top)
	if before, err := os.ReadFile(r.before); err == nil && r.options.family == apiFamilies[0].name {
		fmt.Fprintf(text, "Before the work on its speed:\n\n```\n%s\n```\n\n", strings.TrimSpace(string(before)))
	}
}

func (r report) writeMachine(text *strings.Builder) {
	text.WriteString("## The machine, and how it was measured\n\n")
	pinned := fmt.Sprintf("the proxy is kept on CPU %s, all that calls and answers it on CPU %s", r.proxyCPUs, r.otherCPUs)
	if r.unpinned != "" {
		pinned = "nothing is kept on CPUs of its own: " + r.unpinned
	}
	lines := []string{
		fmt.Sprintf("%d × %s, %s, %s", runtime.NumCPU(), cpuModel(), kernel(), runtime.GOARCH),
		fmt.Sprintf("%s, %s; nginx has %d worker(s)", runtime.Version(), orElse(r.nginxVersion, "no nginx"), r.workers),
		pinned,
		fmt.Sprintf("%d round(s), %s each measurement after %s that do not count; in each round and scenario the contenders take turns in random order", r.rounds, r.seconds, min(warming, r.seconds)),
		"each round starts every proxy anew and lets each of its " + strconv.Itoa(players) + " players pay once before anything counts, with WeChat verifying",
		"every answer is checked: status, errcode, bill_no, and Midas-Outcome where there should be one",
		"`caddy` is Caddy's own command of the version that is in the sidecar, with a bare `reverse_proxy`; `floor` is a handler for Caddy that passes bodies on by the sidecar's transport and does nothing else, the least that a payment can cost there with so much of the machine; `nginx` a bare `proxy_pass`, `nginx+lua` signs with keys that it has from the start; the configs are in `bench/config`",
		"midas-sidecar, `caddy, as frugal` and `floor` are told to use half of the CPUs and to collect garbage at 50% (GOGC); the other proxies take what there is, and the load and what stands in for WeChat half of the CPUs each",
		"the payments are of " + r.options.family + ": `POST " + familyOf(r.options.family).path + "`",
		"upstream is plain HTTP: TLS would cost all of them the same",
	}
	if r.withScale {
		lines = append(lines, fmt.Sprintf("the curves: %d round(s), all points of one in random order", r.sizes.rounds))
	}
	for _, c := range contenders {
		if why := r.skipped[c.name]; why != "" {
			lines = append(lines, "without `"+c.name+"`: "+why)
		}
	}
	lines = append(lines, fmt.Sprintf("%s, %s in all", r.started.UTC().Format(time.DateOnly), time.Since(r.started).Round(time.Second)))
	text.WriteString("* " + strings.Join(lines, "\n* ") + "\n")
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// cpuModel is what Linux says of the first CPU.
func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, found := strings.Cut(string(info), "model name\t: ")
	if model, _, _ := strings.Cut(rest, "\n"); found {
		return model
	}
	return "CPU"
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

// writeTable writes rows, of which the first is the head.
func writeTable(text *strings.Builder, rows [][]string) {
	for i, row := range rows {
		text.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			text.WriteString("|---" + strings.Repeat("|---:", len(row)-1) + "|\n")
		}
	}
	text.WriteString("\n")
}
