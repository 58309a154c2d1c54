package report

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that people who don't tell red from green can tell apart, and that print in grey (Okabe
// and Ito).
var (
	blue   = color.RGBA{0, 114, 178, 255}
	orange = color.RGBA{230, 159, 0, 255}
	red    = color.RGBA{213, 94, 0, 255}
)

// title names the run in pictures and pages.
func (r *Result) title() string {
	t := "whorl bench " + r.Mode + ", " + r.Target
	if r.StartTLS != "" {
		t += ", STARTTLS " + r.StartTLS
	}
	return t
}

// WriteSVG draws three pictures one below the other: the latency by percentile, the rate over time,
// and the latency over time.
func (r *Result) WriteSVG(w io.Writer) error {
	distribution, err := r.plotDistribution()
	if err != nil {
		return err
	}
	rate, err := r.plotRate()
	if err != nil {
		return err
	}
	latency, err := r.plotLatency()
	if err != nil {
		return err
	}
	return WriteSVG(w, 24*vg.Centimeter, 10*vg.Centimeter, distribution, rate, latency)
}

// WriteSVG draws plots one below the other, each as wide and as high as is said.
func WriteSVG(w io.Writer, width, height vg.Length, all ...*plot.Plot) error {
	canvas := vgsvg.New(width, vg.Length(len(all))*height)
	plots := make([][]*plot.Plot, len(all))
	for i, p := range all {
		plots[i] = []*plot.Plot{p}
	}
	tiles := draw.Tiles{
		Rows: len(plots), Cols: 1, PadY: 8 * vg.Millimeter,
		PadTop: 4 * vg.Millimeter, PadBottom: 4 * vg.Millimeter, PadLeft: 4 * vg.Millimeter,
		PadRight: 8 * vg.Millimeter,
	}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	var picture bytes.Buffer
	if _, err := canvas.WriteTo(&picture); err != nil {
		return err
	}
	// Whoever looks at it may not have the font.
	_, err := w.Write(bytes.ReplaceAll(picture.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")))
	return err
}

// NewPlot makes an empty plot with a grid.
func NewPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	for _, style := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		style.Variant = "Sans"
	}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = 3 * vg.Millimeter
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Millimeter
	p.Add(plotter.NewGrid())
	return p
}

// line adds a line to a plot, with its name in the legend unless that is empty.
func line(p *plot.Plot, points plotter.XYs, colour color.Color, name string) error {
	if len(points) == 0 {
		return nil
	}
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = colour, vg.Points(1.5)
	p.Add(l)
	if name != "" {
		p.Legend.Add(name, l)
	}
	return nil
}

// plotDistribution draws the latency against the percentile, with room for the rare ones: each nine
// takes as much as the one before it.
func (r *Result) plotDistribution() (*plot.Plot, error) {
	p := NewPlot(fmt.Sprintf("%s\n%s/s, %s", r.title(), r.rate(), r.load()), "percentile",
		"latency (ms)")
	var points plotter.XYs
	nines := 1.0
	if r.Histogram != nil && r.Histogram.TotalCount() > 0 {
		// Beyond the rarest value that was seen there is nothing to draw.
		nines = math.Max(1, math.Log10(float64(r.Histogram.TotalCount())))
		const steps = 400
		for i := range steps + 1 {
			x := nines * float64(i) / steps
			percentile := 100 * (1 - math.Pow(10, -x))
			points = append(points,
				plotter.XY{X: x, Y: float64(r.Histogram.ValueAtPercentile(percentile)) / 1e6})
		}
	}
	p.X.Min, p.X.Max = 0, nines
	var ticks plot.ConstantTicks
	for n := 0; float64(n) <= nines; n++ {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: fmt.Sprintf("%.*f", max(0, n-2),
			100*(1-math.Pow(10, -float64(n))))})
	}
	if nines >= 0.302 {
		ticks = append(ticks, plot.Tick{Value: math.Log10(2), Label: "50"})
	}
	p.X.Tick.Marker = ticks
	return p, line(p, points, blue, "")
}

func (r *Result) plotRate() (*plot.Plot, error) {
	p := NewPlot("operations per second", "seconds", "operations/s")
	var good, bad plotter.XYs
	failed := false
	for _, i := range r.Series {
		x := i.Start + i.Seconds/2
		good = append(good, plotter.XY{X: x, Y: i.rate()})
		bad = append(bad, plotter.XY{X: x, Y: float64(i.Errors) / math.Max(i.Seconds, 1e-9)})
		failed = failed || i.Errors > 0
	}
	if failed {
		if err := line(p, bad, red, "errors"); err != nil {
			return nil, err
		}
	}
	err := line(p, good, blue, "operations")
	r.overTime(p)
	return p, err
}

// overTime sets the axes of a plot over the whole time, with room for the legend above the lines.
func (r *Result) overTime(p *plot.Plot) {
	const room = 1.3
	p.X.Min, p.X.Max = 0, math.Max(r.Seconds, 1e-3)
	p.Y.Min, p.Y.Max = 0, math.Max(room*p.Y.Max, 1e-6)
}

func (r *Result) plotLatency() (*plot.Plot, error) {
	p := NewPlot("latency over time", "seconds", "latency (ms)")
	var p50, p99, highest plotter.XYs
	for _, i := range r.Series {
		if i.Operations == 0 {
			continue
		}
		x := i.Start + i.Seconds/2
		p50 = append(p50, plotter.XY{X: x, Y: i.P50 / 1e6})
		p99 = append(p99, plotter.XY{X: x, Y: i.P99 / 1e6})
		highest = append(highest, plotter.XY{X: x, Y: i.Max / 1e6})
	}
	for _, l := range []struct {
		points plotter.XYs
		colour color.Color
		name   string
	}{{highest, red, "max"}, {p99, orange, "p99"}, {p50, blue, "p50"}} {
		if err := line(p, l.points, l.colour, l.name); err != nil {
			return nil, err
		}
	}
	r.overTime(p)
	return p, nil
}
