//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// echo is the work of servers, beside those of package clients.
const echoWork clients.Work = "echo"

// Case is what is asked of all contestants alike.
type Case struct {
	Work  clients.Work `json:"work"`        // what is done all the time
	TLS   bool         `json:"tls"`         // whether connections have TLS
	Size  int          `json:"size_bytes"`  // of a message
	Conns int          `json:"connections"` // how many at a time
	// SlowBy is for how long the other side of a round trip is busy with each message: the client
	// then waits for it.
	SlowBy time.Duration `json:"slow_by_ns,omitempty"`
	// AllCPUs lets both sides run on all CPUs, with Go's default of GOMAXPROCS.
	AllCPUs bool `json:"all_cpus,omitempty"`
	// Deflate has WebSocket messages compressed, and Burst is how many are broadcast at a time.
	Deflate bool `json:"deflate,omitempty"`
	Burst   int  `json:"burst,omitempty"`
}

// String is a title for tables.
func (c Case) String() string {
	if c.Work == echoWork {
		return fmt.Sprintf("echo server, %s, %s, %s", transport(c.TLS), sizeText(c.Size),
			report.Plural(int64(c.Conns), "connection"))
	}
	return fmt.Sprintf("%s, %s", workText(c), report.Plural(int64(c.Conns), "connection"))
}

// Sample is one turn of one contestant.
type Sample struct {
	Case
	Name     string  `json:"name"`     // the contestant's
	Round    int     `json:"round"`    // the number of the round, from 0
	Turn     int     `json:"turn"`     // within the round
	Seconds  float64 `json:"seconds"`  // that were measured
	Messages int64   `json:"messages"` // that came back, or through, meanwhile
	CPU      int64   `json:"cpu_ns"`   // of the contestant, as the kernel's CPU clock has it
	// User and System are in ticks of 10 ms, and so only good for their proportion.
	User   int64  `json:"user_ns"`
	System int64  `json:"system_ns"` // see User
	Sleeps uint64 `json:"sleeps"`    // how often it has waited for the kernel
	// OtherSide is the CPU time of the load generator, or of what a client talks to.
	OtherSide int64 `json:"other_side_cpu_ns"`
	// Others is the CPU time that everything else on the machine took meanwhile.
	Others int64 `json:"others_cpu_ns"`
	// Syscalls per message, from an interval of its own after the round's last turn, as counting
	// them costs time. 0 otherwise, and where the kernel doesn't let us.
	Syscalls float64 `json:"syscalls_per_message,omitempty"`
	// Answer is how long the answers are that a WebSocket server compresses, in bytes.
	Answer float64 `json:"answer_bytes,omitempty"`
}

func (s *Sample) nsPerMessage() float64 { return float64(s.CPU) / float64(s.Messages) }

// contestant is a server or a client that runs, with its connections.
type contestant struct {
	Case
	name  string
	child *child.Child // whose CPU time is measured
	// that works in turns, and counts: the client, or a server's load generator
	worker    *child.Child
	otherSide *child.Child // the load generator, or what a client talks to
}

func (c *contestant) close() {
	if c.otherSide != nil {
		c.otherSide.Stop()
	}
	c.child.Stop()
}

// patience bounds the wait for messages.
const patience = time.Minute

// takeTurns has the contestants take turns until each was measured for as long as it has to be.
// Those whose turn it isn't sleep.
func (b *bench) takeTurns(all []*contestant, round int) (samples []Sample, err error) {
	quiet()
	turns := int((b.settings.Interval + b.settings.Slice - 1) / b.settings.Slice)
	for turn := range turns {
		for i := range all {
			// Another one begins each time: nobody always follows the same neighbour.
			c := all[(i+turn)%len(all)]
			sample := Sample{Case: c.Case, Name: c.name, Round: round, Turn: turn}
			if err := b.takeTurn(c, &sample, turn == turns-1); err != nil {
				return nil, fmt.Errorf("compare: %v: %s: %w", c.Case, c.name, err)
			}
			samples = append(samples, sample)
		}
	}
	return samples, nil
}

// takeTurn measures after a while in which the caches fill, the heap finds its size, and each
// connection has had its first message.
func (b *bench) takeTurn(c *contestant, sample *Sample, last bool) error {
	first := c.worker.Count() + int64(c.Conns)
	if err := c.worker.StartTurn(); err != nil {
		return err
	}
	time.Sleep(b.settings.Slice / 4)
	for deadline := time.Now().Add(patience); c.worker.Count() < first &&
		time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	err := sample.measure(c, b.settings.Slice)
	if err == nil && last && !b.noSyscalls {
		sample.Syscalls, err = countSyscalls(c, b.settings.Slice)
		if errors.Is(err, child.ErrNoSyscallCount) {
			b.noSyscalls = true
			progress("%v", err)
			err = nil
		}
	}
	return errors.Join(err, c.worker.StopTurn())
}

// reading is all counters at one moment.
type reading struct {
	at        time.Time
	messages  int64
	usage     child.Usage
	otherSide child.Usage
	machine   time.Duration
}

func (c *contestant) read() (r reading, err error) {
	var errUsage, errOther error
	r.machine, _ = proc.MachineCPU()
	r.otherSide, errOther = c.otherSide.Usage()
	r.usage, errUsage = c.child.Usage()
	r.at, r.messages = time.Now(), c.worker.Count()
	return r, errors.Join(errUsage, errOther)
}

func (s *Sample) measure(c *contestant, interval time.Duration) error {
	before, err := c.read()
	if err != nil {
		return err
	}
	time.Sleep(interval)
	after, err := c.read()
	// On a machine that is very busy with something else, a contestant may not get to run in a
	// short turn. It then has a longer one.
	for deadline := before.at.Add(patience); err == nil && after.messages == before.messages; after,
		err = c.read() {
		if time.Now().After(deadline) {
			return fmt.Errorf("no message came back in %v", patience)
		}
		time.Sleep(interval)
	}
	if err != nil {
		return err
	}
	used, other := after.usage.Sub(before.usage), after.otherSide.Sub(before.otherSide).CPU
	s.Seconds = after.at.Sub(before.at).Seconds()
	s.Messages = after.messages - before.messages
	s.CPU, s.User, s.System, s.Sleeps = int64(used.CPU), int64(used.User), int64(used.System),
		used.Sleeps
	s.OtherSide = int64(other)
	s.Others = int64(after.machine - before.machine - used.CPU - other)
	return nil
}

// countSyscalls is for an interval of its own: counting makes each call slower.
func countSyscalls(c *contestant, interval time.Duration) (perMessage float64, err error) {
	count, err := c.child.CountSyscalls()
	if err != nil {
		return 0, err
	}
	defer count.Close()
	callsBefore, errBefore := count.Read()
	before := c.worker.Count()
	time.Sleep(interval)
	callsAfter, errAfter := count.Read()
	messages := c.worker.Count() - before
	if err := errors.Join(errBefore, errAfter); err != nil || messages == 0 {
		return 0, err
	}
	return float64(callsAfter-callsBefore) / float64(messages), nil
}
