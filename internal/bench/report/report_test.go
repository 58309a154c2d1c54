package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// example is a result with something in every field.
func example() *Result {
	h := hdr.New(1, int64(time.Hour), 3)
	for i := range int64(10_000) {
		h.RecordValue((i + 1) * 1000)
	}
	heap, stack, rss, before := 600.0, 2048.0, 4000.0, 5000.0
	return &Result{
		Mode: "connections", Operations: 12_345, Errors: map[string]int64{"connect: timeout": 2,
			"tls: name mismatch": 1000}, Seconds: 10, Rate: 1234.5, CPUSeconds: 3.25,
		Latency: QuantilesOf(h), Phases: map[string]Quantiles{"tls": QuantilesOf(h),
			"connect": QuantilesOf(nil)}, Order: []string{"dns", "connect", "tls"},
		HeapPerConn: &heap, StackPerConn: &stack, RSSPerConn: &rss, RSSPerConnBeforeGC: &before,
		TLS: &TLS{Version: "TLS 1.3", Suite: "TLS_AES_128_GCM_SHA256", Group: "X25519",
			Resumed: 0.25, Handshakes: 100, Certificate: "RSA 2048",
			Negotiated: map[string]int64{"TLS 1.3, A": 75, "TLS 1.3, A, resumed": 25}},
		Target: "mail.test:25", Address: "192.0.2.1:25", StartTLS: "smtp", Connections: 50,
		Used: 40, Held: 12_345,
		TargetRate: 2000, LateStarts: LateStarts{Busy: 7, Woken: 1, Max: 1.5e6}, BytesSent: 2 << 20,
		BytesReceived:    3000,
		GeneratorLimited: true, Limits: []string{"it was slow"}, Notes: []string{"a note"},
		CPUShare: 0.9,
		Examples: map[string]string{"connect: timeout": "connect mail.test:25: timeout"},
		Series: []Interval{{Start: 0, Seconds: 1, Operations: 100, Errors: 1, Bytes: 10,
			P50: 100e3, P99: 900e3, Max: 1e6}, {Start: 1, Seconds: 0.5, Operations: 60}},
		Machine: Machine{CPU: "A CPU", Processors: 2, Memory: 1 << 30, System: "Linux",
			Go: "go1.26", Whorl: "v1"},
		Command: "whorl bench connections mail.test:25", Histogram: h,
	}
}

func TestJSONHasTheFixedNames(t *testing.T) {
	for name, r := range map[string]*Result{"full": example(), "empty": {Errors: map[string]int64{},
		Phases: map[string]Quantiles{}}} {
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if err := json.Unmarshal(b.Bytes(), &all); err != nil {
			t.Fatal(err)
		}
		has := func(what string, object any, fields ...string) {
			t.Helper()
			o, ok := object.(map[string]any)
			for _, f := range fields {
				if _, there := o[f]; !ok || !there {
					t.Errorf("%s: %s has no %s, only %v", name, what, f,
						slices.Sorted(maps.Keys(o)))
				}
			}
		}
		has("the result", any(all), "mode", "operations", "errors", "elapsed_seconds",
			"operations_per_second",
			"cpu_seconds", "latency", "phases", "heap_bytes_per_connection",
			"stack_bytes_per_connection",
			"rss_bytes_per_connection", "connections_used", "tls", "generator_limited", "machine",
			"command")
		has("latency", all["latency"], "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")
		has("errors", all["errors"])
		has("phases", all["phases"])
		if name == "full" {
			has("tls", all["tls"], "version", "suite", "group", "resumed_share")
			has("a phase", all["phases"].(map[string]any)["tls"], "min_ns", "p50_ns", "p90_ns",
				"p99_ns", "p999_ns",
				"p9999_ns", "max_ns")
		} else if all["tls"] != nil || all["heap_bytes_per_connection"] != nil {
			t.Errorf("what isn't known is %v and %v", all["tls"], all["heap_bytes_per_connection"])
		}
	}
}

// What is measured says in which unit; what has none is counted.
func TestJSONNamesCarryTheirUnits(t *testing.T) {
	counts := []string{
		"operations", "errors", "connections", "connections_used", "connections_held", "busy",
		"woken",
		"count", "cut_off", "handshakes", "processors",
	}
	units := regexp.MustCompile(`_(ns|bytes|seconds|per_second|share|per_connection)$`)
	var walk func(name string, value any)
	walk = func(name string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, inner := range v {
				if name == "errors" || name == "negotiated" { // the keys are classes
					key = "count"
				}
				walk(key, inner)
			}
		case []any:
			for _, inner := range v {
				walk(name, inner)
			}
		case float64:
			if !slices.Contains(counts, name) && !units.MatchString(name) && name != "bytes" {
				t.Errorf("%s is %v of what?", name, v)
			}
		}
	}
	var b bytes.Buffer
	r := example()
	r.Latency = r.Latency.WithCutOff(2, time.Second)
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var all any
	if err := json.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	walk("", all)
}

// What the heading, the figures and the notes say of bounds is the same.
func TestBoundsAreMarked(t *testing.T) {
	table := func(r *Result) string {
		t.Helper()
		var b strings.Builder
		if err := r.WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	kept := example() // and limited
	kept.Rate = kept.TargetRate
	if text := table(kept); strings.Contains(text, "≥") || !strings.Contains(text, "≤  ") ||
		!strings.Contains(text, "BY THE GENERATOR: latencies are at most (≤)") {
		t.Errorf("a rate that was kept is no bound, latencies are:\n%s", text)
	}
	cut := example()
	cut.GeneratorLimited, cut.TargetRate = false, 0
	cut.Latency = cut.Latency.WithCutOff(100, 9_900_000*time.Nanosecond)
	if text := table(cut); !strings.Contains(text,
		"9.00ms  ≥ 9.90ms  ≥ 9.99ms  ≥ 10.0ms  ≥ 10.0ms") || strings.Contains(text, "≤") {
		t.Errorf("operations that never ended take at least so long:\n%s", text)
	}
	cut.GeneratorLimited = true
	if text := table(cut); !strings.Contains(text,
		"rates are at least (≥), latencies at most (≤), but those of what never ended at least "+
			"(≥), what is written") {
		t.Errorf("both:\n%s", text)
	}
}

func TestTables(t *testing.T) {
	table := Table{{"name", "µs"}, {"a", "1"}, {"longer", "1,000"}}
	var text, facts, markdown strings.Builder
	if err := errors.Join(table.WriteText(&text), table.WriteFacts(&facts),
		table.WriteMarkdown(&markdown, 0)); err != nil {
		t.Fatal(err)
	}
	if want := "  name       µs\n  a           1\n  longer  1,000\n"; text.String() != want {
		t.Errorf("%q, want %q", text.String(), want)
	}
	if want := "name    µs\na       1\nlonger  1,000\n"; facts.String() != want {
		t.Errorf("%q, want %q", facts.String(), want)
	}
	if want := "| name | µs |\n|---|--:|\n| a | 1 |\n| longer | 1,000 |\n"; markdown.String() != want {
		t.Errorf("%q, want %q", markdown.String(), want)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{5, 1, 3, 2, 4}, Spread{3, 2, 4}},
		{[]float64{4, 1, 2, 3}, Spread{2.5, 1.75, 3.25}},
	} {
		if got := SpreadOf(c.values); got != c.want {
			t.Errorf("%v: %v, not %v", c.values, got, c.want)
		}
	}
	if got := (Spread{2, 1, 4}).Inverse(); got != (Spread{0.5, 0.25, 1}) {
		t.Errorf("the inverse is %v", got)
	}
}

func TestQuantiles(t *testing.T) {
	q := example().Latency // 1 to 10,000 µs, in ns
	for name, c := range map[string][2]float64{
		"min": {q.Min, 1}, "p50": {q.P50, 5000}, "p90": {q.P90, 9000}, "p99": {q.P99, 9900},
		"p999": {q.P999, 9990}, "p9999": {q.P9999, 9999}, "max": {q.Max, 10_000},
		"mean": {q.Mean, 5000},
	} {
		if c[0] < 998*c[1] || c[0] > 1002*c[1] {
			t.Errorf("%s is %v ns, want %v µs", name, c[0], c[1])
		}
	}
	if q.Count != 10_000 || q.P9999 > q.Max {
		t.Errorf("%+v", q)
	}
	if QuantilesOf(nil) != (Quantiles{}) || QuantilesOf(hdr.New(1, 10, 1)) != (Quantiles{}) {
		t.Error("an empty distribution has quantiles")
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := example().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"whorl bench connections mail.test:25\n", "A CPU, 2 processors, Linux, go1.26, whorl v1",
		"LIMITED BY THE GENERATOR", "it was slow",
		"open loop at 2,000/s, opened 50 at a time", "mail.test:25 (192.0.2.1:25), STARTTLS smtp",
		"TLS 1.3, A, resumed: 25", "RSA 2048",
		"12,345 in 10.0 s", "≥ 1,235/s", "0.263 s per 1,000", "90 %",
		"heap 600 B, stack 2 KiB, RSS 3.9 KiB (before collection 4.9 KiB); 12,345 held",
		"7 with all connections busy, 1 by the generator; the latest by 1.50ms", "p99.99", "10.0ms",
		"1,000  tls: name mismatch", "such as: connect mail.test:25: timeout", "note: a note",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	calm := example()
	calm.GeneratorLimited, calm.TargetRate, calm.Errors = false, 0, nil
	b.Reset()
	if err := calm.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.ContainsAny(text, "≥≤") ||
		!strings.Contains(text, "no errors") || !strings.Contains(text, "closed loop") {
		t.Errorf("the table of a run without limit:\n%s", text)
	}
	calm.Mode = "pingpong"
	b.Reset()
	if err := calm.WriteTable(&b); err != nil ||
		!strings.Contains(b.String(), "40 of 50 were used") {
		t.Errorf("how many connections were used isn't said:\n%s", b.String())
	}
	b.Reset()
	if err := new(Result).WriteTable(&b); err != nil {
		t.Error(err)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		Grouped(0): "0", Grouped(999): "999", Grouped(1000): "1,000",
		Grouped(-1234567): "-1,234,567", Grouped(-100): "-100",
		Significant(1234567.8): "1,234,568", Significant(99.94): "99.9", Significant(1.005): "1.00",
		Significant(0.01234): "0.0123", Significant(0.5): "0.500",
		Duration(500): "500ns", Duration(999e3): "999µs", Duration(1.5e6): "1.50ms",
		Duration(2.5e9): "2.50s",
		Size(10):        "10 B", Size(1536): "1.5 KiB", Size(200 << 20): "200 MiB",
		Size(3 << 40): "3072 GiB",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 || strings.Join(rows[2], " ") != "1 0.5 60 0 0 120.000 0 0 0" {
		t.Errorf("%q, %v", rows, err)
	}
}

func TestHGRM(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteHGRM(&b); err != nil ||
		!strings.Contains(b.String(), "1/(1-Percentile)") ||
		!strings.Contains(b.String(), "5.001     0.500000") {
		t.Errorf("%v\n%.300s", err, b.String())
	}
	if new(Result).WriteHGRM(&b) == nil {
		t.Error("percentiles of nothing")
	}
}

func TestPictures(t *testing.T) {
	none := new(Result)
	one := example()
	one.Histogram = hdr.New(1, 1000, 3)
	one.Histogram.RecordValue(5)
	for name, r := range map[string]*Result{"full": example(), "empty": none, "one value": one} {
		var svg bytes.Buffer
		if err := r.WriteSVG(&svg); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d := xml.NewDecoder(&svg)
		texts := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: not XML: %v", name, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "text" {
				texts++
			}
		}
		if texts < 10 {
			t.Errorf("%s: a picture with %d texts", name, texts)
		}
	}
	hostile := example()
	hostile.Command = `whorl bench </pre><script>alert(1)</script>`
	hostile.Target = `"><script>`
	var page strings.Builder
	if err := hostile.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	if text := page.String(); strings.Contains(text, "<script") ||
		strings.Contains(text, "<?xml") || !strings.Contains(text, "<svg") ||
		strings.Contains(text, "http://") && strings.Contains(text, "src=") {
		t.Error("the page isn't safe, or not whole")
	}
}

func TestMachine(t *testing.T) {
	m := ThisMachine()
	if m.Processors < 1 || m.Go == "" || m.System == "" || m.Whorl == "" ||
		!strings.Contains(m.String(), m.Go) {
		t.Errorf("%+v", m)
	}
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision",
		Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}}
	info.Main.Version = "(devel)"
	if got := version(info); got != "0123456789ab+dirty" {
		t.Errorf("version %q", got)
	}
	info.Main.Version = "v1.2.3"
	if got := version(info); got != "v1.2.3+dirty" {
		t.Errorf("version %q", got)
	}
}
