package nats

import "github.com/prometheus/client_golang/prometheus"

// A collector shows Stats to Prometheus.
type collector struct {
	broker  *Broker
	figures []figure
}

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s *Stats) float64
}

// NewCollector returns a collector of a Broker's figures, each with the labels. A scrape reads
// counters and waits for nothing.
//
//	whorl_nats_connected                     gauge    1 if there is a connection
//	whorl_nats_reconnects_total              counter
//	whorl_nats_subscriptions                 gauge
//	whorl_nats_received_messages_total       counter  that the program has taken
//	whorl_nats_received_bytes_total          counter
//	whorl_nats_published_messages_total      counter
//	whorl_nats_published_bytes_total         counter
//	whorl_nats_waiting_messages              gauge    received, and not taken by the program yet
//	whorl_nats_waiting_bytes                 gauge
//	whorl_nats_pending_bytes                 gauge    published, and not taken by the server yet
//	whorl_nats_dropped_messages_total        counter  as the program took less than it was sent
//	whorl_nats_gaps_total                    counter  of rooms, that the history has shown
//	whorl_nats_rejected_messages_total       counter  published, and refused by the server
//	whorl_nats_invalid_messages_total        counter  that others must have sent
func NewCollector(b *Broker, labels prometheus.Labels) prometheus.Collector {
	c := &collector{broker: b}
	add := func(name, help string, kind prometheus.ValueType, value func(s *Stats) float64) {
		desc := prometheus.NewDesc("whorl_nats_"+name, help, nil, labels)
		c.figures = append(c.figures, figure{desc, kind, value})
	}
	gauge := func(name, help string, value func(s *Stats) int64) {
		add(name, help, prometheus.GaugeValue, func(s *Stats) float64 { return float64(value(s)) })
	}
	count := func(name, help string, value func(s *Stats) uint64) {
		add(name, help, prometheus.CounterValue,
			func(s *Stats) float64 { return float64(value(s)) })
	}
	gauge("connected", "1 if there is a connection.", func(s *Stats) int64 {
		if s.Connected {
			return 1
		}
		return 0
	})
	gauge("subscriptions", "Subscriptions.", func(s *Stats) int64 { return int64(s.Subscriptions) })
	gauge("waiting_messages", "Messages that the program hasn't taken yet.",
		func(s *Stats) int64 { return s.Waiting })
	gauge("waiting_bytes", "Bytes that the program hasn't taken yet.",
		func(s *Stats) int64 { return s.WaitingBytes })
	gauge("pending_bytes", "Bytes that the server hasn't taken yet.",
		func(s *Stats) int64 { return s.Pending })
	count("reconnects_total", "Connections made again.",
		func(s *Stats) uint64 { return s.Reconnects })
	count("received_messages_total", "Messages that the program has taken.",
		func(s *Stats) uint64 { return s.MessagesIn })
	count("received_bytes_total", "Bytes that the program has taken.",
		func(s *Stats) uint64 { return s.BytesIn })
	count("published_messages_total", "Messages published.",
		func(s *Stats) uint64 { return s.MessagesOut })
	count("published_bytes_total", "Bytes published.",
		func(s *Stats) uint64 { return s.BytesOut })
	count("dropped_messages_total", "Messages dropped, as the program took too little.",
		func(s *Stats) uint64 { return s.Dropped })
	count("gaps_total", "Gaps of rooms that the history has shown.",
		func(s *Stats) uint64 { return s.Gaps })
	count("rejected_messages_total", "Messages that the server has refused.",
		func(s *Stats) uint64 { return s.Rejected })
	count("invalid_messages_total", "Messages that others must have sent.",
		func(s *Stats) uint64 { return s.Invalid })
	return c
}

// Describe is called by Prometheus.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		descs <- f.desc
	}
}

// Collect is called by Prometheus.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	s := c.broker.Stats()
	for _, f := range c.figures {
		metrics <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&s))
	}
}
