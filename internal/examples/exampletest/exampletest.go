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

	"github.com/whorl-go/whorl/internal/program"
)

// Patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const Patience = 30 * time.Second

// varies is what an example prints differently each time: ports, and what depends on the number of
// loops.
var varies = regexp.MustCompile(`(127\.0\.0\.\d:)\d+|\d+( figures)`)

// Demonstration runs an example without flags. What it prints has to be what its package comment,
// in main.go, says it does.
func Demonstration(t *testing.T, run program.Run) {
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

// Serve runs an example with -listen until stop is called or the test ends. It returns the first
// line that is printed, which has to begin with prefix, without that; and stop returns what was
// printed after it.
func Serve(
	t *testing.T,
	run program.Run,
	prefix string,
	args ...string,
) (first string, stop func() string) {
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

// Flags runs an example with flags that make no sense: what has to be in the error, and the flags.
// It also has an argument behind the flags refused, and asks for help, in which those that are
// listed have to be.
func Flags(t *testing.T, run program.Run, wrong map[string][]string, listed ...string) {
	t.Helper()
	for want, args := range wrong {
		err := run(t.Context(), args, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	var stdout, stderr bytes.Buffer
	status := program.Status(t.Context(), "example", run, []string{"stray"}, &stdout, &stderr)
	want := "example: \"stray\" is not a flag; -h shows the flags\n"
	if status != 2 || stdout.Len() > 0 || stderr.String() != want {
		t.Errorf("a stray argument: status %d, %q, %q", status, &stdout, &stderr)
	}
	status = program.Status(t.Context(), "example", run, []string{"-h"}, &stdout, &stderr)
	for _, name := range listed {
		if status != 0 || !strings.Contains(stdout.String(), "\n  "+name) {
			t.Errorf("-h: status %d, %q, want %s", status, &stdout, name)
		}
	}
}
