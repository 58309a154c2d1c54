//go:build linux

// Command compare measures servers beside each other, and clients: the CPU time that each needs per
// message, and the memory that an idle connection costs.
//
//	go run ./cmd/compare -what echo,idle,client,client-idle,websocket -tls -rounds 5 -d 1s \
//		-md results.md -json results.json -plot plots
//
// Each server and each client runs in a process of its own (this program, started again), and all
// have the same other side. They take short turns, so that what else the machine does meets all of
// them; figures are medians of the turns, ratios medians of the ratios of neighbouring turns. One
// that is named twice shows how large a difference has to be to mean anything: -servers
// gnet,gnet,net. Run with -h for the options.
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
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/benchmarks/peers/websockets"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// What makes this program a server's process, a client's, and that of a client's other side.
const (
	serveCommand  = "serve"
	clientCommand = "client"
	farCommand    = "far"
	loadCommand   = "load" // for a server
	// A WebSocket server's, and its load generator's.
	webSocketCommand     = "websocket"
	webSocketLoadCommand = "websocket-load"
)

// children are the processes that this program can be.
var children = map[string]func(config []byte, c *child.Control) error{
	serveCommand: func(config []byte, c *child.Control) error {
		return echo.Serve(config, c.Listening)
	},
	clientCommand: clients.Serve,
	farCommand:    otherside.ServeFar,
	loadCommand:   otherside.ServeGenerator,
	webSocketCommand: func(config []byte, c *child.Control) error {
		return websockets.Serve(config, c.Listening)
	},
	webSocketLoadCommand: otherside.ServeWebSocket,
}

func main() {
	if err := start(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func start(args []string) error {
	if len(args) == 1 && children[args[0]] != nil {
		return child.Serve(children[args[0]])
	}
	return run(args)
}

// Settings are what the user chose.
type Settings struct {
	What    []string `json:"what"`    // the kinds of work
	Servers []string `json:"servers"` // names of contestants
	Clients []string `json:"clients"` // names of contestants
	// WebSockets are names of contestants, too.
	WebSockets []string `json:"websockets"`
	// servers' ratios are against the first of these that takes part, clients' against net
	Against []string `json:"against"`
	Conns   []int    `json:"conns"` // how many connections the servers have, one after the other
	// ClientConns is how many connections the clients have in their round trips.
	ClientConns []int `json:"client_conns"`
	// WebSocketWork is what is measured of WebSocket servers.
	WebSocketWork []string `json:"websocket_work"`
	// WebSocketConns is how many connections the WebSocket servers have in their echo, and
	// WebSocketMembers in their broadcasts.
	WebSocketConns   int `json:"websocket_conns"`
	WebSocketMembers int `json:"websocket_members"`

	Sizes    []int         `json:"sizes_bytes"` // bytes
	Plain    bool          `json:"plain"`       // whether there are turns in plaintext
	TLS      bool          `json:"tls"`         // and over TLS
	Rounds   int           `json:"rounds"`      // how many turns each has
	Interval time.Duration `json:"interval_ns"` // how long a turn is
	Slice    time.Duration `json:"slice_ns"`    // how long a server's turn is within a round
	Idle     int           `json:"idle_conns"`  // how many idle connections are opened
	// IdleRounds is less than Rounds: what memory a connection takes hardly varies, and opening
	// very many over TLS takes long.
	IdleRounds int `json:"idle_rounds"`
	// Split gives the generator and the server CPUs of their own.
	Split bool `json:"split_cpus"`

	jsonFile, markdownFile, plotDir string
}

func parse(args []string) (*Settings, error) {
	s := &Settings{}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	what := flags.String("what", "echo", "what to measure: "+strings.Join(measurements, ", "))
	servers := flags.String("servers", strings.Join(echo.Names(), ","),
		"which servers; one that is named twice is measured twice")
	clientNames := flags.String("clients", strings.Join(clients.Names(), ","),
		"which clients; one that is named twice is measured twice")
	webSockets := flags.String("websockets", strings.Join(websockets.Names(), ","),
		"which WebSocket servers; one that is named twice is measured twice")
	webSocketWork := flags.String("websocket-work", strings.Join(webSocketWorks, ","),
		"what to measure of WebSocket servers")
	flags.IntVar(&s.WebSocketConns, "websocket-conns", 1000, "connections, for WebSocket's echo")
	flags.IntVar(&s.WebSocketMembers, "websocket-members", 10000,
		"connections, for WebSocket's broadcasts")
	against := flags.String("against", "gnet,net",
		"servers' ratios are against the first of these that takes part")
	conns := flags.String("conns", "1,10,100,1000", "connections, for echo")
	clientConns := flags.String("client-conns", "1,100,1000,10000",
		"connections, for the clients' round trips")
	sizes := flags.String("size", "64,16384", "bytes per message, for echo")
	flags.BoolVar(&s.Plain, "plain", true, "measure plaintext")
	flags.BoolVar(&s.TLS, "tls", false, "measure TLS too")
	flags.IntVar(&s.Rounds, "rounds", 5, "rounds, each with new processes")
	flags.DurationVar(&s.Interval, "d", 2*time.Second,
		"time that each server and client is measured in a round")
	flags.DurationVar(&s.Slice, "slice", 200*time.Millisecond,
		"length of a turn: within a round they take turns until each was measured for -d")
	flags.IntVar(&s.Idle, "idle", 20000, "connections, for idle")
	flags.IntVar(&s.IdleRounds, "idle-rounds", 1, "rounds, for idle")
	flags.BoolVar(&s.Split, "split", true,
		"give what is measured and its other side CPUs of their own, half of them each")
	flags.StringVar(&s.jsonFile, "json", "", "write every sample to this file")
	flags.StringVar(&s.markdownFile, "md", "",
		"write the report to this file instead of standard output")
	flags.StringVar(&s.plotDir, "plot", "",
		"draw echo's figures as SVG files in this directory, which the report shows")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	s.What, s.Servers, s.Clients, s.Against = list(*what), list(*servers), list(*clientNames),
		list(*against)
	s.WebSockets, s.WebSocketWork = list(*webSockets), list(*webSocketWork)
	var errConns, errClientConns, errSizes error
	s.Conns, errConns = numbers(*conns)
	s.ClientConns, errClientConns = numbers(*clientConns)
	s.Sizes, errSizes = numbers(*sizes)
	if err := errors.Join(errConns, errClientConns, errSizes); err != nil {
		return nil, err
	}
	return s, s.check(flags.Args())
}

func (s *Settings) check(rest []string) error {
	for _, what := range s.What {
		if !slices.Contains(measurements, what) {
			return fmt.Errorf("compare: -what %s: none of %v", what, measurements)
		}
	}
	for _, name := range s.Clients {
		if _, err := clients.Find(name); err != nil {
			return err
		}
	}
	for _, name := range s.Servers {
		if _, err := echo.Find(name); err != nil {
			return err
		}
	}
	for _, name := range s.WebSockets {
		if _, err := websockets.Find(name); err != nil {
			return err
		}
	}
	for _, work := range s.WebSocketWork {
		if !slices.Contains(webSocketWorks, work) {
			return fmt.Errorf("compare: -websocket-work %s: none of %v", work, webSocketWorks)
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("compare: %q is no option", rest[0])
	case s.Rounds < 1 || s.IdleRounds < 1 || s.Interval <= 0 || s.Slice <= 0 || s.Idle < 1:
		return errors.New("compare: -rounds, -idle-rounds, -d, -slice and -idle must be more " +
			"than nothing")
	case s.WebSocketConns < 1 || s.WebSocketMembers < 1:
		return errors.New("compare: -websocket-conns and -websocket-members must be more than " +
			"nothing")
	case s.Split && runtime.NumCPU() < 2:
		return errors.New("compare: one CPU can't be split: -split=false")
	}
	return nil
}

// measurements are what there is to measure.
var measurements = []string{"echo", "idle", "client", "client-idle", "websocket"}

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
	result := Result{Machine: report.ThisMachine(), Started: time.Now().UTC().Truncate(time.Second),
		Settings: settings, CPUs: bench.width(), GeneratorCPUs: bench.generators()}
	bench.about(&result)
	for i, measure := range []func(*Result) error{bench.echo, bench.idle, bench.clients,
		bench.idleClients, bench.webSockets} {
		if slices.Contains(settings.What, measurements[i]) {
			if err := measure(&result); err != nil {
				return err
			}
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

// otherFiles is how many descriptors a process needs beside the connections.
const otherFiles = 256

// raiseFileLimit makes room for the connections, for the processes that are started and inherit it.
// Where it can't be raised so far, there are fewer idle connections, and fewer in the clients'
// round trips: the report says how many.
func raiseFileLimit(s *Settings) error {
	inEcho := 0
	if slices.Contains(s.What, "echo") {
		inEcho = slices.Max(append(s.Conns, 0))
	}
	if slices.Contains(s.What, "websocket") {
		inEcho = max(inEcho, s.WebSocketConns, s.WebSocketMembers)
	}
	need := uint64(max(inEcho, s.Idle+held, slices.Max(append(s.ClientConns, 0))) + otherFiles)
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
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE,
		&unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		return err
	}
	room := int(limit.Max) - otherFiles
	s.Idle = min(s.Idle, room-held)
	for i, conns := range s.ClientConns {
		s.ClientConns[i] = min(conns, room)
	}
	s.ClientConns = slices.Compact(s.ClientConns)
	if inEcho > room || s.Idle < 1 {
		return fmt.Errorf("compare: %d connections are too many for %d open files: raise the "+
			"hard limit (ulimit -Hn)", inEcho, limit.Max)
	}
	return nil
}
