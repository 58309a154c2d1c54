// Package report is what a benchmark has found: as a table for people, as JSON, CSV and HdrHistogram's percentile text for programs, and as a picture.
package report

import (
	"encoding/json"
	"io"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the outcome of a run. Its JSON names are fixed: other programs read them. What isn't known is null.
type Result struct {
	Mode       string           `json:"mode"`
	Operations int64            `json:"operations"` // that succeeded and ended within Seconds
	Errors     map[string]int64 `json:"errors"`     // that failed, by class: "phase: reason"
	Seconds    float64          `json:"seconds"`    // that were measured, without warming up
	Rate       float64          `json:"rate"`       // operations per second
	CPUSeconds float64          `json:"cpu_seconds"`

	// Latency is of a whole operation, in microseconds: from its start, or in an open loop from the moment it was to start.
	Latency Quantiles            `json:"latency_us"`
	Phases  map[string]Quantiles `json:"phases"` // the same of its parts

	// What a held connection costs this process, in bytes. Mode connections.
	HeapPerConn        *float64 `json:"heap_bytes_per_conn"`
	StackPerConn       *float64 `json:"stack_bytes_per_conn"`
	RSSPerConn         *float64 `json:"rss_bytes_per_conn"`           // after a collection that gives free memory back
	RSSPerConnBeforeGC *float64 `json:"rss_bytes_per_conn_before_gc"` // as it was found

	TLS *TLS `json:"tls"` // null: plaintext

	Target      string `json:"target"`
	Address     string `json:"address"` // that the target's name was resolved to
	StartTLS    string `json:"starttls,omitempty"`
	Connections int    `json:"connections"` // in use at a time
	Held        int64  `json:"held,omitempty"`

	// Open loop.
	TargetRate float64    `json:"target_rate,omitempty"`
	LateStarts LateStarts `json:"late_starts"`

	BytesSent     int64 `json:"bytes_sent"`
	BytesReceived int64 `json:"bytes_received"`

	// GeneratorLimited says that the figures are bounds only: rates are at least, latencies at most what is written. Limits says why.
	GeneratorLimited bool     `json:"generator_limited"`
	Limits           []string `json:"limits"`
	Notes            []string `json:"notes"`
	Interrupted      bool     `json:"interrupted,omitempty"`

	CPUShare float64           `json:"cpu_share"` // of the processors that the generator may use
	Examples map[string]string `json:"error_examples,omitempty"`
	Series   []Interval        `json:"series"`
	Machine  Machine           `json:"machine"`
	Command  string            `json:"command"`
	Started  time.Time         `json:"started"`

	// Order is the order of the phases, and Histogram has the latencies in nanoseconds.
	Order     []string       `json:"-"`
	Histogram *hdr.Histogram `json:"-"`
}

// Quantiles are of a distribution of times, in microseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	P9999 float64 `json:"p9999"`
	Max   float64 `json:"max"`
}

// TLS is what the handshakes have agreed on: most of them, if they differ.
type TLS struct {
	Version string  `json:"version"`
	Suite   string  `json:"suite"`
	Group   string  `json:"group"`
	Resumed float64 `json:"resumed"` // share of the handshakes that resumed a session, 0 to 1

	Handshakes  int64            `json:"handshakes"`
	Certificate string           `json:"certificate"` // the server's: its type
	Negotiated  map[string]int64 `json:"negotiated"`  // how often which combination
}

// LateStarts counts operations of an open loop that began more than a millisecond after they were to begin.
type LateStarts struct {
	Busy  int64 `json:"busy"`  // since all connections were busy: the latencies have it
	Woken int64 `json:"woken"` // since the generator was late itself

	Max float64 `json:"max_us"`
}

// Interval is a piece of the time series.
type Interval struct {
	Start      float64 `json:"start"` // seconds since measuring began
	Seconds    float64 `json:"seconds"`
	Operations int64   `json:"operations"`
	Errors     int64   `json:"errors"`
	Bytes      int64   `json:"bytes"`
	P50        float64 `json:"p50"` // microseconds
	P99        float64 `json:"p99"`
	Max        float64 `json:"max"`
}

// QuantilesOf sums up a histogram of nanoseconds; nil is an empty one.
func QuantilesOf(h *hdr.Histogram) Quantiles {
	if h == nil || h.TotalCount() == 0 {
		return Quantiles{}
	}
	at := func(percentile float64) float64 { return float64(min(h.ValueAtPercentile(percentile), h.Max())) / 1e3 }
	return Quantiles{
		Count: h.TotalCount(), Min: float64(h.Min()) / 1e3, Mean: h.Mean() / 1e3,
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: float64(h.Max()) / 1e3,
	}
}

// WriteJSON writes the result as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
