//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/load"
)

// EchoCase is what is asked of all servers alike.
type EchoCase struct {
	TLS   bool `json:"tls"`
	Size  int  `json:"size"` // bytes per message
	Conns int  `json:"conns"`
}

// EchoSample is one turn of one server.
type EchoSample struct {
	EchoCase
	Server   string  `json:"server"`
	Round    int     `json:"round"`
	Turn     int     `json:"turn"` // within the round
	Seconds  float64 `json:"seconds"`
	Messages uint64  `json:"messages"`
	CPU      int64   `json:"cpu_ns"` // of the server, as the kernel's CPU clock has it
	// User and System are in ticks of 10 ms, and so only good for their proportion.
	User   int64  `json:"user_ns"`
	System int64  `json:"system_ns"`
	Sleeps uint64 `json:"sleeps"`
	// Generator is the CPU time of the load generator.
	Generator int64 `json:"generator_cpu_ns"`
	// Others is the CPU time that everything else on the machine took meanwhile.
	Others int64 `json:"others_cpu_ns"`
	// Syscalls per message, from an interval of its own after the round's last turn, as counting them costs time. 0 otherwise, and where the kernel doesn't let us.
	Syscalls float64 `json:"syscalls_per_message,omitempty"`
}

func (b *bench) echo() (samples []EchoSample, err error) {
	s := b.settings
	for _, tls := range b.transports() {
		for _, size := range s.Sizes {
			for _, conns := range s.Conns {
				for round := range s.Rounds {
					of, err := b.echoRound(EchoCase{TLS: tls, Size: size, Conns: conns}, round)
					if err != nil {
						return nil, err
					}
					progress("%v: round %d of %d", of[0].EchoCase, round+1, s.Rounds)
					samples = append(samples, of...)
				}
			}
		}
	}
	return samples, nil
}

func (s *EchoSample) nsPerMessage() float64 { return float64(s.CPU) / float64(s.Messages) }

// contestant is a server that runs, with its connections.
type contestant struct {
	server    *child.Child
	generator *load.Generator
	name      string
	turns     int // in which it echoed something
}

func (c *contestant) close() {
	if c.generator != nil {
		c.generator.Close()
	}
	c.server.Stop()
}

// echoRound starts all servers and connects to them, and lets them take turns. The ones whose turn it isn't sleep.
func (b *bench) echoRound(what EchoCase, round int) (samples []EchoSample, err error) {
	var all []*contestant
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	for _, e := range b.with(what.TLS, round) {
		server, addr, err := b.start(e, what.TLS, max(what.Size, idleBuffer))
		if err != nil {
			return nil, err
		}
		c := &contestant{server: server, name: e.label}
		all = append(all, c)
		if c.generator, err = b.dial(addr, what.Conns, what.Size, what.TLS); err != nil {
			return nil, fmt.Errorf("compare: %s: %w", e.label, err)
		}
	}
	quiet()
	turns := int((b.settings.Interval + b.settings.Slice - 1) / b.settings.Slice)
	for turn := range turns {
		for i := range all {
			c := all[(i+turn)%len(all)] // Another one begins each time: nobody always follows the same neighbour.
			sample := EchoSample{EchoCase: what, Server: c.name, Round: round, Turn: turn}
			if err := b.echoTurn(c, &sample, turn == turns-1); err != nil {
				return nil, fmt.Errorf("compare: %s: %w", c.name, err)
			}
			// On a machine that is very busy with something else, a server may not get to run in a short turn: nothing was measured then. One that is stuck
			// doesn't come here, as the generator waits for its last messages.
			if sample.Messages > 0 {
				samples = append(samples, sample)
				c.turns++
			}
		}
	}
	for _, c := range all {
		if c.turns == 0 {
			return nil, fmt.Errorf("compare: %s: no message came back", c.name)
		}
	}
	return samples, nil
}

// echoTurn measures after a while in which the caches fill and the heap finds its size.
func (b *bench) echoTurn(c *contestant, sample *EchoSample, last bool) error {
	c.generator.Start()
	time.Sleep(b.settings.Slice / 4)
	err := sample.measure(c.server, c.generator, b.settings.Slice)
	if err == nil && last && !b.noSyscalls {
		sample.Syscalls, err = countSyscalls(c.server, c.generator, b.settings.Slice)
		if errors.Is(err, child.ErrNoSyscallCount) {
			b.noSyscalls = true
			progress("%v", err)
			err = nil
		}
	}
	return errors.Join(err, c.generator.Stop())
}

// reading is all counters at one moment.
type reading struct {
	at        time.Time
	messages  uint64
	usage     child.Usage
	generator time.Duration
	machine   time.Duration
}

func read(server *child.Child, generator *load.Generator) (r reading, err error) {
	var errUsage, errGenerator, errMachine error
	r.machine, errMachine = machineCPU()
	r.generator, errGenerator = generator.CPU()
	r.usage, errUsage = server.Usage()
	r.at, r.messages = time.Now(), generator.Messages()
	return r, errors.Join(errUsage, errGenerator, errMachine)
}

func (s *EchoSample) measure(server *child.Child, generator *load.Generator, interval time.Duration) error {
	before, err := read(server, generator)
	if err != nil {
		return err
	}
	time.Sleep(interval)
	after, err := read(server, generator)
	if err != nil {
		return err
	}
	used, load := after.usage.Sub(before.usage), after.generator-before.generator
	s.Seconds = after.at.Sub(before.at).Seconds()
	s.Messages = after.messages - before.messages
	s.CPU, s.User, s.System, s.Sleeps = int64(used.CPU), int64(used.User), int64(used.System), used.Sleeps
	s.Generator = int64(load)
	s.Others = int64(after.machine - before.machine - used.CPU - load)
	return nil
}

// countSyscalls is for an interval of its own: counting makes each call slower.
func countSyscalls(server *child.Child, generator *load.Generator, interval time.Duration) (perMessage float64, err error) {
	count, err := server.CountSyscalls()
	if err != nil {
		return 0, err
	}
	defer count.Close()
	callsBefore, errBefore := count.Read()
	before := generator.Messages()
	time.Sleep(interval)
	callsAfter, errAfter := count.Read()
	messages := generator.Messages() - before
	if err := errors.Join(errBefore, errAfter); err != nil || messages == 0 {
		return 0, err
	}
	return float64(callsAfter-callsBefore) / float64(messages), nil
}
