package metrics

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whorl-go/whorl/server"
)

// NewCollector returns a collector of a server's figures, for any number of registries; see the
// package comment for what it collects. It may be made before the server serves, and stay
// registered when it has ended.
//
// labels are constant labels of all its metrics, nil for none. Several servers in one registry need
// some that tell them apart, with the same names for all. Registering fails for labels that
// Prometheus doesn't allow, and for "outcome", which is taken.
func NewCollector(s *server.Server, labels prometheus.Labels) prometheus.Collector {
	return &serverCollector{
		server:  s,
		figures: newFigures(labels, serverMetrics),
		handshakes: describe(
			labels,
			"whorl_server_handshakes_total",
			"TLS handshakes that have ended, by outcome: ok, or why not.",
			"outcome",
		),
	}
}

// serverCollector is immutable, so Collect may run any number of times at once.
type serverCollector struct {
	server     *server.Server
	figures    figures[server.Stats]
	handshakes *prometheus.Desc
}

// metric is one figure in S, the Stats of something.
type metric[S any] struct {
	name, help string
	kind       prometheus.ValueType
	value      func(st S) float64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

var serverMetrics = []metric[server.Stats]{
	{
		"whorl_server_connections",
		"Connections now, those that don't stand yet and those that linger included.",
		gauge,
		func(st server.Stats) float64 { return float64(st.Connections) },
	},
	{
		"whorl_server_connections_opening",
		"Connections that don't stand yet: a proxy's header or the TLS handshake is due.",
		gauge,
		func(st server.Stats) float64 { return float64(st.Opening) },
	},
	{"whorl_server_connections_accepted_total", "Connections begun.", counter,
		func(st server.Stats) float64 { return float64(st.Accepted) }},
	{"whorl_server_connections_opened_total", "Connections that came to stand.", counter,
		func(st server.Stats) float64 { return float64(st.Opened) }},
	{
		"whorl_server_connections_closed_total",
		"Connections ended, those that never came to stand included.",
		counter,
		func(st server.Stats) float64 { return float64(st.Closed) },
	},
	{
		"whorl_server_connections_lingering",
		"Connections that have ended and still deliver what was sent.",
		gauge,
		func(st server.Stats) float64 { return float64(st.Lingering) },
	},
	{
		"whorl_server_connections_cut_total",
		"Connections that were reset after their end, as their clients took too little.",
		counter,
		func(st server.Stats) float64 { return float64(st.Cut) },
	},
	{
		"whorl_server_connections_refused_total",
		"Connections refused by the limits, in all or for their address.",
		counter,
		func(st server.Stats) float64 { return float64(st.Refused) },
	},
	{"whorl_server_handshakes_running", "TLS handshakes under way.", gauge,
		func(st server.Stats) float64 { return float64(st.Handshaking) }},
	{
		"whorl_server_handshakes_waiting",
		"Connections that wait until their TLS handshake may begin.",
		gauge,
		func(st server.Stats) float64 { return float64(st.Waiting) },
	},
	{"whorl_server_received_packets_total", "Packets received; without framing, reads.", counter,
		func(st server.Stats) float64 { return float64(st.PacketsIn) }},
	{"whorl_server_received_bytes_total", "Bytes received in packets, after decryption.", counter,
		func(st server.Stats) float64 { return float64(st.BytesIn) }},
	{"whorl_server_received_datagrams_total", "Datagrams received.", counter,
		func(st server.Stats) float64 { return float64(st.Datagrams) }},
	{"whorl_server_sent_packets_total", "Packets sent.", counter,
		func(st server.Stats) float64 { return float64(st.PacketsOut) }},
	{"whorl_server_sent_bytes_total", "Bytes sent, before encryption.", counter,
		func(st server.Stats) float64 { return float64(st.BytesOut) }},
	{
		"whorl_server_output_queues_full",
		"Connections with an output queue beyond the high-water mark.",
		gauge,
		func(st server.Stats) float64 { return float64(st.BuffersFull) },
	},
	{"whorl_server_output_queued_bytes", "Bytes sent that wait for clients which take less.", gauge,
		func(st server.Stats) float64 { return float64(st.Queued) }},
	{
		"whorl_server_loop_lag_seconds",
		"How late the last timer of the latest event loop was.",
		gauge,
		func(st server.Stats) float64 { return st.LoopLag.Seconds() },
	},
}

// Describe is of prometheus.Collector.
func (c *serverCollector) Describe(descs chan<- *prometheus.Desc) {
	c.figures.describe(descs)
	descs <- c.handshakes
}

// Collect is of prometheus.Collector.
func (c *serverCollector) Collect(metrics chan<- prometheus.Metric) {
	st := c.server.Stats()
	c.figures.collect(metrics, st)
	outcomes := map[string]uint64{"ok": 0} // there from the beginning, for rate()
	maps.Copy(outcomes, st.Handshakes)
	for outcome, n := range outcomes {
		metrics <- prometheus.MustNewConstMetric(c.handshakes, counter, float64(n), outcome)
	}
}

func describe(labels prometheus.Labels, name, help string, variable ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, variable, labels)
}

// figures are metrics with their descriptions.
type figures[S any] struct {
	metrics []metric[S]
	descs   []*prometheus.Desc
}

func newFigures[S any](
	labels prometheus.Labels, metrics []metric[S], variable ...string,
) figures[S] {
	f := figures[S]{metrics: metrics}
	for _, m := range metrics {
		f.descs = append(f.descs, describe(labels, m.name, m.help, variable...))
	}
	return f
}

func (f figures[S]) describe(to chan<- *prometheus.Desc) {
	for _, desc := range f.descs {
		to <- desc
	}
}

// collect sends the values that the metrics have in st.
func (f figures[S]) collect(to chan<- prometheus.Metric, st S, labels ...string) {
	for i, m := range f.metrics {
		to <- prometheus.MustNewConstMetric(f.descs[i], m.kind, m.value(st), labels...)
	}
}
