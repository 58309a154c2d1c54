// Package report is what a benchmark has found: as a table for people, as JSON, CSV and
// HdrHistogram's percentile text for programs, and as a picture.
package report

import (
	"encoding/json"
	"io"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the outcome of a run. Its JSON names are fixed: other programs read them. A name ends
// with the unit, unless it counts. What isn't known is null.
type Result struct {
	Mode       string           `json:"mode"`
	Operations int64            `json:"operations"` // that succeeded, within Seconds
	Errors     map[string]int64 `json:"errors"`     // that failed, by class: "phase: reason"
	Seconds    float64          `json:"elapsed_seconds"`
	Rate       float64          `json:"operations_per_second"`
	CPUSeconds float64          `json:"cpu_seconds"`

	// Latency is of a whole operation: from its start, or in an open loop from the moment it was to
	// start.
	Latency Quantiles            `json:"latency"`
	Phases  map[string]Quantiles `json:"phases"` // the same of its parts

	// What a held connection costs this process. Mode connections. The resident size is that after
	// free memory was given back, and that as it was found.
	HeapPerConn        *float64 `json:"heap_bytes_per_connection"`
	StackPerConn       *float64 `json:"stack_bytes_per_connection"`
	RSSPerConn         *float64 `json:"rss_bytes_per_connection"`
	RSSPerConnBeforeGC *float64 `json:"rss_bytes_per_connection_before_gc"`

	TLS *TLS `json:"tls"` // null: plaintext

	Target      string `json:"target"`
	Address     string `json:"address"` // that the target's name was resolved to
	StartTLS    string `json:"starttls,omitempty"`
	Connections int    `json:"connections"`      // at a time
	Used        int64  `json:"connections_used"` // those that have begun an operation
	Held        int64  `json:"connections_held,omitempty"`

	// Open loop.
	TargetRate float64    `json:"target_operations_per_second,omitempty"`
	LateStarts LateStarts `json:"late_starts"`

	BytesSent     int64 `json:"sent_bytes"`
	BytesReceived int64 `json:"received_bytes"`

	// GeneratorLimited says that the figures are bounds only: rates are at least, latencies at most
	// what is written. Limits says why.
	GeneratorLimited bool     `json:"generator_limited"`
	Limits           []string `json:"limits"`
	Notes            []string `json:"notes"`
	Interrupted      bool     `json:"interrupted,omitempty"`

	// of the processors that the generator may use, 0 to 1
	CPUShare float64           `json:"cpu_share"`
	Examples map[string]string `json:"error_examples,omitempty"`
	Series   []Interval        `json:"series"`
	Machine  Machine           `json:"machine"`
	Command  string            `json:"command"`
	Started  time.Time         `json:"started"`

	// Order is the order of the phases, and Histogram has the latencies in nanoseconds.
	Order     []string       `json:"-"`
	Histogram *hdr.Histogram `json:"-"`
}

// Quantiles are of a distribution of times, in nanoseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min_ns"`
	Mean  float64 `json:"mean_ns"`
	P50   float64 `json:"p50_ns"`
	P90   float64 `json:"p90_ns"`
	P99   float64 `json:"p99_ns"`
	P999  float64 `json:"p999_ns"`
	P9999 float64 `json:"p9999_ns"`
	Max   float64 `json:"max_ns"`

	// CutOff is how many of them are of what had not ended when it was given up: it would have
	// taken longer. So what is not below CutOffFrom, the shortest of them, is at least what is
	// written.
	CutOff     int64   `json:"cut_off,omitempty"`
	CutOffFrom float64 `json:"cut_off_from_ns,omitempty"`
}

// TLS is what the handshakes have agreed on: most of them, if they differ.
type TLS struct {
	Version string  `json:"version"`
	Suite   string  `json:"suite"`
	Group   string  `json:"group"`
	Resumed float64 `json:"resumed_share"` // of the handshakes, 0 to 1

	Handshakes  int64            `json:"handshakes"`
	Certificate string           `json:"certificate"` // the server's: its type
	Negotiated  map[string]int64 `json:"negotiated"`  // how often which combination
}

// LateStarts counts operations of an open loop that began more than a millisecond after they were
// to begin.
type LateStarts struct {
	Busy  int64 `json:"busy"`  // since all connections were busy: the latencies have it
	Woken int64 `json:"woken"` // since the generator was late itself

	Max float64 `json:"max_ns"`
}

// Interval is a piece of the time series.
type Interval struct {
	Start      float64 `json:"start_seconds"` // since measuring began
	Seconds    float64 `json:"duration_seconds"`
	Operations int64   `json:"operations"`
	Errors     int64   `json:"errors"`
	Bytes      int64   `json:"bytes"`
	P50        float64 `json:"p50_ns"`
	P99        float64 `json:"p99_ns"`
	Max        float64 `json:"max_ns"`
}

// QuantilesOf sums up a histogram of nanoseconds; nil is an empty one.
func QuantilesOf(h *hdr.Histogram) Quantiles {
	if h == nil || h.TotalCount() == 0 {
		return Quantiles{}
	}
	at := func(percentile float64) float64 {
		return float64(min(h.ValueAtPercentile(percentile), h.Max()))
	}
	return Quantiles{
		Count: h.TotalCount(), Min: float64(h.Min()), Mean: h.Mean(),
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99),
		Max: float64(h.Max()),
	}
}

// WithCutOff returns the same with what is known of those that had not ended.
func (q Quantiles) WithCutOff(count int64, from time.Duration) Quantiles {
	q.CutOff, q.CutOffFrom = count, float64(from)
	return q
}

// sign returns what to write in front of one of the quantiles.
func (q Quantiles) sign(ns float64) string {
	const resolution = 0.002 // of a histogram with three digits
	if q.CutOff > 0 && ns >= (1-resolution)*q.CutOffFrom {
		return "≥ "
	}
	return ""
}

// WriteJSON writes the result as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
