//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// picture is a plot, with its path as the report is to name it: relative to itself.
type picture struct{ title, path string }

// plots draws SVG files into the directory for plots: for servers and for clients the CPU time per
// message over the number of connections, a line for each contestant, and for Whorl's clients the
// ratio to net in each work.
func (r *Result) plots() (all []picture, err error) {
	type kind struct {
		work clients.Work
		tls  bool
		size int
	}
	cases, _ := r.rows()
	var drawn []kind
	for _, c := range cases {
		k := kind{c.Work, c.TLS, c.Size}
		if c.Work != echoWork && c.Work != clients.RoundTrip || c.SlowBy > 0 ||
			slices.Contains(drawn, k) {
			continue
		}
		drawn = append(drawn, k)
		title, file, names := fmt.Sprintf("Echo servers, %s, %s", transport(c.TLS),
			sizeText(c.Size)), "echo", r.Servers
		if c.Work == clients.RoundTrip {
			title, file, names = fmt.Sprintf("Clients, round trips of %s", sizeText(c.Size)),
				"client", r.Clients
		}
		p, err := r.lines(title, names, func(of Case) bool {
			return of.SlowBy == 0 && kind{of.Work, of.TLS, of.Size} == k
		})
		if err != nil {
			return nil, err
		}
		one, err := r.save(p, fmt.Sprintf("%s-%s-%d.svg", file, transport(c.TLS), c.Size))
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	p, err := r.bars()
	if err != nil || p == nil {
		return all, err
	}
	one, err := r.save(p, "client-ratios.svg")
	return append(all, one), err
}

func (r *Result) save(p *plot.Plot, file string) (picture, error) {
	s := r.Settings
	path := filepath.Join(s.plotDir, file)
	var svg bytes.Buffer
	if err := report.WriteSVG(&svg, 18*vg.Centimeter, 11*vg.Centimeter, p); err != nil {
		return picture{}, err
	}
	if err := os.WriteFile(path, svg.Bytes(), 0o644); err != nil {
		return picture{}, err
	}
	if relative, err := filepath.Rel(filepath.Dir(s.markdownFile), path); err == nil {
		path = relative // Else one is absolute and the other isn't.
	}
	return picture{title: p.Title.Text, path: filepath.ToSlash(path)}, nil
}

// lines is a plot over the number of connections of the cases that are to be shown.
func (r *Result) lines(title string, names []About, shown func(Case) bool) (*plot.Plot, error) {
	cases, rows := r.rows()
	points := map[string]plotter.XYs{}
	for _, c := range cases {
		if shown(c) {
			for _, row := range rows[c] {
				points[row.name] = append(points[row.name],
					plotter.XY{X: float64(c.Conns), Y: row.median() / 1000})
			}
		}
	}
	p := report.NewPlot(title, "connections", "CPU per message, µs")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Left = false     // what is slow with few connections is on the left
	for i, a := range names { // The same one has the same colour in every picture.
		if points[a.Name] == nil {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points[a.Name])
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color = plotutil.Color(i), plotutil.Color(i)
		line.Dashes, dots.Shape = plotutil.Dashes(i), plotutil.Shape(i)
		p.Add(line, dots)
		p.Legend.Add(a.Name, line, dots)
	}
	p.Y.Min = 0
	return p, nil
}

// bars shows the ratio of Whorl's clients to net in each work, nil if there was none.
func (r *Result) bars() (*plot.Plot, error) {
	cases, rows := r.rows()
	var works []string
	values := map[string]plotter.Values{}
	styles := []string{"whorl", "whorl-async"}
	for _, c := range slices.Backward(cases) { // The first one is to be on top.
		ref := r.reference(rows[c])
		if c.Work == echoWork || ref == nil || named(rows[c], styles[0]) == nil {
			continue
		}
		works = append(works, c.String())
		for _, style := range styles {
			ratio := 0.0
			if row := named(rows[c], style); row != nil {
				ratio = row.against(ref).Median
			}
			values[style] = append(values[style], ratio)
		}
	}
	if len(works) == 0 {
		return nil, nil
	}
	p := report.NewPlot("Whorl's clients: CPU time, net (for packets with bufio) = 1", "", "")
	p.NominalY(works...)
	p.Legend.Left = false // where few bars reach
	const width = 0.2 * vg.Centimeter
	for i, style := range styles {
		bars, err := plotter.NewBarChart(values[style], width)
		if err != nil {
			return nil, err
		}
		bars.Horizontal = true
		bars.Color, bars.LineStyle.Width = plotutil.Color(i), 0
		bars.Offset = width/2 - vg.Length(i)*width
		p.Add(bars)
		p.Legend.Add(style, bars)
	}
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(works)) - 0.5}})
	if err != nil {
		return nil, err
	}
	one.LineStyle = draw.LineStyle{Color: one.Color, Width: vg.Points(0.7),
		Dashes: plotutil.Dashes(1)}
	p.Add(one)
	return p, nil
}
