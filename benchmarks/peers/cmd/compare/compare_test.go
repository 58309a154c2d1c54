//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
)

// The test's own program is the server's process, as compare is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveCommand {
		if err := child.Serve(); err != nil {
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
		"-what", "echo,idle", "-servers", "gnet,net,net", "-conns", "1,20", "-size", "64", "-tls", "-rounds", "2", "-d", "200ms", "-slice", "100ms", "-idle", "50",
		"-split=false", "-json", jsonFile, "-md", markdownFile, "-plot", filepath.Join(dir, "plots"),
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
	// Two turns in two rounds of two cases: plaintext for all three, TLS for those of net. A machine that is very busy may skip some turns.
	if most := 2 * 2 * 2 * (3 + 2); len(result.Echo) > most || len(result.Echo) < most/2 || len(result.Idle) != 3+2 {
		t.Errorf("%d samples of echo, %d of idle", len(result.Echo), len(result.Idle))
	}
	for _, s := range result.Echo {
		if s.Messages == 0 || s.CPU <= 0 || s.Seconds < 0.1 || s.Generator <= 0 {
			t.Errorf("nothing was measured: %+v", s)
		}
	}
	report, err := os.ReadFile(markdownFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### plaintext, 64 B", "### TLS, 64 B", "| 20 | net (2) |", "| TLS | net (2) |", "- gnet: gnet", "](plots/echo-TLS-64.svg)"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("%q isn't in the report:\n%s", want, report)
		}
	}
	for _, picture := range []string{"echo-plaintext-64.svg", "echo-TLS-64.svg"} {
		if text, err := os.ReadFile(filepath.Join(dir, "plots", picture)); err != nil || !strings.Contains(string(text), "<svg") {
			t.Errorf("%s is no picture: %v", picture, err)
		}
	}
	if strings.Contains(string(report), "Whorl loses") {
		t.Error("the report says where Whorl loses, but it took no part")
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, args := range [][]string{
		{"-servers", "apache"}, {"-what", "http"}, {"-conns", "0"}, {"-size", "many"}, {"-rounds", "0"}, {"-d", "0s"}, {"-idle", "0"}, {"rest"}, {"-size", "4"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 3, 2, 4}, spread{3, 2, 4}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1.75, 3.25}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: %v, not %v", c.values, got, c.want)
		}
	}
}

// A turn in which the machine was slow makes both slow, and leaves the ratio as it is.
func TestRatiosAreWithinATurn(t *testing.T) {
	got := spreadOf(ratios(map[turn]float64{{0, 0}: 10, {0, 1}: 100, {1, 0}: 20, {1, 1}: 5}, map[turn]float64{{0, 0}: 20, {0, 1}: 200, {1, 0}: 40}))
	if want := (spread{0.5, 0.5, 0.5}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
}

// sampled makes a round's sample of a server that takes cpu nanoseconds per message.
func sampled(server string, round int, cpu int64) EchoSample {
	return EchoSample{EchoCase: EchoCase{Size: 64, Conns: 10}, Server: server, Round: round, Seconds: 2, Messages: 1000, CPU: 1000 * cpu, User: 250, System: 750,
		Sleeps: 100, Syscalls: 2}
}

func TestTheReportSaysFirstWhereWhorlLoses(t *testing.T) {
	r := Result{Settings: &Settings{Against: []string{"absent", "gnet", "net"}, Rounds: 3}, ServerCPUs: 1, GeneratorCPUs: 1}
	for round := range 3 {
		factor := int64(1 + round)
		r.Echo = append(r.Echo, sampled("net", round, 9000*factor), sampled("gnet", round, 8000*factor), sampled("whorl-callback", round, 6000*factor),
			sampled("whorl-coroutine", round, 10000*factor))
	}
	memory := func(heap, stack uint64) child.Memory {
		return child.Memory{Heap: heap, Stack: stack, RSS: heap + stack}
	}
	r.Idle = []IdleSample{
		{Server: "net", Conns: 10, Before: memory(1000, 500), After: memory(51000, 20500)},
		{Server: "whorl-callback", Conns: 10, After: memory(5000, 0)},
		{Server: "whorl-coroutine", Conns: 10, After: memory(40000, 50000)},
	}
	var text strings.Builder
	if err := r.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"- Echo, plaintext, 64 B, 10 connections: **whorl-coroutine** takes 1.25 × the CPU of gnet (middle half 1.25 to 1.25).\n",
		"| 10 | whorl-callback | 12.00 | 75 % | 0.75 (0.75–0.75) | 500 | 2.00 | 0.100 |",
		"| 10 | gnet | 16.00 | 75 % | 1 |",
		"- Idle, plaintext: **whorl-coroutine** takes 9000 bytes of heap and stack for a connection, net 7000.\n",
		"| plaintext | net | 5000 | 2000 | 7000 | 7000 |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q isn't in the report:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "**whorl-callback**") {
		t.Error("what wins is said to lose")
	}
	if strings.Index(text.String(), "Where Whorl loses") > strings.Index(text.String(), "## Echo") {
		t.Error("the losses don't come first")
	}
}

func TestPeersAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range echo.Peers {
		if seen[p.Name] || p.About == "" || !p.Plain && !p.TLS || (p.Serve == nil) == (p.Build == nil) {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if found, err := echo.Find(p.Name); err != nil || found.About != p.About {
			t.Errorf("%s isn't found: %v", p.Name, err)
		}
	}
}
