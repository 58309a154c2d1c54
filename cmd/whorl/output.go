package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/whorl-go/whorl/internal/bench/report"
)

// outputs are the files that a run writes; "-" is standard output. They are opened before the run,
// so that it isn't made for nothing, and written after it: what they had is there until then.
type outputs struct {
	json, csv, hgrm, plot string

	opened []*output
}

// output is one of them.
type output struct {
	name  string
	to    io.Writer
	file  *os.File // nil for standard output
	fresh bool     // it wasn't there before
	write func(*report.Result, io.Writer) error
}

func (o *outputs) check() error {
	switch ext := strings.ToLower(filepath.Ext(o.plot)); {
	case o.plot == "", ext == ".svg", ext == ".html":
		return nil
	}
	return fmt.Errorf("--plot %s: want a name that ends with .svg or .html", o.plot)
}

// open opens those that were asked for.
func (o *outputs) open(stdout io.Writer) error {
	picture := (*report.Result).WriteSVG
	if strings.EqualFold(filepath.Ext(o.plot), ".html") {
		picture = (*report.Result).WriteHTML
	}
	for _, out := range []*output{
		{name: o.json, write: (*report.Result).WriteJSON},
		{name: o.csv, write: (*report.Result).WriteCSV},
		{name: o.hgrm, write: (*report.Result).WriteHGRM},
		{name: o.plot, write: picture},
	} {
		if out.name == "" {
			continue
		}
		if err := out.open(stdout); err != nil {
			o.close()
			return err
		}
		o.opened = append(o.opened, out)
	}
	return nil
}

func (o *output) open(stdout io.Writer) (err error) {
	if o.name == "-" {
		o.to = stdout
		return nil
	}
	const mode = 0o644
	o.file, err = os.OpenFile(o.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	o.fresh = err == nil
	if errors.Is(err, os.ErrExist) {
		o.file, err = os.OpenFile(o.name, os.O_WRONLY, mode)
	}
	o.to = o.file
	return err
}

// write writes the table and the files. The table makes room on standard output for what is sent
// there.
func (o *outputs) write(result *report.Result, stdout, stderr io.Writer) error {
	table := stdout
	var errs []error
	for _, out := range o.opened {
		if out.file == nil {
			table = stderr
		}
		if err := out.fill(result); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", out.name, err))
		}
	}
	return errors.Join(append(errs, result.WriteTable(table))...)
}

// fill writes all of it or nothing.
func (o *output) fill(result *report.Result) error {
	var b bytes.Buffer
	if err := o.write(result, &b); err != nil {
		return err
	}
	if o.file == nil {
		_, err := o.to.Write(b.Bytes())
		return err
	}
	info, err := o.file.Stat()
	if err == nil && info.Mode().IsRegular() { // a pipe or a terminal has no size
		err = o.file.Truncate(0)
	}
	if err != nil {
		return err
	}
	o.fresh = false
	_, err = o.to.Write(b.Bytes())
	closed := o.file.Close()
	o.file = nil
	return errors.Join(err, closed)
}

// close closes what is open and takes away files that were made and not written.
func (o *outputs) close() {
	for _, out := range o.opened {
		if out.file == nil {
			continue
		}
		out.file.Close()
		if out.fresh {
			os.Remove(out.name)
		}
	}
	o.opened = nil
}
