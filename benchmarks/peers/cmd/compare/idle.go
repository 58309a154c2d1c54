//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
)

const (
	// held is how many connections there are when a process's memory is read for the first time:
	// what it allocates once, for the first of them, is no connection's.
	held = 64
	// idleBuffer is the read buffer of servers with one per connection: bufio's default.
	idleBuffer = 4096
	// idleMessage is the size of the one message that each connection has echoed before it idles.
	idleMessage = 64
)

// IdleSample is what idle connections cost one server or client. The differences are divided by the
// connections.
type IdleSample struct {
	idleKind
	Name   string      `json:"name"`   // the contestant's
	Conns  int         `json:"conns"`  // that were opened
	Round  int         `json:"round"`  // the number of the round, from 0
	Before proc.Memory `json:"before"` // without connections, in bytes
	After  proc.Memory `json:"after"`  // with all of them
	// Slab is what the kernel's allocator of objects has grown by, for both ends, in bytes; it is
	// the machine's, and what else that does meanwhile is in it.
	Slab int64 `json:"slab_bytes"`
	// Seconds and CPU are what it took to open the connections, to the last answer. Seconds are
	// those of both sides.
	Seconds float64 `json:"seconds"`
	CPU     int64   `json:"cpu_ns"` // in nanoseconds
}

// idleKind is what idles.
type idleKind struct {
	Client    bool `json:"client"`              // whether it is a client
	WebSocket bool `json:"websocket,omitempty"` // whether the server is one of WebSocket
	TLS       bool `json:"tls"`                 // whether connections have TLS
	Deflate   bool `json:"deflate,omitempty"`   // whether they have agreed to compress
}

var idleKinds = []idleKind{{}, {TLS: true}, {Client: true}, {Client: true, TLS: true},
	{WebSocket: true}, {WebSocket: true, Deflate: true}, {WebSocket: true, TLS: true}}

func (k idleKind) String() string {
	who, with := "server", ""
	switch {
	case k.Client:
		who = "client"
	case k.WebSocket:
		who = "WebSocket server"
	}
	if k.Deflate {
		with = ", permessage-deflate"
	}
	return fmt.Sprintf("idle %s, %s%s", who, transport(k.TLS), with)
}

func (s *IdleSample) perConn() proc.Each { return s.After.Per(int64(s.Conns), s.Before) }

// idle measures the servers.
func (b *bench) idle(r *Result) error {
	for _, tls := range b.transports() {
		for round := range b.settings.IdleRounds {
			for _, e := range b.with(tls, round) {
				if e.peer.Build != nil {
					continue // Its memory is the kernel's only, and it can't tell.
				}
				sample := IdleSample{Name: e.label, idleKind: idleKind{TLS: tls}, Round: round}
				if err := b.idleServer(e, &sample); err != nil {
					return fmt.Errorf("compare: %s: %w", e.label, err)
				}
				r.Idle = append(r.Idle, sample)
			}
		}
	}
	return nil
}

// idleClients measures the clients.
func (b *bench) idleClients(r *Result) error {
	for _, tls := range b.transports() {
		what := Case{Work: clients.Idle, TLS: tls, Size: idleMessage}
		for round := range b.settings.IdleRounds {
			for _, e := range b.ableClients(what, round) {
				sample := IdleSample{Name: e.label, idleKind: idleKind{Client: true, TLS: tls},
					Round: round}
				if err := b.idleClient(e, what, &sample); err != nil {
					return fmt.Errorf("compare: %s: %w", e.label, err)
				}
				r.Idle = append(r.Idle, sample)
			}
		}
	}
	return nil
}

func (b *bench) idleServer(e entry, sample *IdleSample) error {
	server, err := b.start(e, sample.TLS, idleBuffer)
	if err != nil {
		return err
	}
	defer server.Stop()
	// The first connections stay open until the end.
	generator, err := b.dial(server, held, held+b.settings.Idle, idleMessage, sample.TLS)
	if err != nil {
		return err
	}
	defer generator.Stop()
	return sample.measure(server, b.settings.Idle, e.peer.Goroutines, generator.OpenMore)
}

func (b *bench) idleClient(e clientEntry, what Case, sample *IdleSample) error {
	c, err := b.startClient(e, what, held)
	if err != nil {
		return err
	}
	defer c.close()
	return sample.measure(c.child, b.settings.Idle, e.peer.Goroutines, c.child.OpenMore)
}

// becomeIdle is how long connections are left alone before memory is read: longer than it takes
// those to become compact that do.
const becomeIdle = 300 * time.Millisecond

// otherGoroutines is how many a runtime may have more or less for reasons of its own, such as those
// on whose stacks handshakes were made.
const otherGoroutines = 128

// measure reads the memory of a process before and after conns connections are opened, each of
// which is to have so many goroutines. At the end all have to be there still.
func (s *IdleSample) measure(
	of *child.Child, conns, goroutines int, open func(n int) error,
) (err error) {
	s.Conns = conns
	time.Sleep(becomeIdle)
	if s.Before, err = of.Memory(); err != nil {
		return err
	}
	slabBefore := proc.Slab()
	socketsBefore, err := of.Sockets()
	if err != nil {
		return err
	}
	before, err := of.Usage()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := open(conns); err != nil {
		return err
	}
	s.Seconds = time.Since(began).Seconds()
	after, err := of.Usage()
	if err != nil {
		return err
	}
	s.CPU = int64(after.Sub(before).CPU)
	time.Sleep(becomeIdle)
	if s.After, err = of.Memory(); err != nil {
		return err
	}
	s.Slab = proc.Slab() - slabBefore
	sockets, err := of.Sockets()
	if err != nil {
		return err
	}
	if more := sockets - socketsBefore; more < conns {
		return fmt.Errorf("%d of %d connections are left", more, conns)
	}
	more, claimed := s.After.Goroutines-s.Before.Goroutines, goroutines*conns
	if max(more-claimed, claimed-more) > otherGoroutines {
		return fmt.Errorf("%d goroutines for %s, not %d", more,
			report.Plural(int64(conns), "connection"), claimed)
	}
	each := s.perConn()
	progress("%-12s %v, round %d: heap %.0f stack %.0f RSS %.0f B/conn, opened in %.1f s",
		s.Name, s.idleKind, s.Round, each.Heap, each.Stack, each.RSS, s.Seconds)
	return nil
}
