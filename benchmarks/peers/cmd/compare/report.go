//go:build linux

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

// Result is all that was measured.
type Result struct {
	Machine  Machine      `json:"machine"`
	Settings *Settings    `json:"settings"`
	Servers  []About      `json:"servers"`
	Echo     []EchoSample `json:"echo,omitempty"`
	Idle     []IdleSample `json:"idle,omitempty"`
	// ServerCPUs is how many CPUs a server could use.
	ServerCPUs    int `json:"server_cpus"`
	GeneratorCPUs int `json:"generator_cpus"`

	pictures []string // paths of the plots
}

// ours is how the names of Whorl's own servers begin.
const ours = "whorl"

// echoRow is one server in one case, over all turns.
type echoRow struct {
	EchoCase
	server       string
	cpu          map[turn]float64 // ns per message
	rate         []float64        // messages per second
	busy         []float64        // the share of its CPUs that the server used
	sleeps       []float64        // per message
	syscalls     []float64        // per message
	user, system int64
}

func (r *Result) echoRows() (cases []EchoCase, rows map[EchoCase][]*echoRow) {
	rows = map[EchoCase][]*echoRow{}
	for i := range r.Echo {
		s := &r.Echo[i]
		of := rows[s.EchoCase]
		if len(of) == 0 {
			cases = append(cases, s.EchoCase)
		}
		at := slices.IndexFunc(of, func(row *echoRow) bool { return row.server == s.Server })
		if at < 0 {
			at = len(of)
			of = append(of, &echoRow{EchoCase: s.EchoCase, server: s.Server, cpu: map[turn]float64{}})
			rows[s.EchoCase] = of
		}
		row, messages := of[at], float64(s.Messages)
		row.cpu[turn{s.Round, s.Turn}] = s.nsPerMessage()
		row.rate = append(row.rate, messages/s.Seconds)
		row.busy = append(row.busy, float64(s.CPU)/1e9/s.Seconds/float64(r.ServerCPUs))
		row.sleeps = append(row.sleeps, float64(s.Sleeps)/messages)
		if s.Syscalls > 0 {
			row.syscalls = append(row.syscalls, s.Syscalls)
		}
		row.user += s.User
		row.system += s.System
	}
	for _, of := range rows {
		slices.SortFunc(of, func(a, b *echoRow) int { return cmp.Compare(a.median(), b.median()) })
	}
	return cases, rows
}

func (row *echoRow) median() float64 {
	return spreadOf(slices.Collect(maps.Values(row.cpu))).median
}

// userShare is which part of the CPU time was spent outside of the kernel.
func (row *echoRow) userShare() float64 {
	if row.user+row.system == 0 {
		return 0
	}
	return float64(row.user) / float64(row.user+row.system)
}

func (row *echoRow) name() string { return row.server }

// reference returns the row that the others are compared with, or nothing.
func reference[Row interface{ name() string }](rows []Row, against []string) (none Row) {
	for _, name := range against {
		for _, row := range rows {
			if row.name() == name {
				return row
			}
		}
	}
	return none
}

// Markdown writes the report.
func (r *Result) Markdown(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "# Servers compared\n\nMeasured on %s with %d × %s, %s, %s.\n", r.Machine.Time.Format("2 January 2006"), r.Machine.CPUs,
		r.Machine.CPU, r.Machine.Kernel, r.Machine.Go)
	r.writeLosses(w)
	if len(r.Echo) > 0 {
		r.writeEcho(w)
	}
	if len(r.Idle) > 0 {
		r.writeIdle(w)
	}
	r.writeServers(w)
	return w.Flush()
}

// writeLosses comes first: where one of Whorl's servers costs more than the reference.
func (r *Result) writeLosses(w io.Writer) {
	var lines []string
	took := false
	cases, rows := r.echoRows()
	for _, c := range cases {
		ref := reference(rows[c], r.Settings.Against)
		for _, row := range rows[c] {
			if ref == nil || !strings.HasPrefix(row.server, ours) {
				continue
			}
			took = true
			if ratio := spreadOf(ratios(row.cpu, ref.cpu)); ratio.median > 1 {
				lines = append(lines, fmt.Sprintf("- Echo, %s: **%s** takes %.2f × the CPU of %s (middle half %.2f to %.2f).", c, row.server, ratio.median, ref.server,
					ratio.lower, ratio.upper))
			}
		}
	}
	for _, rows := range r.idleRows() {
		ref := reference(rows, r.Settings.Against)
		for _, row := range rows {
			if ref == nil || !strings.HasPrefix(row.server, ours) {
				continue
			}
			took = true
			if row.heap+row.stack > ref.heap+ref.stack {
				lines = append(lines, fmt.Sprintf("- Idle, %s: **%s** takes %.0f bytes of heap and stack for a connection, %s %.0f.", transport(row.tls), row.server,
					row.heap+row.stack, ref.server, ref.heap+ref.stack))
			}
		}
	}
	if !took {
		return
	}
	fmt.Fprint(w, "\n## Where Whorl loses\n\n")
	if len(lines) == 0 {
		lines = []string{"Nowhere in this run."}
	}
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}

func (c EchoCase) String() string {
	return fmt.Sprintf("%s, %s, %s", transport(c.TLS), bytesText(c.Size), plural(c.Conns, "connection"))
}

func transport(tls bool) string {
	if tls {
		return "TLS"
	}
	return "plaintext"
}

func bytesText(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *Result) writeEcho(w io.Writer) {
	s := r.Settings
	fmt.Fprintf(w, `
## Echo: the server's CPU time per message

Each server runs in a process of its own and echoes messages, one outstanding on each connection. In each of %s with new processes the servers took
turns of %v until each was measured for %v. Figures are medians of the turns; the ratio is the median of the ratios of neighbouring turns, with the
bounds of the middle half of them. The CPU time is the kernel's clock of the whole process, in its code and in the kernel. Busy is the share that the server used of its %s: where it isn't busy it
waited for the generator or for other programs, and also pays for going to sleep. Sleeps are voluntary context switches. The generator had %s, and what else ran on the machine took
%.0f %% of its CPUs meanwhile.
`, plural(s.Rounds, "round"), s.Slice, s.Interval, plural(r.ServerCPUs, "CPU"), plural(r.GeneratorCPUs, "CPU"), 100*r.others())
	if !s.Split {
		fmt.Fprintln(w, "Server and generator shared all CPUs, so a server also pays for waking the generator.")
	}
	for _, path := range r.pictures {
		fmt.Fprintf(w, "\n![The server's CPU time per message over the number of connections](%s)\n", path)
	}
	cases, rows := r.echoRows()
	heading := ""
	for _, c := range cases {
		if h := fmt.Sprintf("%s, %s", transport(c.TLS), bytesText(c.Size)); h != heading {
			heading = h
			fmt.Fprintf(w, "\n### %s\n\n", h)
			fmt.Fprintln(w, "| Connections | Server | CPU per message, µs | in the kernel | × | Messages/s | System calls | Sleeps | Busy |")
			fmt.Fprintln(w, "|--:|---|--:|--:|---|--:|--:|--:|--:|")
		}
		ref := reference(rows[c], s.Against)
		for _, row := range rows[c] {
			writeEchoRow(w, row, ref)
		}
	}
}

// others is the share of the machine's CPUs that went to what isn't measured here.
func (r *Result) others() float64 {
	cpu, seconds := 0.0, 0.0
	for _, s := range r.Echo {
		cpu += float64(s.Others) / 1e9
		seconds += s.Seconds * float64(r.Machine.CPUs)
	}
	return max(0, cpu/seconds)
}

func writeEchoRow(w io.Writer, row, ref *echoRow) {
	ratio := "–"
	switch {
	case row == ref:
		ratio = "1"
	case ref != nil:
		s := spreadOf(ratios(row.cpu, ref.cpu))
		ratio = fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.lower, s.upper)
	}
	syscalls := "–"
	if len(row.syscalls) > 0 {
		syscalls = fmt.Sprintf("%.2f", spreadOf(row.syscalls).median)
	}
	fmt.Fprintf(w, "| %d | %s | %.2f | %.0f %% | %s | %.0f | %s | %.3f | %.0f %% |\n", row.Conns, row.server, row.median()/1000,
		100*(1-row.userShare()), ratio, spreadOf(row.rate).median, syscalls, spreadOf(row.sleeps).median,
		100*spreadOf(row.busy).median)
}

func (r *Result) writeIdle(w io.Writer) {
	fmt.Fprintf(w, `
## Idle connections: bytes of each in the server's process

%d connections on which one message of %d bytes was echoed. Heap is what is live after collections, stack the goroutines' spans; the resident size is read after the
runtime gave back what was free. The kernel's own memory for sockets isn't in it. A server with a buffer per connection has %d bytes there.

| | Server | Heap | Stack | Heap and stack | Resident |
|---|---|--:|--:|--:|--:|
`, r.Settings.Idle, idleMessage, idleBuffer)
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			fmt.Fprintf(w, "| %s | %s | %.0f | %.0f | %.0f | %.0f |\n", transport(row.tls), row.server, row.heap, row.stack, row.heap+row.stack, row.rss)
		}
	}
}

// idleRow is what an idle connection costs one server: medians over the rounds, in bytes.
type idleRow struct {
	tls              bool
	server           string
	heap, stack, rss float64
}

func (row *idleRow) name() string { return row.server }

// idleRows are those of plaintext and of TLS, the cheapest first.
func (r *Result) idleRows() (transports [][]*idleRow) {
	for _, tls := range []bool{false, true} {
		of := map[string][]IdleSample{}
		for _, s := range r.Idle {
			if s.TLS == tls {
				of[s.Server] = append(of[s.Server], s)
			}
		}
		var rows []*idleRow
		for server, samples := range of {
			median := func(part func(child.Memory) uint64) float64 {
				var values []float64
				for _, s := range samples {
					values = append(values, s.perConn(part))
				}
				return spreadOf(values).median
			}
			rows = append(rows, &idleRow{tls: tls, server: server, heap: median(heap), stack: median(stack), rss: median(rss)})
		}
		slices.SortFunc(rows, func(a, b *idleRow) int {
			return cmp.Or(cmp.Compare(a.heap+a.stack, b.heap+b.stack), cmp.Compare(a.server, b.server))
		})
		transports = append(transports, rows)
	}
	return transports
}

func (r *Result) writeServers(w io.Writer) {
	fmt.Fprint(w, "\n## What took part\n\n")
	for _, s := range r.Servers {
		if s.Version != "" {
			s.Version = " (" + s.Version + ")"
		}
		fmt.Fprintf(w, "- %s: %s%s\n", s.Server, s.Text, s.Version)
	}
}
