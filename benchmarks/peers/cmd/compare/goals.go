//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// What Whorl is meant to reach, as ratios within a run. Where several of Whorl's styles do a work,
// each has to.

// finding is what was measured of a goal.
type finding struct {
	work, goal string
	who        string
	measured   string
	verdict    string
}

const (
	met      = "met"
	missed   = "**missed**"
	unknown  = "not measured"
	metSoFar = "met so far"
	fewer    = "fewer in this run" // because of -idle, or of the limit of open files
)

// verdict is for what was measured.
func verdict(ok bool) string {
	if ok {
		return met
	}
	return missed
}

// unmeasured is for what can't be told from this run.
func unmeasured(work, goal string) finding {
	return finding{work: work, goal: goal, who: "–", measured: "–", verdict: unknown}
}

// limit is a goal for the ratio of a row to another one, both of which took turns.
type limit struct {
	work    string
	of, to  func(r *Result) Case
	ours    []string // whose rows
	other   string   // whose row they are compared with; "": their own; or bestRival
	most    float64  // of the CPU time, unless least is set
	least   float64  // of what is done per CPU time
	against string   // how the goal calls it
}

func (r *Result) writeGoals(w io.Writer) {
	var all []finding
	for _, l := range append(limits(), r.webSocketLimits()...) {
		all = append(all, l.findings(r)...)
	}
	all = append(all, r.growth()...)
	all = append(all, r.idleGoals()...)
	all = append(all, r.webSocketIdleGoals()...)
	all = append(all, r.manyTLS())
	if !slices.ContainsFunc(all, func(f finding) bool { return f.verdict != unknown }) {
		return
	}
	fmt.Fprint(w,
		"\n## Goals\n\nA ratio comes with the bounds of the middle half of its turns; what "+
			"counts is the median.\n\n| Work | Goal | Who | Measured | |\n|---|---|---|--:|---|\n")
	for _, f := range all {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", f.work, f.goal, f.who, f.measured, f.verdict)
	}
}

// client returns the case of a client's work, which has to be one of those that were measured.
func client(work clients.Work, conns int) func(*Result) Case {
	return func(r *Result) Case {
		for _, group := range r.Settings.clientCases() {
			for _, c := range group {
				if c.Work == work && (conns == 0 || c.Conns == conns) && c.SlowBy == 0 &&
					!c.AllCPUs {
					return c
				}
			}
		}
		return Case{Work: work, Conns: conns}
	}
}

func limits() []limit {
	both := []string{"whorl", "whorl-async"}
	trips := client(clients.RoundTrip, 1000)
	same := func(work, against, other string, most float64, ours []string,
		c func(*Result) Case) limit {
		return limit{work: work, of: c, to: c, ours: ours, other: other, most: most,
			against: against}
	}
	all := []limit{
		same("64 B round trips, 1000 connections, client", "raw epoll in C", "c-epoll", 1.15, both,
			trips),
		same("64 B round trips, 1000 connections, client", "net", "net", 0.85, both, trips),
	}
	for _, conns := range patients {
		work := fmt.Sprintf("64 B round trips, %s, a server that takes %v for each",
			report.Plural(int64(conns), "connection"), slowBy)
		all = append(all, same(work, "net", "net", 1, both, func(*Result) Case {
			return Case{Work: clients.RoundTrip, Size: 64, Conns: conns, SlowBy: slowBy}
		}))
	}
	for _, conns := range floods {
		work := "EOF packets of 100 B, " + report.Plural(int64(conns), "connection") +
			", on all CPUs"
		all = append(all, same(work, "bufio of 64 KiB over net", "net", 1, both,
			func(*Result) Case {
				return Case{Work: clients.EOF, Size: eofSize, Conns: conns, AllCPUs: true}
			}))
	}
	for _, conns := range floods {
		work := "EOF packets of 100 B, " + report.Plural(int64(conns), "connection")
		all = append(all, same(work, "bufio of 64 KiB over net", "net", 1, both,
			client(clients.EOF, conns)))
	}
	for _, conns := range floods {
		work := "length packets of 4 KiB, " + report.Plural(int64(conns), "connection")
		all = append(all, same(work, "bufio of 64 KiB over net", "net-bufio", 1, both,
			client(clients.Length, conns)))
	}
	// These go by what is done in a time, not by the time that it takes.
	rate := func(work, against, other string, ours []string, c func(*Result) Case) limit {
		return limit{work: work, of: c, to: c, ours: ours, other: other, least: 1, against: against}
	}
	server := func(*Result) Case { return Case{Work: echoWork, Size: 64, Conns: 1000} }
	compacted := []string{"whorl-compact", "whorl-async-compact"}
	secure := append(both, compacted...)
	full, resumed := client(clients.Full, 0), client(clients.Resumed, 0)
	return append(all,
		rate("echo server, 64 B, 1000 connections, messages per CPU time", "gnet", "gnet",
			[]string{"whorl", "whorl-co"}, server),
		same("full TLS 1.3 handshake, client", "crypto/tls over net", "net", 0.85, both, full),
		limit{work: "resumed handshake, client", of: resumed, to: full, ours: both, most: 0.5,
			against: "a full one"},
		rate("TLS bulk, sending, bytes per CPU time", "crypto/tls over net", "net", secure,
			client(clients.Send, 0)),
		rate("TLS bulk, receiving, bytes per CPU time", "crypto/tls over net", "net", secure,
			client(clients.Receive, 0)),
		rate("TLS, 1 KiB round trips, client, messages per CPU time", "crypto/tls over net", "net",
			compacted, func(*Result) Case { return messages }),
		same("connect, plain", "net.Dial in goroutines", "net", 0.8, both,
			client(clients.Connect, 0)))
}

// bestRival stands for the cheapest of those that Whorl can lose to.
const bestRival = "*"

func best(rows []*row) *row {
	if i := slices.IndexFunc(rows, func(row *row) bool { return isRival(row.name) }); i >= 0 {
		return rows[i] // the cheapest is first
	}
	return nil
}

func (l limit) findings(r *Result) (all []finding) {
	_, rows := r.rows()
	goal := fmt.Sprintf("≤ %.2f × %s", l.most, l.against)
	if l.least > 0 {
		goal = fmt.Sprintf("≥ %.2f × %s", l.least, l.against)
	}
	for _, who := range l.ours {
		other := l.other
		if other == "" {
			other = who
		}
		row, ref := named(rows[l.of(r)], who), named(rows[l.to(r)], other)
		if other == bestRival {
			ref = best(rows[l.to(r)])
		}
		if row == nil || ref == nil {
			continue
		}
		goal := goal
		if other == bestRival {
			goal = fmt.Sprintf("%s, which is %s", goal, ref.name)
		}
		ratio := row.against(ref)
		ok := ratio.Median <= l.most
		if l.least > 0 {
			ratio = ratio.Inverse()
			ok = ratio.Median >= l.least
		}
		all = append(all, finding{work: l.work, goal: goal, who: who, measured: ratio.String(),
			verdict: verdict(ok)})
	}
	if len(all) == 0 {
		all = []finding{unmeasured(l.work, goal)}
	}
	return all
}

// growth is the goal for the cost per message from 1,000 connections to as many as there were.
func (r *Result) growth() (all []finding) {
	const base, most, wanted = 1000, 1.3, 100_000
	conns := slices.Max(append(r.Settings.ClientConns, 0))
	goal := fmt.Sprintf("≤ %.2f × that at %d connections, with %d", most, base, wanted)
	work := "cost per message of round trips, client"
	_, rows := r.rows()
	from, to := rows[client(clients.RoundTrip, base)(r)], rows[client(clients.RoundTrip, conns)(r)]
	for _, row := range to {
		less := named(from, row.name)
		if conns <= base || less == nil || !isOurs(row.name) && row.name != "c-epoll" {
			continue
		}
		ratio := row.against(less)
		f := finding{work: work, goal: goal, who: row.name, measured: fmt.Sprintf("%s with %d",
			ratio, conns), verdict: verdict(ratio.Median <= most)}
		if !isOurs(row.name) {
			f.work, f.goal, f.verdict = work+", for comparison", "–", ""
		} else if f.verdict == met && conns < wanted {
			f.verdict = metSoFar
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		all = []finding{unmeasured(work, goal)}
	}
	return all
}

// idleGoals are those for heap and stack of an idle connection.
func (r *Result) idleGoals() (all []finding) {
	for _, g := range []struct {
		style          string
		server, client string
		plain, tls     float64
		compact        float64
	}{
		{"callback", "whorl", "whorl-async", 600, 7500, 1000},
		{"parked coroutine", "whorl-co", "whorl", 3400, 10500, 4096},
	} {
		for _, kind := range []struct {
			suffix string // of the names
			text   string
			tls    bool
			most   float64
		}{
			{"", transport(false), false, g.plain},
			{"", transport(true), true, g.tls},
			{compactSuffix, transport(true) + ", compact", true, g.compact},
		} {
			most, tls := kind.most, kind.tls
			server, client := g.server+kind.suffix, g.client+kind.suffix
			f := unmeasured(fmt.Sprintf("idle, %s, %s", g.style, kind.text),
				fmt.Sprintf("≤ %.0f B of heap and stack", most))
			before := len(all)
			for _, rows := range r.idleRows() {
				for _, row := range rows {
					if !row.WebSocket && row.TLS == tls && (!row.Client && row.name == server ||
						row.Client && row.name == client) {
						f.who = fmt.Sprintf("%s (%s)", row.name,
							map[bool]string{false: "server", true: "client"}[row.Client])
						f.measured, f.verdict = fmt.Sprintf("%.0f B", row.used()),
							verdict(row.used() <= most)
						all = append(all, f)
					}
				}
			}
			if len(all) == before {
				all = append(all, f)
			}
		}
	}
	return all
}

// compactSuffix is how the names of those of Whorl's end that have CompactTLS.
const compactSuffix = "-compact"

// manyTLS is the goal of 100,000 TLS connections in a process: what is told is the run with the
// most.
func (r *Result) manyTLS() finding {
	const wanted = 100_000
	f := unmeasured("TLS connections opened and held in one process", fmt.Sprint(wanted))
	var most *idleRow
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			if row.TLS && !row.WebSocket && isOurs(row.name) && (most == nil ||
				row.conns > most.conns || row.conns == most.conns && row.Client && !most.Client) {
				most = row
			}
		}
	}
	if most == nil {
		return f
	}
	f.who = most.name
	f.measured = fmt.Sprintf("%d in %.1f s with %.1f s of CPU, %.0f MB resident", most.conns,
		most.seconds, most.cpu, most.rss*float64(most.conns)/1e6)
	f.verdict = met
	if most.conns < wanted {
		f.verdict = fewer
	}
	return f
}
