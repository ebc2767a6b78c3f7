package caddymodule

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"midas-sidecar/internal/credentials"
	"midas-sidecar/internal/outcome"
	"midas-sidecar/internal/payment"
	"midas-sidecar/internal/secrets"
	"midas-sidecar/internal/wechat"
)

// The metrics are of the process: they last through changes of the config, each of
// which has a registry of its own. Their labels have few values; none is a player, a
// bill_no or a secret.
var (
	ordersTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "midas_orders_total",
		Help: "Calls answered, by what became of them.",
	}, []string{"appid", "api", "environment", "outcome", "errcode"})

	loginsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "midas_logins_total",
		Help: "Logins answered, by what became of them.",
	}, []string{"appid", "outcome", "errcode"})

	attemptsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "midas_attempts_total",
		Help: "Attempts, by how they ended: answered, lost or never_sent.",
	}, []string{"api", "environment", "end"})

	attemptSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "midas_attempt_duration_seconds",
		Help:    "Time from a signed attempt to its end.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 11), // 5 ms to 5 s
	}, []string{"api", "environment"})

	signingSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "midas_signing_duration_seconds",
		Help:    "Time to sign one attempt.",
		Buckets: prometheus.ExponentialBuckets(1e-6, 4, 8), // 1 us to 16 ms
	})

	secretReadsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "midas_secret_reads_total",
		Help: "Reads of the secret store, by field and by how they ended.",
	}, []string{"secret", "result"})

	// metrics are all there are.
	metrics = []prometheus.Collector{ordersTotal, loginsTotal, attemptsTotal, attemptSeconds, signingSeconds, secretReadsTotal, liveState{}}
)

func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range metrics {
		err := registry.Register(c)
		if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
			return err
		}
	}
	return nil
}

// known are the label values of the errcodes whose meaning is known.
var known = func() map[int]string {
	texts := make(map[int]string)
	for _, e := range wechat.Errcodes {
		texts[e.Code] = strconv.Itoa(e.Code)
	}
	return texts
}()

func countOrder(c call, answer outcome.Answer) {
	appID, errcode := c.game.appID, known[answer.Errcode]
	if appID == "" {
		appID = "unknown"
	}
	if errcode == "" {
		errcode = "other"
	}
	ordersTotal.WithLabelValues(appID, c.endpoint.API.Name, string(c.endpoint.Environment), string(answer.Outcome), errcode).Inc()
}

func countAttempt(a payment.Attempt) {
	api, environment := a.Endpoint.API.Name, string(a.Endpoint.Environment)
	attemptsTotal.WithLabelValues(api, environment, string(a.End)).Inc()
	attemptSeconds.WithLabelValues(api, environment).Observe(a.Took.Seconds())
	signingSeconds.Observe(a.Signing.Seconds())
}

func countRead(field string, result secrets.Result) {
	secretReadsTotal.WithLabelValues(field, string(result)).Inc()
}

// liveState are the metrics that are looked up when they are asked for.
type liveState struct{}

var (
	inFlight    = prometheus.NewDesc("midas_orders_in_flight", "Calls being answered.", nil, nil)
	sessions    = prometheus.NewDesc("midas_sessions_cached", "session_keys kept in memory.", nil, nil)
	storeUp     = prometheus.NewDesc("midas_secret_store_up", "Whether the secret store can be used.", nil, nil)
	secretAge   = prometheus.NewDesc("midas_secret_age_seconds", "Time since the secret in use was read.", []string{"appid", "secret"}, nil)
	secretStale = prometheus.NewDesc("midas_secret_stale", "Whether secrets that are needed cannot be read.", []string{"appid", "secret"}, nil)
	busyZones   = prometheus.NewDesc("midas_busy_zones", "Zones in which WeChat answers -1 to everything.", []string{"appid", "environment"}, nil)
	clockOffset = prometheus.NewDesc("midas_clock_offset_seconds", "How far WeChat's clock is ahead of this host's.", nil, nil)
	keyRefused  = prometheus.NewDesc("midas_key_refused", "Whether WeChat refuses the Midas key in use, and there is no other.", []string{"appid", "secret"}, nil)
	tokenEnd    = prometheus.NewDesc("midas_access_token_expiry_timestamp_seconds", "When the access_token from WeChat ends, in Unix time.", []string{"appid"}, nil)
)

// Describe implements prometheus.Collector.
func (liveState) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{inFlight, sessions, storeUp, secretAge, secretStale, keyRefused, tokenEnd, busyZones, clockOffset} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (liveState) Collect(to chan<- prometheus.Metric) {
	app := running.newest()
	if app == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(inFlight, float64(app.shared.calls.Count()))
	gauge(sessions, float64(app.keys.Sessions()))
	gauge(storeUp, oneIf(app.store.Trouble() == nil))
	app.shared.watch.BusyZones(func(appID string, environment wechat.Environment, zones int) {
		gauge(busyZones, float64(zones), appID, string(environment))
	})
	if offset, ok := app.shared.watch.ClockOffset(); ok {
		gauge(clockOffset, offset.Seconds())
	}
	for appID, game := range app.games {
		status := game.credentials.Status()
		for field, age := range status.Ages {
			gauge(secretAge, age.Seconds(), appID, field)
		}
		for _, field := range credentials.Fields {
			_, troubled := status.Troubles[field]
			gauge(secretStale, oneIf(troubled), appID, field)
		}
		for field, refused := range status.Refused {
			gauge(keyRefused, oneIf(refused != nil), appID, field)
		}
		if !status.TokenExpires.IsZero() {
			gauge(tokenEnd, float64(status.TokenExpires.UnixNano())/float64(time.Second), appID)
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
