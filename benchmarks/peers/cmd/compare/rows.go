//go:build linux

package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// ours is how the names of Whorl's own servers and clients begin.
const ours = "whorl"

// noRivals take part for other reasons than to be compared with: the limits, and what checks the
// measurement.
var noRivals = []string{"c-epoll", "aes-gcm", "net+2us", "raw"}

func isOurs(name string) bool { return strings.HasPrefix(name, ours) }

// isRival tells whether Whorl can lose to it. One that takes part twice counts once.
func isRival(name string) bool {
	return !isOurs(name) && !slices.Contains(noRivals, name) && !strings.HasSuffix(name, ")")
}

// row is one contestant in one case, over all turns.
type row struct {
	Case
	name         string
	cpu          map[turn]float64 // ns per message
	rate         []float64        // messages per second
	busy         []float64        // the share of its CPUs that it used
	sleeps       []float64        // per message
	syscalls     []float64        // per message
	answer       float64          // bytes, where a server compresses
	user, system int64
}

// rows returns what was measured in each case, in the order in which it was, the cheapest
// contestant first.
func (r *Result) rows() (cases []Case, rows map[Case][]*row) {
	rows = map[Case][]*row{}
	for i := range r.Samples {
		s := &r.Samples[i]
		of := rows[s.Case]
		if len(of) == 0 {
			cases = append(cases, s.Case)
		}
		at := slices.IndexFunc(of, func(row *row) bool { return row.name == s.Name })
		if at < 0 {
			at = len(of)
			of = append(of, &row{Case: s.Case, name: s.Name, cpu: map[turn]float64{}})
			rows[s.Case] = of
		}
		row, messages := of[at], float64(s.Messages)
		row.cpu[turn{s.Round, s.Turn}] = s.nsPerMessage()
		row.rate = append(row.rate, messages/s.Seconds)
		cpus := r.CPUs
		if s.AllCPUs {
			cpus = r.Machine.Processors
		}
		row.busy = append(row.busy, float64(s.CPU)/1e9/s.Seconds/float64(cpus))
		row.sleeps = append(row.sleeps, float64(s.Sleeps)/messages)
		if s.Syscalls > 0 {
			row.syscalls = append(row.syscalls, s.Syscalls)
		}
		row.answer = s.Answer
		row.user += s.User
		row.system += s.System
	}
	for _, of := range rows {
		slices.SortFunc(of, func(a, b *row) int { return cmp.Compare(a.median(), b.median()) })
	}
	return cases, rows
}

func (row *row) median() float64 {
	return report.SpreadOf(slices.Collect(maps.Values(row.cpu))).Median
}

// against is the ratio to another row that took turns with this one.
func (row *row) against(other *row) report.Spread {
	return report.SpreadOf(ratios(row.cpu, other.cpu))
}

// userShare is which part of the CPU time was spent outside of the kernel.
func (row *row) userShare() float64 {
	if row.user+row.system == 0 {
		return 0
	}
	return float64(row.user) / float64(row.user+row.system)
}

// named returns the row of that name, or nil.
func named(rows []*row, name string) *row {
	if i := slices.IndexFunc(rows, func(row *row) bool { return row.name == name }); i >= 0 {
		return rows[i]
	}
	return nil
}

// reference returns the row that the others are compared with, or nil.
func (r *Result) reference(rows []*row) *row {
	if len(rows) == 0 {
		return nil
	}
	against := []string{"net"}
	switch kind := kindOf(rows[0].Case); {
	case kind == aServer:
		against = r.Settings.Against
	case kind == aWebSocket:
		against = webSocketReference
	case rows[0].Work == clients.Length:
		// the better way with net, though not the usual one
		against = []string{"net-bufio", "net"}
	}
	for _, name := range against {
		if row := named(rows, name); row != nil {
			return row
		}
	}
	return nil
}

// idleRow is what an idle connection costs one server or client: medians over the rounds, in bytes.
type idleRow struct {
	idleKind
	name             string
	conns            int
	heap, stack, rss float64
	slab             float64 // the kernel's, for both ends
	seconds, cpu     float64 // to open them all
}

// idleRows are those of servers and of clients, in plaintext and over TLS, the cheapest first.
func (r *Result) idleRows() (groups [][]*idleRow) {
	for _, kind := range idleKinds {
		of := map[string][]IdleSample{}
		for _, s := range r.Idle {
			if s.idleKind == kind {
				of[s.Name] = append(of[s.Name], s)
			}
		}
		var rows []*idleRow
		for name, samples := range of {
			median := func(part func(s *IdleSample) float64) float64 {
				var values []float64
				for i := range samples {
					values = append(values, part(&samples[i]))
				}
				return report.SpreadOf(values).Median
			}
			memory := func(part func(proc.Each) float64) float64 {
				return median(func(s *IdleSample) float64 { return part(s.perConn()) })
			}
			rows = append(rows, &idleRow{
				idleKind: kind, name: name, conns: samples[0].Conns,
				heap:  memory(func(e proc.Each) float64 { return e.Heap }),
				stack: memory(func(e proc.Each) float64 { return e.Stack }),
				rss:   memory(func(e proc.Each) float64 { return e.RSS }),
				slab: median(func(s *IdleSample) float64 {
					return float64(s.Slab) / float64(s.Conns)
				}),
				seconds: median(func(s *IdleSample) float64 { return s.Seconds }),
				cpu:     median(func(s *IdleSample) float64 { return float64(s.CPU) / 1e9 }),
			})
		}
		slices.SortFunc(rows, func(a, b *idleRow) int {
			return cmp.Or(cmp.Compare(a.used(), b.used()), cmp.Compare(a.name, b.name))
		})
		if len(rows) > 0 {
			groups = append(groups, rows)
		}
	}
	return groups
}

// used is heap and stack.
func (row *idleRow) used() float64 { return row.heap + row.stack }
