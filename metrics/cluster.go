package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/whorl-go/whorl/cluster"
)

// NewClusterCollector returns a collector of the figures of a node's part of a cluster; see the
// package comment for what it collects. Labels are as for NewCollector.
func NewClusterCollector(h *cluster.Hub, labels prometheus.Labels) prometheus.Collector {
	return &clusterCollector{hub: h, figures: newFigures(labels, clusterMetrics)}
}

// clusterCollector is immutable, so Collect may run any number of times at once.
type clusterCollector struct {
	hub     *cluster.Hub
	figures figures[cluster.Stats]
}

var clusterMetrics = []metric[cluster.Stats]{
	{"whorl_cluster_nodes", "Nodes that live, this one included.", gauge,
		func(st cluster.Stats) float64 { return float64(st.Nodes) }},
	{"whorl_cluster_rooms", "Rooms with members on any node.", gauge,
		func(st cluster.Stats) float64 { return float64(st.Rooms) }},
	{"whorl_cluster_members", "Connections of this node with a user or in a room.", gauge,
		func(st cluster.Stats) float64 { return float64(st.Members) }},
	{"whorl_cluster_subscriptions", "Rooms and users that this node listens to.", gauge,
		func(st cluster.Stats) float64 { return float64(st.Subscribed) }},
	{"whorl_cluster_queued_bytes", "Bytes that wait for the broker.", gauge,
		func(st cluster.Stats) float64 { return float64(st.Queued) }},
	{"whorl_cluster_published_total", "Messages that the broker has taken.", counter,
		func(st cluster.Stats) float64 { return float64(st.Published) }},
	{"whorl_cluster_unsent_total", "Messages that the broker has not taken.", counter,
		func(st cluster.Stats) float64 { return float64(st.Unsent) }},
	{"whorl_cluster_refused_total", "Messages that were refused, as too much waits for the broker.",
		counter, func(st cluster.Stats) float64 { return float64(st.Refused) }},
	{"whorl_cluster_received_total", "Messages from the broker, heartbeats included.", counter,
		func(st cluster.Stats) float64 { return float64(st.Received) }},
	{"whorl_cluster_delivered_total", "Messages on their way to a member, for each member.", counter,
		func(st cluster.Stats) float64 { return float64(st.Delivered) }},
	{"whorl_cluster_dropped_total", "Messages not sent to a member, as its loop was behind.", counter,
		func(st cluster.Stats) float64 { return float64(st.Dropped) }},
	{"whorl_cluster_late_total", "Messages that came again or too late, and were dropped.", counter,
		func(st cluster.Stats) float64 { return float64(st.Late) }},
	{"whorl_cluster_rejected_total", "Messages that could not be read.", counter,
		func(st cluster.Stats) float64 { return float64(st.Rejected) }},
	{"whorl_cluster_recovered_total", "Messages that were fetched from the history.", counter,
		func(st cluster.Stats) float64 { return float64(st.Recovered) }},
	{"whorl_cluster_gaps_total", "Gaps: times that messages to a room or a user may be lost.", counter,
		func(st cluster.Stats) float64 { return float64(st.Gaps) }},
}

// Describe is of prometheus.Collector.
func (c *clusterCollector) Describe(descs chan<- *prometheus.Desc) {
	c.figures.describe(descs)
}

// Collect is of prometheus.Collector.
func (c *clusterCollector) Collect(metrics chan<- prometheus.Metric) {
	c.figures.collect(metrics, c.hub.Stats())
}
