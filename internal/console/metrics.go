package console

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// Metrics implements [guard.Metrics] in a registry of its own. Nothing that
// a client sends becomes a label: methods, layers and reasons that are not
// known beforehand are counted as "other".
type Metrics struct {
	registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	duration    prometheus.Histogram
	decisions   *prometheus.CounterVec
	restarts    prometheus.Counter
	workers     prometheus.Counter
	connections prometheus.Counter

	known map[string]map[string]bool // layer to its reasons
}

var _ guard.Metrics = (*Metrics)(nil)

// NewMetrics returns Metrics for the given layers. lost returns how many
// events could not be written; nil means that nobody counts.
func NewMetrics(version string, layers []*guard.Spec, lost func() uint64) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dewar_http_requests_total", Help: "Requests answered, by method and class of status.",
		}, []string{"method", "class"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dewar_http_request_duration_seconds", Help: "Time from the request's head to the answer's end, app included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dewar_decisions_total", Help: "Decisions other than allow, by layer, verdict and reason.",
		}, []string{"layer", "verdict", "reason"}),
		restarts:    prometheus.NewCounter(prometheus.CounterOpts{Name: "dewar_app_restarts_total", Help: "Times gunicorn was started again after it had ended."}),
		workers:     prometheus.NewCounter(prometheus.CounterOpts{Name: "dewar_app_workers_total", Help: "Workers that have loaded the app."}),
		connections: prometheus.NewCounter(prometheus.CounterOpts{Name: "dewar_connection_errors_total", Help: "Connections that came to nothing: failed handshakes, broken framing."}),
		known:       map[string]map[string]bool{},
	}
	for _, s := range append([]*guard.Spec{{Name: "upstream"}}, layers...) {
		m.known[s.Name] = map[string]bool{}
		for _, r := range append(slices.Clone(guard.Reasons), s.Reasons...) {
			m.known[s.Name][r.Name] = true
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dewar_build_info", Help: "Always 1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.decisions, m.restarts, m.workers, m.connections, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if lost != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "dewar_events_lost_total", Help: "Events that could not be written: gaps in the security log.",
		}, func() float64 { return float64(lost()) }))
	}
	return m
}

// Workers adds how many of the app's workers serve, of how many.
func (m *Metrics) Workers(count func() (serving, wanted int)) {
	gauge := func(name, help string, of func(serving, wanted int) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of(count())) }))
	}
	gauge("dewar_app_workers_serving", "Workers that have loaded the app and serve it.", func(serving, _ int) int { return serving })
	gauge("dewar_app_workers_wanted", "Workers that there should be; fewer serve when new ones cannot load the app.", func(_, wanted int) int { return wanted })
}

// Store adds what a store that may be gone counts.
func (m *Metrics) Store(status func() store.Status) {
	count := func(name, help string, of func(store.Status) uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(status())) }))
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dewar_store_up", Help: "1 while the shared store is used, 0 while it is left alone because it failed."}, func() float64 {
		if status().Up {
			return 1
		}
		return 0
	}))
	count("dewar_store_calls_total", "Calls that reached the shared store.", func(s store.Status) uint64 { return s.Calls })
	count("dewar_store_failures_total", "Calls of the shared store that failed, time-outs included.", func(s store.Status) uint64 { return s.Failed })
	count("dewar_store_fallbacks_total", "Limits that were decided without the shared store, because it was gone.", func(s store.Status) uint64 { return s.Fallbacks })
	count("dewar_store_local_refusals_total", "Requests over a limit that was known to be used up, without asking the shared store.", func(s store.Status) uint64 { return s.Short })
	count("dewar_store_opened_total", "Times the shared store was given up for a while.", func(s store.Status) uint64 { return s.Opened })
}

var methods = map[string]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true, "CONNECT": true, "TRACE": true,
}

// Request counts one answered request.
func (m *Metrics) Request(x *guard.Exchange, status int, _ int64, d time.Duration) {
	method := x.Request.Method
	if !methods[method] {
		method = "other"
	}
	class := "other"
	if status >= 100 && status < 600 {
		class = string(rune('0'+status/100)) + "xx"
	}
	m.requests.WithLabelValues(method, class).Inc()
	m.duration.Observe(d.Seconds())
}

// Decision counts what a layer decided.
func (m *Metrics) Decision(d guard.Decision) {
	layer, reason := d.Layer, d.Reason
	reasons, ok := m.known[layer]
	if !ok {
		layer, reason = "other", "other"
	} else if !reasons[reason] {
		reason = "other"
	}
	m.decisions.WithLabelValues(layer, d.Verdict.String(), reason).Inc()
}

// Restarted counts a gunicorn that was started again.
func (m *Metrics) Restarted() { m.restarts.Inc() }

// WorkerStarted counts a worker that has loaded the app.
func (m *Metrics) WorkerStarted() { m.workers.Inc() }

// ConnectionError counts a connection that came to nothing.
func (m *Metrics) ConnectionError() { m.connections.Inc() }

// handler serves the registry, with readiness and the layers' health as they
// are at the moment of asking.
func (m *Metrics) handler(o Options) http.Handler {
	m.registry.MustRegister(&health{
		o:     o,
		ready: prometheus.NewDesc("dewar_ready", "1 when requests can be answered.", nil, nil),
		layer: prometheus.NewDesc("dewar_layer_healthy", "1 when the layer can work.", []string{"layer"}, nil),
	})
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// health is a prometheus.Collector.
type health struct {
	o            Options
	ready, layer *prometheus.Desc
}

func (h *health) Describe(c chan<- *prometheus.Desc) { c <- h.ready; c <- h.layer }

func (h *health) Collect(c chan<- prometheus.Metric) {
	value := func(err error) float64 {
		if err != nil {
			return 0
		}
		return 1
	}
	if h.o.Ready != nil {
		c <- prometheus.MustNewConstMetric(h.ready, prometheus.GaugeValue, value(h.o.Ready()))
	}
	if h.o.Layers != nil {
		for name, err := range h.o.Layers() {
			c <- prometheus.MustNewConstMetric(h.layer, prometheus.GaugeValue, value(err), name)
		}
	}
}
