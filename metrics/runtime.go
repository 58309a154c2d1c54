package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// NewRuntimeCollector returns a collector of the figures of a runtime and its event loops, which
// have their names in the label "loop"; see the package comment for what it collects. Labels are as
// for NewCollector. A runtime is shared by its servers, so it is registered once, not with each of
// them.
func NewRuntimeCollector(rt *runtime.Runtime, labels prometheus.Labels) prometheus.Collector {
	return &runtimeCollector{
		runtime: rt, loops: rt.Loops(),
		ofRuntime: newFigures(labels, runtimeMetrics),
		ofLoops:   newFigures(labels, loopMetrics, "loop"),
		notCompact: describe(
			labels,
			"whorl_tls_not_compact_total",
			"TLS connections of the process that were to become compact and stay with crypto/tls.",
			"reason",
		),
	}
}

// runtimeCollector is immutable, so Collect may run any number of times at once.
type runtimeCollector struct {
	runtime    *runtime.Runtime
	loops      []runtime.Loop
	ofRuntime  figures[runtime.Stats]
	ofLoops    figures[eventloop.Stats]
	notCompact *prometheus.Desc
}

var runtimeMetrics = []metric[runtime.Stats]{
	{"whorl_runtime_coroutines", "Coroutines that have not ended.", gauge,
		func(st runtime.Stats) float64 { return float64(st.Coroutines) }},
	{"whorl_runtime_coroutines_started_total", "Coroutines started.", counter,
		func(st runtime.Stats) float64 { return float64(st.Created) }},
	{"whorl_runtime_workers", "Goroutines that coroutines run on, idle ones included.", gauge,
		func(st runtime.Stats) float64 { return float64(st.Workers) }},
	{
		"whorl_runtime_await_goroutines",
		"Goroutines that run blocking code for coroutines, idle ones included.",
		gauge,
		func(st runtime.Stats) float64 { return float64(st.Awaiting) },
	},
	{
		"whorl_tls_compact_connections",
		"TLS connections of the process that are kept compactly, see docs/compact-tls.md.",
		gauge,
		func(runtime.Stats) float64 { n, _ := socket.Compact(); return float64(n) },
	},
	{
		"whorl_tls_late_tickets_total",
		"Session tickets that came when their connection was compact, and were dropped.",
		counter,
		func(runtime.Stats) float64 { _, n := socket.Compact(); return float64(n) },
	},
}

var loopMetrics = []metric[eventloop.Stats]{
	{"whorl_loop_iterations_total", "Polls.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Iterations) }},
	{"whorl_loop_sleeps_total", "Polls that were allowed to wait.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Sleeps) }},
	{"whorl_loop_wakeups_total", "Times that a post from elsewhere has woken the loop.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Wakeups) }},
	{"whorl_loop_events_total", "Descriptors that polls have reported ready.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Events) }},
	{"whorl_loop_posted_total", "Posted tasks that were run.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Posted) }},
	{"whorl_loop_timers_fired_total", "Timers that have fired.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Fired) }},
	{"whorl_loop_deferred_total", "Deferred functions that were run.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Deferred) }},
	{"whorl_loop_panics_total", "Panics caught in functions of the loop.", counter,
		func(st eventloop.Stats) float64 { return float64(st.Panics) }},
	{
		"whorl_loop_stalls_total",
		"Reports of the watchdog that something has held the loop for too long.",
		counter,
		func(st eventloop.Stats) float64 { return float64(st.Stalls) },
	},
	{"whorl_loop_timers", "Timers set.", gauge,
		func(st eventloop.Stats) float64 { return float64(st.Timers) }},
	{"whorl_loop_descriptors", "Descriptors registered.", gauge,
		func(st eventloop.Stats) float64 { return float64(st.Descriptors) }},
}

// Describe is of prometheus.Collector.
func (c *runtimeCollector) Describe(descs chan<- *prometheus.Desc) {
	c.ofRuntime.describe(descs)
	c.ofLoops.describe(descs)
	descs <- c.notCompact
}

// Collect is of prometheus.Collector.
func (c *runtimeCollector) Collect(metrics chan<- prometheus.Metric) {
	c.ofRuntime.collect(metrics, c.runtime.Stats())
	for reason, n := range socket.NotCompact() {
		metrics <- prometheus.MustNewConstMetric(c.notCompact, counter, float64(n), reason)
	}
	for _, loop := range c.loops {
		c.ofLoops.collect(metrics, loop.Stats(), loop.Name())
	}
}
