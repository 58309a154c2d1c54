//go:build linux

package main

import (
	"fmt"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

const (
	// held is how many connections the server has when its memory is read for the first time: what it allocates once, for the first of them, is no
	// connection's.
	held = 64
	// idleBuffer is the read buffer of servers with one per connection: bufio's default.
	idleBuffer = 4096
	// idleMessage is the size of the one message that each connection has echoed before it idles.
	idleMessage = 64
)

// IdleSample is what idle connections cost one server. The differences are divided by the connections.
type IdleSample struct {
	Server string       `json:"server"`
	TLS    bool         `json:"tls"`
	Conns  int          `json:"conns"`
	Round  int          `json:"round"`
	Before child.Memory `json:"before"`
	After  child.Memory `json:"after"`
}

func (s *IdleSample) perConn(part func(child.Memory) uint64) float64 {
	return (float64(part(s.After)) - float64(part(s.Before))) / float64(s.Conns)
}

func (b *bench) idle() (samples []IdleSample, err error) {
	for _, tls := range b.transports() {
		for round := range b.settings.IdleRounds {
			for _, e := range b.with(tls, round) {
				if e.peer.Build != nil {
					continue // Its memory is the kernel's only, and it can't tell.
				}
				sample, err := b.idleTurn(e, tls, round)
				if err != nil {
					return nil, fmt.Errorf("compare: %s: %w", e.label, err)
				}
				progress("%-12s tls=%-5v idle round %d: heap %.0f stack %.0f RSS %.0f B/conn", e.label, tls, round,
					sample.perConn(heap), sample.perConn(stack), sample.perConn(rss))
				samples = append(samples, sample)
			}
		}
	}
	return samples, nil
}

func heap(m child.Memory) uint64  { return m.Heap }
func stack(m child.Memory) uint64 { return m.Stack }
func rss(m child.Memory) uint64   { return m.RSS }

func (b *bench) idleTurn(e entry, tls bool, round int) (sample IdleSample, err error) {
	sample = IdleSample{Server: e.label, TLS: tls, Conns: b.settings.Idle, Round: round}
	server, addr, err := b.start(e, tls, idleBuffer)
	if err != nil {
		return sample, err
	}
	defer server.Stop()
	for i, step := range []struct {
		conns int
		into  *child.Memory
	}{{held, &sample.Before}, {b.settings.Idle, &sample.After}} {
		generator, err := b.dial(addr, step.conns, idleMessage, tls)
		if err != nil {
			return sample, fmt.Errorf("step %d: %w", i, err)
		}
		defer generator.Close()
		if *step.into, err = server.Memory(); err != nil {
			return sample, err
		}
	}
	return sample, nil
}
