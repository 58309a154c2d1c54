// Package exampletest is what the tests of the examples have in common.
package exampletest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const Patience = 30 * time.Second

// Run is an example without its main.
type Run func(ctx context.Context, args []string, stdout io.Writer) error

// varies is what an example prints differently each time: ports, and what depends on the number of loops.
var varies = regexp.MustCompile(`(127\.0\.0\.\d:)\d+|\d+( figures)`)

// Demonstration runs an example without flags. What it prints has to be what its package comment, in main.go, says it does.
func Demonstration(t *testing.T, run Run) {
	t.Helper()
	var stdout bytes.Buffer
	if err := run(t.Context(), nil, &stdout); err != nil {
		t.Fatalf("%v\n%s", err, &stdout)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, comment, _ := strings.Cut(string(source), "and ends:\n//\n")
	var shown strings.Builder
	for line := range strings.Lines(comment) {
		text, indented := strings.CutPrefix(line, "//\t")
		if !indented && line != "//\n" {
			break
		}
		shown.WriteString(strings.TrimPrefix(text, "//"))
	}
	want := varies.ReplaceAllString(strings.TrimSuffix(shown.String(), "\n"), "$1…$2")
	if got := varies.ReplaceAllString(stdout.String(), "$1…$2"); got != want {
		t.Errorf("printed\n%s\nthe package comment says\n%s", got, want)
	}
}

// Serve runs an example with -listen until stop is called or the test ends. It returns the first line that is printed, which has to begin with prefix,
// without that; and stop returns what was printed after it.
func Serve(t *testing.T, run Run, prefix string, args ...string) (first string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), w)
		w.Close()
	}()
	stdout := bufio.NewReader(r)
	line, _ := stdout.ReadString('\n')
	first, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
	if !ok {
		cancel()
		t.Fatalf("printed %q, %v", line, <-ended)
	}
	rest := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(stdout)
		rest <- string(text)
	}()
	stopped := false
	stop = func() string {
		if stopped {
			return ""
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return <-rest
	}
	t.Cleanup(func() { stop() })
	return first, stop
}

// Flags runs an example with flags that make no sense: what has to be in the error, and the flags. It also asks for help, in which those that are listed
// have to be.
func Flags(t *testing.T, run Run, wrong map[string][]string, listed ...string) {
	t.Helper()
	for want, args := range wrong {
		if err := run(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	var help bytes.Buffer
	err := run(t.Context(), []string{"-h"}, &help)
	for _, name := range listed {
		if err != nil || !strings.Contains(help.String(), "\n  "+name) {
			t.Errorf("-h: %v, %q, want %s", err, &help, name)
		}
	}
}
