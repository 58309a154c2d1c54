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
	Mode       string           `json:"mode"`                  // "handshake" and so on
	Operations int64            `json:"operations"`            // that succeeded, within Seconds
	Errors     map[string]int64 `json:"errors"`                // that failed, "phase: reason"
	Seconds    float64          `json:"elapsed_seconds"`       // that were measured
	Rate       float64          `json:"operations_per_second"` // Operations divided by Seconds
	CPUSeconds float64          `json:"cpu_seconds"`           // that this process has used meanwhile

	// Latency is of a whole operation: from its start, or in an open loop from the moment it was to
	// start.
	Latency Quantiles            `json:"latency"`
	Phases  map[string]Quantiles `json:"phases"` // the same of its parts

	// What a held connection costs this process. Mode connections.

	HeapPerConn  *float64 `json:"heap_bytes_per_connection"`  // in bytes, as all four
	StackPerConn *float64 `json:"stack_bytes_per_connection"` // of goroutines
	// RSSPerConn is after free memory was given back.
	RSSPerConn         *float64 `json:"rss_bytes_per_connection"`
	RSSPerConnBeforeGC *float64 `json:"rss_before_gc_bytes_per_connection"` // as it was found

	TLS *TLS `json:"tls"` // null: plaintext

	Target      string `json:"target"`                     // as it was given, "host:port"
	Address     string `json:"address"`                    // that the target's name was resolved to
	StartTLS    string `json:"starttls,omitempty"`         // empty: none
	Connections int    `json:"connections"`                // at a time
	Used        int64  `json:"connections_used"`           // those that have begun an operation
	Held        int64  `json:"connections_held,omitempty"` // at the end

	// Open loop.
	TargetRate float64    `json:"target_operations_per_second,omitempty"`
	LateStarts LateStarts `json:"late_starts"` // operations that began late

	BytesSent     int64 `json:"sent_bytes"`     // of messages, before encryption
	BytesReceived int64 `json:"received_bytes"` // the same of the other way

	// GeneratorLimited says that the figures are bounds only: rates are at least, latencies at most
	// what is written. Limits says why.
	GeneratorLimited bool     `json:"generator_limited"`
	Limits           []string `json:"limits"`                // the reasons, as sentences
	Notes            []string `json:"notes"`                 // what else a reader should know
	Interrupted      bool     `json:"interrupted,omitempty"` // by a signal

	// of the processors that the generator may use, 0 to 1
	CPUShare float64           `json:"cpu_share"`
	Examples map[string]string `json:"error_examples,omitempty"` // an error of each class
	Series   []Interval        `json:"series"`                   // the run in pieces, in order
	Machine  Machine           `json:"machine"`                  // where it ran
	Command  string            `json:"command"`                  // the command line
	Started  time.Time         `json:"started"`                  // when measuring began

	// Order is the order of the phases, and Histogram has the latencies in nanoseconds.
	Order     []string       `json:"-"`
	Histogram *hdr.Histogram `json:"-"` // nil: nothing was measured
}

// Quantiles are of a distribution of times, in nanoseconds.
type Quantiles struct {
	Count int64   `json:"count"`    // of values
	Min   float64 `json:"min_ns"`   // the shortest
	Mean  float64 `json:"mean_ns"`  // the average
	P50   float64 `json:"p50_ns"`   // the median
	P90   float64 `json:"p90_ns"`   // of 100 values, 90 are not above it
	P99   float64 `json:"p99_ns"`   // of 100, 99
	P999  float64 `json:"p999_ns"`  // of 1,000, 999
	P9999 float64 `json:"p9999_ns"` // of 10,000, 9,999
	Max   float64 `json:"max_ns"`   // the longest

	// CutOff is how many of them are of what had not ended when it was given up: it would have
	// taken longer. So what is not below CutOffFrom, the shortest of them, is at least what is
	// written.
	CutOff     int64   `json:"cut_off,omitempty"`
	CutOffFrom float64 `json:"cut_off_from_ns,omitempty"` // see CutOff
}

// TLS is what the handshakes have agreed on: most of them, if they differ.
type TLS struct {
	Version string  `json:"version"`       // "TLS 1.3"
	Suite   string  `json:"suite"`         // as crypto/tls names it
	Group   string  `json:"group"`         // of the key exchange
	Resumed float64 `json:"resumed_share"` // of the handshakes, 0 to 1

	Handshakes  int64            `json:"handshakes"`  // how many there were
	Certificate string           `json:"certificate"` // the server's: its type
	Negotiated  map[string]int64 `json:"negotiated"`  // how often which combination
}

// LateStarts counts operations of an open loop that began more than a millisecond after they were
// to begin.
type LateStarts struct {
	Busy  int64 `json:"busy"`  // since all connections were busy: the latencies have it
	Woken int64 `json:"woken"` // since the generator was late itself

	Max float64 `json:"max_ns"` // the latest start, in nanoseconds
}

// Interval is a piece of the time series.
type Interval struct {
	Start      float64 `json:"start_seconds"`    // since measuring began
	Seconds    float64 `json:"duration_seconds"` // how long it is
	Operations int64   `json:"operations"`       // that succeeded in it
	Errors     int64   `json:"errors"`           // that failed in it
	Bytes      int64   `json:"bytes"`            // of messages, both ways
	P50        float64 `json:"p50_ns"`           // in nanoseconds, as the others: the median latency
	P99        float64 `json:"p99_ns"`           // of 100 latencies, 99 are not above it
	Max        float64 `json:"max_ns"`           // the longest latency
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
