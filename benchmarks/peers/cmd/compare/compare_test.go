//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// The test's own program is the server's process, as compare is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && children[os.Args[1]] != nil {
		if err := start(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestAWholeRun(t *testing.T) {
	dir := t.TempDir()
	jsonFile, markdownFile := filepath.Join(dir, "result.json"), filepath.Join(dir, "result.md")
	err := run([]string{
		"-what", "echo,idle,client,client-idle,websocket", "-servers", "gnet,net,net", "-clients",
		"whorl,whorl-async-compact,net", "-conns", "20", "-client-conns", "20", "-size", "64",
		"-tls",
		"-websockets", "whorl,whorl-compact,gorilla", "-websocket-conns", "20",
		"-websocket-members", "20", "-rounds", "1", "-d", "100ms", "-slice", "50ms", "-idle", "50",
		"-split=false", "-json",
		jsonFile, "-md", markdownFile, "-plot", filepath.Join(dir, "plots"),
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var result Result
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	// Two turns each: of the servers in plaintext all three and over TLS those of net, of the
	// clients whorl and net in 13 cases and the compact one in two of TLS, of the WebSocket servers
	// two in six and the compact one in none.
	turns := 2 * (3 + 2 + 2*13 + 2 + 2*6)
	if idle := 3 + 2 + 2 + 3 + 2 + 2 + 3; len(result.Samples) != turns || len(result.Idle) != idle {
		t.Errorf("%d samples, not %d, and %d of idle connections, not %d", len(result.Samples),
			turns, len(result.Idle), idle)
	}
	for _, s := range result.Samples {
		if s.Messages == 0 || s.CPU <= 0 || s.Seconds < 0.05 || s.OtherSide < 0 {
			t.Errorf("nothing was measured: %+v", s)
		}
	}
	report, err := os.ReadFile(markdownFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### plaintext, 64 B", "### TLS, 64 B", "| 20 | net (2) |",
		"| idle server, TLS | net (2) |", "| idle client, TLS | whorl |", "- gnet: gnet",
		"](plots/echo-TLS-64.svg)",
		"### 64 B round trips", "### 64 B round trips, a server that takes 15µs for each",
		"### Full TLS 1.3 handshake",
		"| connect, plain | ≤ 0.80 × net.Dial in goroutines | whorl |",
		"](plots/client-ratios.svg)",
		"### WebSocket echo, 1 KiB of JSON, permessage-deflate", "### WebSocket handshake",
		"| 20 | gorilla |", "| idle WebSocket server, TLS | whorl |", "- gorilla: gorilla/websocket",
		"| WebSocket handshake, 50 connections | ≤ 1.00 × gorilla over net/http | whorl |",
	} {
		if !strings.Contains(string(report), want) {
			t.Errorf("%q isn't in the report:\n%s", want, report)
		}
	}
	for _, picture := range []string{"echo-plaintext-64.svg", "echo-TLS-64.svg",
		"client-plaintext-64.svg", "client-ratios.svg"} {
		if text, err := os.ReadFile(filepath.Join(dir, "plots", picture)); err != nil ||
			!strings.Contains(string(text), "<svg") {
			t.Errorf("%s is no picture: %v", picture, err)
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, args := range [][]string{
		{"-servers", "apache"}, {"-clients", "curl"}, {"-client-conns", "none"}, {"-what", "http"},
		{"-conns", "0"}, {"-size", "many"}, {"-rounds", "0"}, {"-d", "0s"}, {"-idle", "0"},
		{"rest"}, {"-size", "0"}, {"-websockets", "apache"}, {"-websocket-conns", "0"},
		{"-websocket-work", "dance"},
		{"-websocket-members", "0"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

// A turn in which the machine was slow makes both slow, and leaves the ratio as it is.
func TestRatiosAreWithinATurn(t *testing.T) {
	got := report.SpreadOf(ratios(map[turn]float64{{0, 0}: 10, {0, 1}: 100, {1, 0}: 20, {1, 1}: 5},
		map[turn]float64{{0, 0}: 20, {0, 1}: 200, {1, 0}: 40}))
	if want := (report.Spread{Median: 0.5, Lower: 0.5, Upper: 0.5}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
}

// sampled makes a round's sample of a server that takes cpu nanoseconds per message.
func sampled(server string, round int, cpu int64) Sample {
	return Sample{Case: Case{Work: echoWork, Size: 64, Conns: 10}, Name: server, Round: round,
		Seconds: 2, Messages: 1000, CPU: 1000 * cpu, User: 250, System: 750,
		Sleeps: 100, Syscalls: 2}
}

func memory(heap, stack uint64) proc.Memory {
	return proc.Memory{Heap: heap, Stack: stack, RSS: heap + stack}
}

// reported returns the report of a run.
func reported(t *testing.T, r *Result) string {
	t.Helper()
	var text strings.Builder
	if err := r.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestTheReportSaysFirstWhereWhorlLoses(t *testing.T) {
	r := Result{Settings: &Settings{Against: []string{"absent", "gnet", "net"}, Rounds: 3}, CPUs: 1,
		GeneratorCPUs: 1}
	for round := range 3 {
		factor := int64(1 + round)
		r.Samples = append(r.Samples, sampled("net", round, 9000*factor),
			sampled("gnet", round, 8000*factor), sampled("whorl-callback", round, 6000*factor),
			sampled("whorl-coroutine", round, 10000*factor), sampled("c-epoll", round, 5000*factor))
	}
	r.Idle = []IdleSample{
		{Name: "net", Conns: 10, Before: memory(1000, 500), After: memory(51000, 20500)},
		{Name: "whorl-callback", Conns: 10, After: memory(5000, 0)},
		{Name: "whorl-coroutine", Conns: 10, After: memory(40000, 50000)},
	}
	text := reported(t, &r)
	for _, want := range []string{
		"- Echo server, plaintext, 64 B, 10 connections: **whorl-coroutine** takes 1.25 × the " +
			"CPU of gnet (middle half 1.25 to 1.25), 1.11 × the CPU of net (middle half 1.11 to " +
			"1.11).\n",
		"| 10 | whorl-callback | 12.0µs | 75 % | 0.75 (0.75–0.75) | 500 | 2 | 0.100 |",
		"| 10 | gnet | 16.0µs | 75 % | 1 |",
		"- Idle server, plaintext: **whorl-coroutine** takes 9000 bytes of heap and stack for a " +
			"connection, net 7000.\n",
		"| idle server, plaintext | net | 10 | 5000 | 2000 | 7000 | 7000 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the report:\n%s", want, text)
		}
	}
	if strings.Contains(text, "**whorl-callback**") || strings.Contains(text, "c-epoll (middle") {
		t.Error("what wins, or can't be beaten, is said to lose")
	}
	if strings.Index(text, "Where Whorl loses") > strings.Index(text, "## Servers: CPU") {
		t.Error("the losses don't come first")
	}
	r.Samples, r.Idle = r.Samples[:2], nil
	if text := reported(t, &r); strings.Contains(text, "Whorl loses") ||
		strings.Contains(text, "## Goals") {
		t.Errorf("Whorl took no part:\n%s", text)
	}
}

// did is what a client did in a turn.
func did(c Case, name string, cpu int64) Sample {
	return Sample{Case: c, Name: name, Seconds: 1, Messages: 10, CPU: 10 * cpu}
}

func TestGoalsAreToldFromTheRatios(t *testing.T) {
	r := Result{Settings: &Settings{Plain: true, TLS: true, ClientConns: []int{1000, 10000},
		Rounds: 1}, CPUs: 1, GeneratorCPUs: 1}
	trips := Case{Work: clients.RoundTrip, Size: 64, Conns: 1000}
	more := Case{Work: clients.RoundTrip, Size: 64, Conns: 10000}
	full, resumed := Case{Work: clients.Full, TLS: true, Conns: many},
		Case{Work: clients.Resumed, TLS: true, Conns: many}
	send := Case{Work: clients.Send, TLS: true, Size: recordSize, Conns: bulk}
	server := Case{Work: echoWork, Size: 64, Conns: 1000}
	r.Samples = []Sample{
		did(trips, "c-epoll", 1000), did(trips, "net", 2000), did(trips, "whorl", 1200),
		did(trips, "whorl-async", 1100), did(more, "whorl", 1800),
		did(more, "whorl-async", 1210),
		did(full, "net", 100), did(full, "whorl", 80), did(resumed, "whorl", 50),
		did(send, "net", 90), did(send, "whorl", 100), did(messages, "net", 110),
		did(messages, "whorl-compact", 100),
		did(server, "gnet", 12), did(server, "whorl", 10),
	}
	r.Idle = []IdleSample{
		{Name: "whorl-async", idleKind: idleKind{Client: true}, Conns: 10, After: memory(6000, 0)},
		{Name: "whorl-co", Conns: 10, After: memory(4000, 40000)},
		{Name: "whorl", idleKind: idleKind{Client: true, TLS: true}, Conns: 200_000,
			After: memory(1000, 0)},
		{Name: "whorl-async-compact", idleKind: idleKind{Client: true, TLS: true}, Conns: 10,
			After: memory(9000, 0)},
	}
	text := reported(t, &r)
	for _, want := range []string{
		"| ≤ 1.15 × raw epoll in C | whorl | 1.20 (1.20–1.20) | **missed** |",
		"| ≤ 1.15 × raw epoll in C | whorl-async | 1.10 (1.10–1.10) | met |",
		"| ≤ 0.85 × net | whorl | 0.60 (0.60–0.60) | met |",
		"| ≤ 0.85 × crypto/tls over net | whorl | 0.80 (0.80–0.80) | met |",
		"| ≤ 0.50 × a full one | whorl | 0.62 (0.62–0.62) | **missed** |",
		"| ≥ 1.00 × crypto/tls over net | whorl | 0.90 (0.90–0.90) | **missed** |",
		"| ≥ 1.00 × gnet | whorl | 1.20 (1.20–1.20) | met |",
		"| whorl | 1.50 (1.50–1.50) with 10000 | **missed** |",
		"| whorl-async | 1.10 (1.10–1.10) with 10000 | met so far |",
		"| connect, plain | ≤ 0.80 × net.Dial in goroutines | – | – | not measured |",
		"| idle, callback, plaintext | ≤ 600 B of heap and stack | whorl-async (client) | 600 B " +
			"| met |",
		"| idle, parked coroutine, plaintext | ≤ 3400 B of heap and stack | whorl-co (server) | " +
			"4400 B | **missed** |",
		"| TLS, 1 KiB round trips, client, messages per CPU time | ≥ 1.00 × crypto/tls over net | " +
			"whorl-compact | 1.10 (1.10–1.10) | met |",
		"| idle, callback, TLS, compact | ≤ 1000 B of heap and stack | whorl-async-compact " +
			"(client) | 900 B | met |",
		"| TLS connections opened and held in one process | 100000 | whorl | 200000 in 0.0 s " +
			"with 0.0 s of CPU, 0 MB resident | met |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the report:\n%s", want, text)
		}
	}
}

// The goal is the cheapest of the others, not what shows the kernel's limit.
func TestWebSocketGoalsAreToldFromTheBestOfTheOthers(t *testing.T) {
	r := Result{Settings: &Settings{Plain: true, TLS: true, Rounds: 1, WebSocketConns: 1000,
		WebSocketMembers: 10000}, CPUs: 1, GeneratorCPUs: 1}
	echo := Case{Work: webSocketEcho, Size: 64, Conns: 1000}
	cast := Case{Work: webSocketBroadcast, Size: 64, Conns: 10000, Burst: 1}
	r.Samples = []Sample{
		did(echo, "raw", 50), did(echo, "whorl", 85), did(echo, "gws", 100), did(echo, "nbio", 90),
		did(cast, "raw", 50), did(cast, "whorl", 75), did(cast, "gws", 100),
	}
	websocket, wss := idleKind{WebSocket: true}, idleKind{WebSocket: true, TLS: true}
	r.Idle = []IdleSample{
		{Name: "whorl", Conns: 10, After: memory(5000, 0)},
		{Name: "whorl", idleKind: idleKind{TLS: true}, Conns: 10, After: memory(70000, 0)},
		{Name: "whorl", idleKind: websocket, Conns: 10, After: memory(8100, 0)},
		{Name: "whorl", idleKind: wss, Conns: 10, After: memory(73000, 0)},
		{Name: "whorl-compact", idleKind: wss, Conns: 10, After: memory(17000, 0)},
	}
	text := reported(t, &r)
	for _, want := range []string{
		"| WebSocket echo, 64 B, 1,000 connections | ≤ 0.90 × the best of the others, which is " +
			"nbio | whorl | 0.94 (0.94–0.94) | **missed** |",
		"| ≤ 0.80 × gws's Broadcaster | whorl | 0.75 (0.75–0.75) | met |",
		"| ≤ 2.00 × one write(2) each | whorl | 1.50 (1.50–1.50) | met |",
		"| idle WebSocket server, plaintext | ≤ 800 B of heap and stack | whorl | 810 B | " +
			"**missed** |",
		"| idle WebSocket server, TLS | ≤ plaintext, and what TLS takes without WebSocket | " +
			"whorl | 7300 B | met |",
		"| idle WebSocket server, TLS, compact | ≤ 1600 B of heap and stack | whorl-compact | " +
			"1700 B | **missed** |",
		"| idle WebSocket server, plaintext, permessage-deflate | ≤ 800 B of heap and stack | – |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the report:\n%s", want, text)
		}
	}
}

// What is compared with net is in the way that its users would write it if they knew better.
func TestPacketsWithALengthAreComparedWithBufio(t *testing.T) {
	r := Result{Settings: &Settings{Plain: true, Rounds: 1}, CPUs: 1, GeneratorCPUs: 1}
	length := Case{Work: clients.Length, Size: lengthSize, Conns: 1}
	r.Samples = []Sample{did(length, "net", 4000), did(length, "net-bufio", 1000),
		did(length, "whorl", 800)}
	text := reported(t, &r)
	for _, want := range []string{
		"| length packets of 4 KiB, 1 connection | ≤ 1.00 × bufio of 64 KiB over net | whorl | " +
			"0.80 (0.80–0.80) | met |",
		"| 1 | net | 4.00µs | 100 % | 4.00 (4.00–4.00) |", "| 1 | net-bufio | 1.00µs | 100 % | 1 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the report:\n%s", want, text)
		}
	}
}

// What needs all CPUs, and what waits for its server, is measured beside the rest.
func TestCasesBesideTheSaturatedClientOnOneCPU(t *testing.T) {
	s := &Settings{Plain: true, Split: true}
	for _, want := range []Case{
		{Work: clients.EOF, Size: eofSize, Conns: 1, AllCPUs: true},
		{Work: clients.EOF, Size: eofSize, Conns: 10, AllCPUs: true},
		{Work: clients.RoundTrip, Size: 64, Conns: 100, SlowBy: slowBy},
		{Work: clients.RoundTrip, Size: 64, Conns: 1000, SlowBy: slowBy},
	} {
		if !slices.ContainsFunc(s.clientCases(),
			func(group []Case) bool { return slices.Contains(group, want) }) {
			t.Errorf("%v isn't measured", want)
		}
	}
	r := Result{Settings: s, CPUs: 1, GeneratorCPUs: 1}
	r.Machine.Processors = 4
	// 2 s of CPU in 1 s
	all := did(Case{Work: clients.EOF, Size: eofSize, Conns: 1, AllCPUs: true}, "net", 2e8)
	r.Samples = []Sample{all}
	if text := reported(t, &r); !strings.Contains(text, "### EOF packets of 100 B, on all CPUs") ||
		!strings.Contains(text, "| 50 % |") {
		t.Errorf("half of four CPUs was used:\n%s", text)
	}
}

func TestPeersAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range echo.Peers {
		if seen[p.Name] || p.About == "" || !p.Plain && !p.TLS ||
			(p.Serve == nil) == (p.Build == nil) {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if found, err := echo.Find(p.Name); err != nil || found.About != p.About {
			t.Errorf("%s isn't found: %v", p.Name, err)
		}
	}
}
