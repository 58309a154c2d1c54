//go:build linux

// Command compare measures servers beside each other: the CPU time that each needs per message, and the memory that an idle connection costs.
//
//	go run ./cmd/compare -what echo,idle -tls -rounds 5 -d 2s -md results.md -json results.json
//
// Each server runs in a process of its own (this program, started again), and all get their load from the same generator. The servers take short turns, so that what
// else the machine does meets all of them; figures are medians of the turns, ratios medians of the ratios of neighbouring turns. A server that is named twice
// shows how large a difference has to be to mean anything: -servers gnet,gnet,net. Run with -h for the options.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/benchmarks/peers/load"
)

// serveCommand makes this program the server's process.
const serveCommand = "serve"

func main() {
	var err error
	if len(os.Args) == 2 && os.Args[1] == serveCommand {
		err = child.Serve()
	} else {
		err = run(os.Args[1:])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Settings are what the user chose.
type Settings struct {
	What     []string      `json:"what"`
	Servers  []string      `json:"servers"`
	Against  []string      `json:"against"` // ratios are against the first of these that takes part
	Conns    []int         `json:"conns"`
	Sizes    []int         `json:"sizes"` // bytes
	Plain    bool          `json:"plain"`
	TLS      bool          `json:"tls"`
	Rounds   int           `json:"rounds"`
	Interval time.Duration `json:"interval_ns"`
	Slice    time.Duration `json:"slice_ns"` // how long a server's turn is within a round
	Idle     int           `json:"idle_conns"`
	// IdleRounds is less than Rounds: what memory a connection takes hardly varies, and opening very many over TLS takes long.
	IdleRounds int `json:"idle_rounds"`
	// Split gives the generator and the server CPUs of their own.
	Split bool `json:"split_cpus"`

	jsonFile, markdownFile, plotDir string
}

func parse(args []string) (*Settings, error) {
	s := &Settings{}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	what := flags.String("what", "echo", "what to measure: echo, idle")
	servers := flags.String("servers", strings.Join(echo.Names(), ","), "which servers; one that is named twice is measured twice")
	against := flags.String("against", "gnet,net", "ratios are against the first of these that takes part")
	conns := flags.String("conns", "1,10,100,1000", "connections, for echo")
	sizes := flags.String("size", "64,16384", "bytes per message, for echo")
	flags.BoolVar(&s.Plain, "plain", true, "measure plaintext")
	flags.BoolVar(&s.TLS, "tls", false, "measure TLS too")
	flags.IntVar(&s.Rounds, "rounds", 5, "rounds, each with new processes")
	flags.DurationVar(&s.Interval, "d", 2*time.Second, "time that each server is measured in a round")
	flags.DurationVar(&s.Slice, "slice", 200*time.Millisecond, "length of a turn: within a round the servers take turns until each was measured for -d")
	flags.IntVar(&s.Idle, "idle", 20000, "connections, for idle")
	flags.IntVar(&s.IdleRounds, "idle-rounds", 1, "rounds, for idle")
	flags.BoolVar(&s.Split, "split", true, "give server and generator CPUs of their own, half of them each")
	flags.StringVar(&s.jsonFile, "json", "", "write every sample to this file")
	flags.StringVar(&s.markdownFile, "md", "", "write the report to this file instead of standard output")
	flags.StringVar(&s.plotDir, "plot", "", "draw echo's figures as SVG files in this directory, which the report shows")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	s.What, s.Servers, s.Against = list(*what), list(*servers), list(*against)
	var errConns, errSizes error
	s.Conns, errConns = numbers(*conns)
	s.Sizes, errSizes = numbers(*sizes)
	if err := errors.Join(errConns, errSizes); err != nil {
		return nil, err
	}
	return s, s.check(flags.Args())
}

func (s *Settings) check(rest []string) error {
	for _, what := range s.What {
		if what != "echo" && what != "idle" {
			return fmt.Errorf("compare: -what %s: neither echo nor idle", what)
		}
	}
	for _, name := range s.Servers {
		if _, err := echo.Find(name); err != nil {
			return err
		}
	}
	switch {
	case len(s.Sizes) > 0 && slices.Min(s.Sizes) < load.MinSize:
		return fmt.Errorf("compare: a message has %d bytes at least", load.MinSize)
	case len(rest) > 0:
		return fmt.Errorf("compare: %q is no option", rest[0])
	case s.Rounds < 1 || s.IdleRounds < 1 || s.Interval <= 0 || s.Slice <= 0 || s.Idle < 1:
		return errors.New("compare: -rounds, -idle-rounds, -d, -slice and -idle must be more than nothing")
	case s.Split && runtime.NumCPU() < 2:
		return errors.New("compare: one CPU can't be split: -split=false")
	}
	return nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func numbers(text string) (all []int, err error) {
	for _, field := range list(text) {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("compare: %q is no count", field)
		}
		all = append(all, n)
	}
	return all, nil
}

func run(args []string) error {
	settings, err := parse(args)
	if err != nil {
		return err
	}
	if err := raiseFileLimit(settings); err != nil {
		return err
	}
	bench, err := newBench(settings)
	if err != nil {
		return err
	}
	defer bench.close()
	result := Result{Machine: thisMachine(), Settings: settings, Servers: bench.about(),
		ServerCPUs: bench.serverWidth(), GeneratorCPUs: bench.generators()}
	if slices.Contains(settings.What, "echo") {
		if result.Echo, err = bench.echo(); err != nil {
			return err
		}
	}
	if slices.Contains(settings.What, "idle") {
		if result.Idle, err = bench.idle(); err != nil {
			return err
		}
	}
	return result.write(settings)
}

// write makes the files that were asked for.
func (r *Result) write(s *Settings) error {
	if s.jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.jsonFile, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if s.plotDir != "" {
		if err := os.MkdirAll(s.plotDir, 0o755); err != nil {
			return err
		}
		var err error
		if r.pictures, err = r.plots(); err != nil {
			return err
		}
	}
	var report bytes.Buffer
	if err := r.Markdown(&report); err != nil {
		return err
	}
	if s.markdownFile == "" {
		_, err := os.Stdout.Write(report.Bytes())
		return err
	}
	return os.WriteFile(s.markdownFile, report.Bytes(), 0o644)
}

// otherFiles is how many descriptors this process and a server need beside the connections.
const otherFiles = 256

// raiseFileLimit makes room for the connections: the generator has one descriptor for each, and so has the server, which inherits the limit. Where the limit can't
// be raised so far, fewer idle connections are measured: the report says how many.
func raiseFileLimit(s *Settings) error {
	inEcho := slices.Max(append(s.Conns, 0)) * len(s.Servers) // All servers' connections are open at a time.
	need := uint64(max(inEcho, s.Idle+held) + otherFiles)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= need {
		return nil
	}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: max(limit.Max, need)})
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		return err
	}
	room := int(limit.Max) - otherFiles
	s.Idle = min(s.Idle, room-held)
	if inEcho > room || s.Idle < 1 {
		return fmt.Errorf("compare: %d connections are too many for %d open files: raise the hard limit (ulimit -Hn)", inEcho, limit.Max)
	}
	return nil
}
