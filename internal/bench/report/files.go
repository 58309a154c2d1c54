package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
)

// WriteCSV writes the time series: one line for each interval, as in JSON.
func (r *Result) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{
		"start_seconds", "duration_seconds", "operations", "errors", "bytes",
		"operations_per_second",
		"p50_ns", "p99_ns", "max_ns",
	})
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	for _, i := range r.Series {
		c.Write([]string{
			number(i.Start), number(i.Seconds), strconv.FormatInt(i.Operations, 10),
			strconv.FormatInt(i.Errors, 10), strconv.FormatInt(i.Bytes, 10),
			strconv.FormatFloat(i.rate(), 'f', 3, 64), number(i.P50), number(i.P99), number(i.Max),
		})
	}
	c.Flush()
	return c.Error()
}

func (i Interval) rate() float64 {
	if i.Seconds <= 0 {
		return 0
	}
	return float64(i.Operations) / i.Seconds
}

// WriteHGRM writes the percentiles of the latency, in milliseconds, in the text format of
// HdrHistogram, which its plotting tools read.
func (r *Result) WriteHGRM(w io.Writer) error {
	if r.Histogram == nil {
		return fmt.Errorf("there is no latency to write: no operation has ended")
	}
	const ticksPerHalfDistance, nanosecondsPerMillisecond = 5, 1e6
	_, err := r.Histogram.PercentilesPrint(w, ticksPerHalfDistance, nanosecondsPerMillisecond)
	return err
}

// WriteHTML writes a page that stands by itself: the picture and the table.
func (r *Result) WriteHTML(w io.Writer) error {
	var picture, table bytes.Buffer
	if err := r.WriteSVG(&picture); err != nil {
		return err
	}
	if err := r.WriteTable(&table); err != nil {
		return err
	}
	svg := picture.String()
	if start := strings.Index(svg, "<svg"); start > 0 {
		svg = svg[start:] // without the XML declaration, which has no place in a page
	}
	return page.Execute(w, map[string]any{"Title": r.title(), "Picture": template.HTML(svg),
		"Table": table.String()})
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{{.Title}}</title>
<style>
body{font-family:sans-serif;margin:2em auto;max-width:64em}
svg{max-width:100%;height:auto}
pre{overflow-x:auto}
</style>
<h1>{{.Title}}</h1>
{{.Picture}}
<pre>{{.Table}}</pre>
</html>
`))
