//go:build linux

package main

import (
	"fmt"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plots draws, for each transport and size of message, the CPU time per message over the number of connections, a line for each server. It writes SVG
// files into the directory for plots and returns their paths as the report is to name them: relative to itself.
func (r *Result) plots() (paths []string, err error) {
	dir := r.Settings.plotDir
	type picture struct {
		tls  bool
		size int
	}
	cases, rows := r.echoRows()
	var order []picture
	lines := map[picture]map[string]plotter.XYs{}
	for _, c := range cases {
		p := picture{c.TLS, c.Size}
		if lines[p] == nil {
			order = append(order, p)
			lines[p] = map[string]plotter.XYs{}
		}
		for _, row := range rows[c] {
			lines[p][row.server] = append(lines[p][row.server], plotter.XY{X: float64(c.Conns), Y: row.median() / 1000})
		}
	}
	for _, pic := range order {
		p := plot.New()
		p.Title.Text = fmt.Sprintf("Echo, %s, %s", transport(pic.tls), bytesText(pic.size))
		p.X.Label.Text, p.Y.Label.Text = "connections", "server's CPU per message, µs"
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Legend.Top = true
		var series []any
		for _, s := range r.Servers { // The same server has the same colour in every picture.
			if points := lines[pic][s.Server]; points != nil {
				series = append(series, s.Server, points)
			}
		}
		if err := plotutil.AddLinePoints(p, series...); err != nil {
			return nil, err
		}
		p.Y.Min = 0
		file := filepath.Join(dir, fmt.Sprintf("echo-%s-%d.svg", transport(pic.tls), pic.size))
		if err := p.Save(18*vg.Centimeter, 11*vg.Centimeter, file); err != nil {
			return nil, err
		}
		path, err := filepath.Rel(filepath.Dir(r.Settings.markdownFile), file)
		if err != nil {
			path = file // One is absolute and the other isn't.
		}
		paths = append(paths, filepath.ToSlash(path))
	}
	return paths, nil
}
