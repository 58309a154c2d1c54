package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
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
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
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
	row("operations", "%s in %s s", Grouped(r.Operations), significant(r.Seconds))
	row("rate", "%s/s", r.rate())
	if r.Mode != "connections" {
		row("connections", "%s of %s were used", Grouped(r.Used), Grouped(int64(r.Connections)))
	}
	if r.BytesSent+r.BytesReceived > 0 {
		perSecond := ""
		if r.Seconds > 0 && r.HeapPerConn == nil { // while connections are held, time isn't measured
			perSecond = fmt.Sprintf(", %s%s/s", r.rateBound(), size(float64(r.BytesSent+r.BytesReceived)/r.Seconds))
		}
		row("bytes", "%s sent, %s received%s", size(float64(r.BytesSent)), size(float64(r.BytesReceived)), perSecond)
	}
	if r.Operations > 0 {
		row("CPU", "%s s per 1,000; %s s in all, %.0f %% of what the generator may use", significant(1000*r.CPUSeconds/float64(r.Operations)),
			significant(r.CPUSeconds), 100*r.CPUShare)
	}
	if r.HeapPerConn != nil {
		row("memory", "per connection: heap %s, stack %s, RSS %s (before collection %s); %s held", size(*r.HeapPerConn), size(*r.StackPerConn),
			size(*r.RSSPerConn), size(*r.RSSPerConnBeforeGC), Grouped(r.Held))
	}
	if r.TargetRate > 0 {
		row("late starts", "%s with all connections busy, %s by the generator; the latest by %s", Grouped(r.LateStarts.Busy), Grouped(r.LateStarts.Woken),
			Duration(r.LateStarts.Max))
	}
	t.Flush()
}

// load says how the load was made.
func (r *Result) load() string {
	connections := "1 connection"
	if r.Connections != 1 {
		connections = Grouped(int64(r.Connections)) + " connections"
	}
	open := "closed loop"
	if r.TargetRate > 0 {
		open = fmt.Sprintf("open loop at %s/s", significant(r.TargetRate))
	}
	if r.Mode == "connections" {
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
func (r *Result) rate() string { return r.rateBound() + significant(r.Rate) }

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
	for i, name := range slices.SortedFunc(maps.Keys(t.Negotiated), func(a, b string) int { return int(t.Negotiated[b] - t.Negotiated[a]) }) {
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
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%-10s\tcount\tmin\tp50\tp90\tp99\tp99.9\tp99.99\tmax\t\n", r.bound("≤ "))
	line := func(name string, q Quantiles) {
		fmt.Fprintf(t, "%-10s\t%s\t", name, Grouped(q.Count)) // as wide as the longest name: the column is to begin on the left
		for _, ns := range []float64{q.Min, q.P50, q.P90, q.P99, q.P999, q.P9999, q.Max} {
			fmt.Fprintf(t, "%s%s\t", q.sign(ns), Duration(ns))
		}
		fmt.Fprintln(t)
	}
	for _, name := range r.Order {
		if q, ok := r.Phases[name]; ok {
			line(name, q)
		}
	}
	if r.Latency.Count > 0 {
		line("operation", r.Latency)
	}
	t.Flush()
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

// Grouped writes a count with commas.
func Grouped(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// significant writes a number with three digits that mean something.
func significant(x float64) string {
	switch {
	case x >= 100:
		return Grouped(int64(x + 0.5))
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 1:
		return fmt.Sprintf("%.2f", x)
	case x >= 0.1 || x <= 0:
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// Duration writes a time that is given in nanoseconds.
func Duration(ns float64) string {
	switch {
	case ns < 1e3:
		return significant(ns) + "ns"
	case ns < 1e6:
		return significant(ns/1e3) + "µs"
	case ns < 1e9:
		return significant(ns/1e6) + "ms"
	default:
		return significant(ns/1e9) + "s"
	}
}

// size writes a number of bytes.
func size(bytes float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if bytes < 1024 && bytes > -1024 {
			return significantBytes(bytes, unit)
		}
		bytes /= 1024
	}
	return significantBytes(bytes, "GiB")
}

func significantBytes(n float64, unit string) string {
	if unit == "B" || n >= 100 || n <= -100 {
		return fmt.Sprintf("%.0f %s", n, unit)
	}
	return fmt.Sprintf("%.1f %s", n, unit)
}
