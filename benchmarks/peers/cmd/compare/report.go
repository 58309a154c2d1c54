//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// Result is all that was measured.
type Result struct {
	Machine  report.Machine `json:"machine"`  // where it was measured
	Started  time.Time      `json:"started"`  // when
	Settings *Settings      `json:"settings"` // what was asked for
	Servers  []About        `json:"servers"`  // the contestants among servers
	Clients  []About        `json:"clients"`  // the contestants among clients
	// WebSockets are the contestants among WebSocket servers.
	WebSockets []About `json:"websockets"`

	Samples []Sample     `json:"samples,omitempty"` // of all turns
	Idle    []IdleSample `json:"idle,omitempty"`    // of idle connections
	// CPUs is how many CPUs a server or a client could use.
	CPUs          int `json:"cpus"`
	GeneratorCPUs int `json:"generator_cpus"` // the same of the load generator

	pictures []picture
}

// Markdown writes the report.
func (r *Result) Markdown(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w,
		"# Servers and clients compared\n\nMeasured on %s, %s. `make -C benchmarks compare` has "+
			"made this file.\n",
		r.Started.Format(time.DateOnly), r.Machine)
	r.writeLosses(w)
	r.writeGoals(w)
	cases, _ := r.rows()
	if len(cases) > 0 {
		r.writeMethod(w)
		r.writePictures(w)
		r.writeEcho(w)
		r.writeClients(w)
		r.writeWebSockets(w)
	}
	if len(r.Idle) > 0 {
		r.writeIdle(w)
	}
	for _, of := range []struct {
		what string
		all  []About
		work []string // one of these has to be measured
	}{
		{"Servers", r.Servers, []string{"echo", "idle"}},
		{"Clients", r.Clients, []string{"client", "client-idle"}},
		{"WebSocket servers", r.WebSockets, []string{"websocket"}},
	} {
		if slices.ContainsFunc(of.work, func(work string) bool {
			return slices.Contains(r.Settings.What, work)
		}) {
			writeAbout(w, of.what, of.all)
		}
	}
	return w.Flush()
}

// writeLosses comes first: where something of Whorl's costs more than something of another library.
func (r *Result) writeLosses(w io.Writer) {
	var lines []string
	took := false
	cases, rows := r.rows()
	for _, c := range cases {
		for _, row := range rows[c] {
			if isOurs(row.name) {
				took = true
				lines = append(lines, losses(row, rows[c])...)
			}
		}
	}
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			if isOurs(row.name) {
				took = true
				lines = append(lines, idleLosses(row, rows)...)
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

// losses has a line if a row takes more than a rival.
func losses(row *row, all []*row) []string {
	var to []string
	for _, rival := range all {
		if !isRival(rival.name) {
			continue
		}
		if ratio := row.against(rival); ratio.Median >= 1.005 { // what isn't shown as 1.00
			to = append(to, fmt.Sprintf("%.2f × the CPU of %s (middle half %.2f to %.2f)",
				ratio.Median, rival.name, ratio.Lower, ratio.Upper))
		}
	}
	if len(to) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("- %s: **%s** takes %s.", sentence(row.Case.String()), row.name,
		strings.Join(to, ", "))}
}

func idleLosses(row *idleRow, all []*idleRow) []string {
	var to []string
	for _, rival := range all {
		if isRival(rival.name) && row.used() > rival.used() {
			to = append(to, fmt.Sprintf("%s %.0f", rival.name, rival.used()))
		}
	}
	if len(to) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("- %s: **%s** takes %.0f bytes of heap and stack for a "+
		"connection, %s.", sentence(row.String()), row.name, row.used(),
		strings.Join(to, ", "))}
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func transport(tls bool) string {
	if tls {
		return "TLS"
	}
	return "plaintext"
}

func sizeText(n int) string { return report.Size(float64(n)) }

func (r *Result) writeMethod(w io.Writer) {
	s := r.Settings
	fmt.Fprintf(w, `
## How it was measured

Each server and each client runs in a process of its own. In each of %s with new processes the
contestants took turns of %v until each was measured for %v. Figures are medians of the turns; a
ratio is the median of the ratios of neighbouring turns, with the bounds of the middle half of
them. The CPU time is the kernel's clock of the whole process, in its code and in the kernel. Busy
is the share that it used of its %s: where it isn't busy it waited for the other side or for other
programs, and also pays for going to sleep. Sleeps are voluntary context switches. What else ran
on the machine took %.0f %% of its CPUs meanwhile. [README.md](README.md) says what is fair about
that and what isn't.
`, report.Plural(int64(s.Rounds), "round"), s.Slice, s.Interval,
		report.Plural(int64(r.CPUs), "CPU"), 100*r.others())
	if !s.Split {
		fmt.Fprintln(w,
			"Both sides shared all CPUs, so what is measured also pays for waking the other side.")
	}
}

func (r *Result) writePictures(w io.Writer) {
	for _, p := range r.pictures {
		fmt.Fprintf(w, "\n![%s](%s)\n", p.title, p.path)
	}
}

// others is the share of the machine's CPUs that went to what isn't measured here.
func (r *Result) others() float64 {
	cpu, seconds := 0.0, 0.0
	for _, s := range r.Samples {
		cpu += float64(s.Others) / 1e9
		seconds += s.Seconds * float64(r.Machine.Processors)
	}
	return max(0, cpu/seconds)
}

func (r *Result) writeEcho(w io.Writer) {
	r.writeCases(w, aServer,
		"\n## Servers: CPU time per message\n\nThey echo messages, one outstanding on each "+
			"connection. The load generator had "+
			report.Plural(int64(r.GeneratorCPUs), "CPU")+".\n", func(c Case) string {
			return fmt.Sprintf("%s, %s", transport(c.TLS), sizeText(c.Size))
		})
}

func (r *Result) writeClients(w io.Writer) {
	r.writeCases(w, aClient,
		"\n## Clients: CPU time of each operation\n\nThe ratio is to net, with bufio for "+
			"packets. The other side is the same program for all.\n",
		func(c Case) string { return sentence(workText(c)) })
}

// writeCases writes the cases of a kind, a table for each heading.
func (r *Result) writeCases(w io.Writer, of kind, introduction string,
	headingOf func(Case) string) {
	cases, rows := r.rows()
	heading, table := "", report.Table(nil)
	flush := func() {
		table.WriteMarkdown(w, 1, 4) // w keeps its first error
		table = nil
	}
	for _, c := range cases {
		if kindOf(c) != of {
			continue
		}
		if heading == "" {
			fmt.Fprint(w, introduction)
		}
		if h := headingOf(c); h != heading {
			flush()
			heading = h
			fmt.Fprintf(w, "\n### %s\n\n", h)
			table = append(table, headings(c))
		}
		for _, row := range rows[c] {
			table = append(table, cells(row, r.reference(rows[c])))
		}
	}
	flush()
}

func isBulk(c Case) bool { return c.Work == clients.Send || c.Work == clients.Receive }

func headings(c Case) []string {
	who, each, rate := "Client", "CPU each", "Each second"
	if kindOf(c) != aClient {
		who, each, rate = "Server", "CPU per message", "Messages/s"
	}
	switch c.Work {
	case webSocketBroadcast:
		each, rate = "CPU per delivery", "Deliveries/s"
	case webSocketHandshake:
		each, rate = "CPU each", "Each second"
	}
	all := []string{"Connections", who, each, "in the kernel", "×", rate, "System calls", "Sleeps",
		"Busy"}
	if isBulk(c) {
		all = append(all, "GB per CPU second")
	}
	if c.Deflate {
		all = append(all, "Bytes of an answer")
	}
	return all
}

func cells(row, ref *row) []string {
	ratio := "–"
	switch {
	case row == ref:
		ratio = "1"
	case ref != nil:
		ratio = row.against(ref).String()
	}
	syscalls := "–"
	if len(row.syscalls) > 0 {
		syscalls = fmt.Sprintf("%.3g", report.SpreadOf(row.syscalls).Median)
	}
	all := []string{
		fmt.Sprint(row.Conns), row.name, report.Duration(row.median()),
		fmt.Sprintf("%.0f %%", 100*(1-row.userShare())), ratio,
		fmt.Sprintf("%.0f", report.SpreadOf(row.rate).Median), syscalls,
		fmt.Sprintf("%.3f", report.SpreadOf(row.sleeps).Median),
		fmt.Sprintf("%.0f %%", 100*report.SpreadOf(row.busy).Median),
	}
	if isBulk(row.Case) {
		all = append(all, fmt.Sprintf("%.2f", float64(row.Size)/row.median()))
	}
	if row.Deflate {
		all = append(all, fmt.Sprintf("%.0f", row.answer))
	}
	return all
}

func (r *Result) writeIdle(w io.Writer) {
	fmt.Fprintf(w, `
## Idle connections: bytes of each

Connections on which one message of %d bytes was echoed, in the process of the server or of the
client. Heap is what is live after collections, stack the goroutines' spans; the resident size is
read after the runtime gave back what was free. Kernel is what its allocator of objects (slab) has
grown by, on the whole machine and for both ends of the connection. At the end each connection is
still there, and there are as many goroutines as the contestant says that it needs.
Who holds a buffer for each connection has %d bytes there. Opened in is what both sides took
together, CPU is that of the process that is measured.

`, idleMessage, idleBuffer)
	table := report.Table{{"", "Who", "Connections", "Heap", "Stack", "Heap and stack", "Resident",
		"Kernel", "Opened in", "CPU"}}
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			whole := func(bytes float64) string { return fmt.Sprintf("%.0f", bytes) }
			table = append(table, []string{
				row.String(), row.name, fmt.Sprint(row.conns), whole(row.heap), whole(row.stack),
				whole(row.used()), whole(row.rss), whole(row.slab),
				fmt.Sprintf("%.1f s", row.seconds), fmt.Sprintf("%.1f s", row.cpu),
			})
		}
	}
	table.WriteMarkdown(w, 0, 1)
}

func writeAbout(w io.Writer, what string, all []About) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s that took part\n\n", what)
	for _, a := range all {
		if a.Version != "" {
			a.Version = " (" + a.Version + ")"
		}
		fmt.Fprintf(w, "- %s: %s%s\n", a.Name, a.Text, a.Version)
	}
}
