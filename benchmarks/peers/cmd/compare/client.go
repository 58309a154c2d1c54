//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/internal/bench/farside"
)

const (
	eofSize    = 100
	lengthSize = 4 << 10
	// recordSize is how much Send sends at a time, in bytes: what a TLS record holds.
	recordSize = 16 << 10
	// many is how many connections connect or shake hands at a time.
	many = 50
	// bulk is how many connections send or receive as much as they can.
	bulk = 4
)

// messages go to and fro on busy TLS connections.
var messages = Case{Work: clients.RoundTrip, TLS: true, Size: 1 << 10, Conns: 50}

// floods is from how many connections packets are received.
var floods = []int{1, 10}

// patients is of how many connections the round trips are with a server that needs slowBy for each
// message, some two or three times what a client takes: so the client waits for it.
var patients = []int{100, 1000}

const slowBy = 15 * time.Microsecond

// clientCases are what is measured, in groups. The contestants of a group's cases take turns with
// each other, as the ratio of their figures is of interest.
func (s *Settings) clientCases() (groups [][]Case) {
	var small, large []Case
	for _, conns := range s.ClientConns {
		c := Case{Work: clients.RoundTrip, Size: 64, Conns: conns}
		if conns < 1000 {
			small = append(small, c)
		} else {
			large = append(large, c)
		}
	}
	if s.Plain {
		groups = append(groups, small, large)
		var eof, length []Case
		for _, conns := range floods {
			eof = append(eof, Case{Work: clients.EOF, Size: eofSize, Conns: conns})
			length = append(length, Case{Work: clients.Length, Size: lengthSize, Conns: conns})
		}
		for _, conns := range floods {
			if s.Split { // else all have them anyway
				eof = append(eof, Case{Work: clients.EOF, Size: eofSize, Conns: conns,
					AllCPUs: true})
			}
		}
		var waiting []Case
		for _, conns := range patients {
			waiting = append(waiting, Case{Work: clients.RoundTrip, Size: 64, Conns: conns,
				SlowBy: slowBy})
		}
		groups = append(groups, waiting, eof, length, []Case{{Work: clients.Connect, Conns: many}})
	}
	if s.TLS {
		groups = append(groups,
			[]Case{{Work: clients.Full, TLS: true, Conns: many}, {Work: clients.Resumed, TLS: true,
				Conns: many}},
			[]Case{{Work: clients.Send, TLS: true, Size: recordSize, Conns: bulk},
				{Work: clients.Receive, TLS: true, Size: recordSize, Conns: bulk}},
			[]Case{messages})
	}
	return slices.DeleteFunc(groups, func(g []Case) bool { return len(g) == 0 })
}

// workText is what a client's case is called in the report.
func workText(c Case) string {
	switch c.Work {
	case clients.RoundTrip:
		if c.SlowBy > 0 {
			return fmt.Sprintf("%s round trips, a server that takes %v for each", sizeText(c.Size),
				c.SlowBy)
		}
		if c.TLS {
			return fmt.Sprintf("TLS, %s round trips", sizeText(c.Size))
		}
		return fmt.Sprintf("%s round trips", sizeText(c.Size))
	case clients.EOF:
		if c.AllCPUs {
			return fmt.Sprintf("EOF packets of %s, on all CPUs", sizeText(c.Size))
		}
		return fmt.Sprintf("EOF packets of %s", sizeText(c.Size))
	case clients.Length:
		return fmt.Sprintf("length packets of %s", sizeText(c.Size))
	case clients.Connect:
		return "connect"
	case clients.Full:
		return "full TLS 1.3 handshake"
	case clients.Resumed:
		return "resumed TLS 1.3 handshake"
	case clients.Send:
		return fmt.Sprintf("TLS, sending, each %s", sizeText(c.Size))
	case clients.Receive:
		return fmt.Sprintf("TLS, receiving, each %s", sizeText(c.Size))
	}
	return webSocketText(c)
}

// clients measures the clients.
func (b *bench) clients(r *Result) error {
	for _, group := range b.settings.clientCases() {
		for round := range b.settings.Rounds {
			of, err := b.clientRound(group, round)
			if err != nil {
				return err
			}
			progress("%v: round %d of %d", group, round+1, b.settings.Rounds)
			r.Samples = append(r.Samples, of...)
		}
	}
	return nil
}

// clientRound starts all clients for each of the cases, and lets them take turns.
func (b *bench) clientRound(group []Case, round int) (samples []Sample, err error) {
	var all []*contestant
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	for _, what := range group {
		for _, e := range b.ableClients(what, round) {
			c, err := b.startClient(e, what, what.Conns)
			if err != nil {
				return nil, fmt.Errorf("compare: %v: %w", what, err)
			}
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return b.takeTurns(all, round)
}

// ableClients is with for clients.
func (b *bench) ableClients(what Case, round int) []clientEntry {
	var able []clientEntry
	for _, e := range b.clientEntries {
		if e.peer.Can(what.Work, what.TLS) {
			able = append(able, e)
		}
	}
	return rotated(able, round)
}

// startClient begins a client that has conns connections, and its other side.
func (b *bench) startClient(e clientEntry, what Case, conns int) (*contestant, error) {
	side := otherside.Far{TLS: what.TLS, Size: what.Size,
		Bare: farside.BareEcho{Spin: b.settings.Split, Burn: what.SlowBy}}
	side.Does, side.Framing = what.Work.Far()
	config := clients.Config{Client: e.peer.Name, Work: what.Work, TLS: what.TLS, Conns: conns,
		Size: what.Size}
	if what.TLS {
		side.Cert, side.Key = b.identity.Chain, b.identity.Key
		config.CA, config.ServerName = b.identity.CA, identity.Server
	}
	ours, theirs := b.measuredCPUs, b.otherCPUs
	if what.AllCPUs {
		ours, theirs = nil, nil
	}
	other, err := child.Start(child.Spec{Name: "the other side", Program: b.self,
		Args: []string{farCommand}, Config: side, CPUs: theirs})
	if err != nil {
		return nil, err
	}
	config.Addr = other.Addr
	spec := child.Spec{Name: e.label, Program: b.self, Args: []string{clientCommand},
		Config: config, CPUs: ours, Counted: true}
	if e.program != "" {
		spec.Program, spec.Args = e.program, e.peer.Arguments(&config)
	}
	client, err := child.Start(spec)
	if err != nil {
		other.Stop()
		return nil, err
	}
	return &contestant{Case: what, name: e.label, child: client, worker: client, otherSide: other},
		nil
}
