package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteTable writes the result for people to read.
func (r *Result) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s\n\n", r.Command, r.Machine)
	if r.GeneratorLimited {
		fmt.Fprintf(&b, "LIMITED BY THE GENERATOR: %s what is written.\n", r.bounds())
		for _, why := range r.Limits {
			fmt.Fprintf(&b, "  %s\n", why)
		}
		b.WriteByte('\n')
	}
	r.writeFacts(&b)
	b.WriteByte('\n')
	r.writePhases(&b)
	r.writeErrors(&b)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) writeFacts(b *bytes.Buffer) {
	var t Table
	row := func(name, format string, args ...any) {
		t = append(t, []string{name, fmt.Sprintf(format, args...)})
	}
	row("mode", "%s, %s", r.Mode, r.load())
	target := r.Target
	if r.Address != "" && r.Address != r.Target {
		target += " (" + r.Address + ")"
	}
	if r.StartTLS != "" {
		target += ", STARTTLS " + r.StartTLS
	}
	row("target", "%s", target)
	if r.TLS != nil {
		r.TLS.facts(row)
	}
	row("operations", "%s in %s s", Grouped(r.Operations), Significant(r.Seconds))
	row("rate", "%s/s", r.rate())
	if !r.holds() {
		row("connections", "%s of %s were used", Grouped(r.Used), Grouped(int64(r.Connections)))
	}
	if r.BytesSent+r.BytesReceived > 0 {
		perSecond := ""
		// while connections are held, time isn't measured
		if r.Seconds > 0 && r.HeapPerConn == nil {
			perSecond = fmt.Sprintf(", %s%s/s", r.rateBound(),
				Size(float64(r.BytesSent+r.BytesReceived)/r.Seconds))
		}
		row("bytes", "%s sent, %s received%s", Size(float64(r.BytesSent)),
			Size(float64(r.BytesReceived)), perSecond)
	}
	if r.Operations > 0 {
		row("CPU", "%s s per 1,000; %s s in all, %.0f %% of what the generator may use",
			Significant(1000*r.CPUSeconds/float64(r.Operations)),
			Significant(r.CPUSeconds), 100*r.CPUShare)
	}
	if r.HeapPerConn != nil {
		row("memory", "per connection: heap %s, stack %s, RSS %s (before collection %s); %s held",
			Size(*r.HeapPerConn), Size(*r.StackPerConn),
			Size(*r.RSSPerConn), Size(*r.RSSPerConnBeforeGC), Grouped(r.Held))
	}
	if r.TargetRate > 0 {
		row("late starts", "%s with all connections busy, %s by the generator; the latest by %s",
			Grouped(r.LateStarts.Busy), Grouped(r.LateStarts.Woken),
			Duration(r.LateStarts.Max))
	}
	t.WriteFacts(b)
}

// holds reports whether connections were opened to be held.
func (r *Result) holds() bool { return r.Mode == "connections" || r.Mode == "websocket-idle" }

// load says how the load was made.
func (r *Result) load() string {
	connections := Plural(int64(r.Connections), "connection")
	open := "closed loop"
	if r.TargetRate > 0 {
		open = fmt.Sprintf("open loop at %s/s", Significant(r.TargetRate))
	}
	if r.holds() {
		connections = "opened " + Grouped(int64(r.Connections)) // of those that are held
	}
	return open + ", " + connections + " at a time"
}

// bounds says which figures are only bounds, as the signs do.
func (r *Result) bounds() string {
	text := "latencies are at most (≤)"
	if r.rateBound() != "" {
		text = "rates are at least (≥), latencies at most (≤)"
	}
	if r.Latency.CutOff > 0 {
		text += ", but those of what never ended at least (≥),"
	}
	return text
}

// rate writes the operations per second.
func (r *Result) rate() string { return r.rateBound() + Significant(r.Rate) }

// RateKept is from which share of the rate that was asked for on it counts as kept.
const RateKept = 0.95

// rateBound says whether the rate is only a bound. One that was asked for and kept is what it is.
func (r *Result) rateBound() string {
	if r.TargetRate > 0 && r.Rate >= RateKept*r.TargetRate {
		return ""
	}
	return r.bound("≥ ")
}

func (r *Result) bound(sign string) string {
	if r.GeneratorLimited {
		return sign
	}
	return ""
}

func (t *TLS) facts(row func(name, format string, args ...any)) {
	for i, name := range slices.SortedFunc(maps.Keys(t.Negotiated),
		func(a, b string) int { return int(t.Negotiated[b] - t.Negotiated[a]) }) {
		label := "TLS"
		if i > 0 {
			label = ""
		}
		row(label, "%s: %s", name, Grouped(t.Negotiated[name]))
	}
	if t.Certificate != "" {
		row("certificate", "%s", t.Certificate)
	}
}

// writePhases writes one line for each phase, and one for the whole operation.
func (r *Result) writePhases(b *bytes.Buffer) {
	if r.Latency.Count == 0 && len(r.Phases) == 0 {
		return
	}
	t := Table{{r.bound("≤ "), "count", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max"}}
	line := func(name string, q Quantiles) {
		row := []string{name, Grouped(q.Count)}
		for _, ns := range []float64{q.Min, q.P50, q.P90, q.P99, q.P999, q.P9999, q.Max} {
			row = append(row, q.sign(ns)+Duration(ns))
		}
		t = append(t, row)
	}
	for _, name := range r.Order {
		if q, ok := r.Phases[name]; ok {
			line(name, q)
		}
	}
	if r.Latency.Count > 0 {
		line("operation", r.Latency)
	}
	t.WriteText(b)
	b.WriteByte('\n')
}

func (r *Result) writeErrors(b *bytes.Buffer) {
	if len(r.Errors) == 0 {
		b.WriteString("no errors\n")
		return
	}
	total := int64(0)
	for _, n := range r.Errors {
		total += n
	}
	fmt.Fprintf(b, "errors: %s\n", Grouped(total))
	for _, class := range slices.SortedFunc(maps.Keys(r.Errors), func(a, b string) int {
		if r.Errors[a] != r.Errors[b] {
			return int(r.Errors[b] - r.Errors[a])
		}
		return strings.Compare(a, b)
	}) {
		fmt.Fprintf(b, "  %s  %s\n", Grouped(r.Errors[class]), class)
		if text := r.Examples[class]; text != "" {
			fmt.Fprintf(b, "     such as: %s\n", text)
		}
	}
}
