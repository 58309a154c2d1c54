package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/whorl-go/whorl/internal/bench"
)

// progress is the bar that shows how far a run is. A nil one shows nothing.
type progress struct{ bar *progressbar.ProgressBar }

// steps is how finely the bar moves.
const steps = 1000

// newProgress returns a bar on w, nil if that is no terminal.
func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return &progress{newBar(w)}
}

func newBar(w io.Writer) *progressbar.ProgressBar {
	return progressbar.NewOptions(steps, progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
}

// show is called a few times a second.
func (p *progress) show(now bench.Progress) {
	p.bar.Describe(describe(now))
	p.bar.Set(min(steps-1, int(now.Done*steps))) // the last step is finish's
}

// describe writes rate, errors and time left.
func describe(now bench.Progress) string {
	text := fmt.Sprintf("%s: %.0f/s, %d done, %d errors", now.Stage, now.Rate, now.Operations,
		now.Errors)
	if now.Left > 0 {
		text += fmt.Sprintf(", %v left", now.Left.Round(time.Second))
	}
	return text
}

// finish takes the bar away.
func (p *progress) finish() {
	if p != nil {
		p.bar.Finish()
	}
}
