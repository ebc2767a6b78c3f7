package caddymodule

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"midas-sidecar/internal/credentials"
)

var (
	described = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: .*variableLabels: \{(.*)\}\}$`)
	named     = regexp.MustCompile(`\bmidas_\w+`)
	selected  = regexp.MustCompile(`\b(midas_\w+)\{([^}]*)\}`)
	matched   = regexp.MustCompile(`^(\w+)(?:=~|!~|!=|=)"`)
	grouped   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	shown     = regexp.MustCompile(`\{\{ ?\$?(?:labels\.)?(\w+)`)
	suffix    = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// exported are the labels of all metrics, by name.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	labels := make(map[string][]string)
	for _, metric := range metrics {
		descriptions := make(chan *prometheus.Desc, 100)
		metric.Describe(descriptions)
		close(descriptions)
		for description := range descriptions {
			parts := described.FindStringSubmatch(description.String())
			require.NotNil(t, parts, description)
			labels[parts[1]] = strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' })
		}
	}
	require.NotEmpty(t, labels)
	return labels
}

// query is an expression and the texts that show its labels.
type query struct{ expression, texts string }

// dashboardQueries are those of the Grafana dashboard.
func dashboardQueries(t *testing.T) (queries []query) {
	t.Helper()
	text, err := os.ReadFile("../dashboard/midas-sidecar.json")
	require.NoError(t, err)
	var dashboard struct {
		SchemaVersion int
		Panels        []struct {
			ID         int
			Title      string
			Datasource struct{ UID string }
			Targets    []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Name, Type string } }
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.Equal(t, "datasource", dashboard.Templating.List[0].Name)
	ids := make(map[int]bool)
	for _, panel := range dashboard.Panels {
		require.False(t, ids[panel.ID], "%s has the id of another panel", panel.Title)
		ids[panel.ID] = true
		require.Equal(t, "${datasource}", panel.Datasource.UID, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			queries = append(queries, query{target.Expr, target.LegendFormat})
		}
	}
	return queries
}

// alertQueries are those of the alert rules.
func alertQueries(t *testing.T) (queries []query) {
	t.Helper()
	text, err := os.ReadFile("../dashboard/alerts.yml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr         string
				For                 time.Duration
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&rules))
	names := make(map[string]bool)
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			require.False(t, names[rule.Alert], "%s is there twice", rule.Alert)
			names[rule.Alert] = true
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			queries = append(queries, query{rule.Expr, rule.Annotations["summary"] + rule.Annotations["description"]})
		}
	}
	return queries
}

// added are labels that no metric of ours has: Prometheus adds the first two, and
// histograms the third. A template has a value, too.
var added = []string{"instance", "job", "le", "value"}

func TestTheDashboardAndTheAlertsAskForWhatThereIs(t *testing.T) {
	exported := exported(t)
	queries := slices.Concat(dashboardQueries(t), alertQueries(t))
	require.Greater(t, len(queries), 15)
	for _, q := range queries {
		require.Equal(t, strings.Count(q.expression, "("), strings.Count(q.expression, ")"), q.expression)
		labels := slices.Clone(added)
		names := named.FindAllString(q.expression, -1)
		if !strings.Contains(q.expression, `up{job="midas-sidecar"}`) { // Prometheus's own, of each target
			require.NotEmpty(t, names, q.expression)
		}
		for _, name := range names {
			base := name
			if _, known := exported[name]; !known {
				base = suffix.ReplaceAllString(name, "")
			}
			require.Contains(t, exported, base, q.expression)
			labels = append(labels, exported[base]...)
		}
		for _, selection := range selected.FindAllStringSubmatch(q.expression, -1) {
			for matcher := range strings.SplitSeq(selection[2], ",") {
				label := matched.FindStringSubmatch(matcher)
				require.NotNil(t, label, q.expression)
				require.Contains(t, exported[suffix.ReplaceAllString(selection[1], "")], label[1], q.expression)
			}
		}
		for _, group := range grouped.FindAllStringSubmatch(q.expression, -1) {
			for label := range strings.SplitSeq(group[1], ", ") {
				require.Contains(t, labels, label, q.expression)
			}
		}
		for _, label := range shown.FindAllStringSubmatch(q.texts, -1) {
			require.Contains(t, labels, label[1], q.texts)
		}
	}
}

func TestEveryMetricIsOnTheDashboard(t *testing.T) {
	var shown strings.Builder
	for _, q := range dashboardQueries(t) {
		shown.WriteString(q.expression + "\n")
	}
	for name := range exported(t) {
		require.Regexp(t, `\b`+name+`(_bucket|\b)`, shown.String())
	}
}

func TestTheREADMENamesEveryMetricWithItsLabelsAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `(midas_\\w+)` \\|([^|]*)\\|").FindAllStringSubmatch(string(text), -1)
	documented := make(map[string][]string)
	for _, row := range rows {
		documented[row[1]] = []string{}
		for _, label := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			documented[row[1]] = append(documented[row[1]], label[1])
		}
	}
	exported := exported(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(exported)), slices.Collect(maps.Keys(documented)))
	for name, labels := range exported {
		require.ElementsMatch(t, labels, documented[name], name)
	}
	_, section, _ := strings.Cut(string(text), "\n## What operators see\n")
	section, _, _ = strings.Cut(section, "\n## ")
	others := append(slices.Clone(credentials.Fields), "midas_health")
	for _, name := range named.FindAllString(section, -1) {
		if !slices.Contains(others, name) {
			require.Contains(t, exported, name)
		}
	}
}
