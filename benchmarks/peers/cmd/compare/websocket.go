//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/benchmarks/peers/websockets"
	"github.com/whorl-go/whorl/internal/bench/report"
)

// The work of WebSocket servers.
const (
	webSocketEcho      clients.Work = "websocket-echo"
	webSocketBroadcast clients.Work = "websocket-broadcast"
	webSocketHandshake clients.Work = "websocket-handshake"
)

// webSocketWork is what the load does for each of them.
var webSocketWork = map[clients.Work]otherside.WebSocketWork{
	webSocketEcho: otherside.Trips, webSocketBroadcast: otherside.Broadcasts,
	webSocketHandshake: otherside.Upgrades,
}

// webSocketReference is whom ratios in tables are to.
var webSocketReference = []string{"gws"}

// burst is how many broadcasts there are together, beside single ones.
const burst = 32

// kind is whose work a case is.
type kind int

const (
	aServer kind = iota
	aClient
	aWebSocket
)

func kindOf(c Case) kind {
	switch {
	case c.Work == echoWork:
		return aServer
	case webSocketWork[c.Work] != "":
		return aWebSocket
	}
	return aClient
}

// webSocketWorks are what can be chosen of the measurements.
var webSocketWorks = []string{"echo", "deflate", "broadcast", "handshake", "idle"}

// choice is the one of webSocketWorks that a case belongs to.
func (c Case) choice() string {
	switch {
	case c.Deflate:
		return "deflate"
	case c.Work == webSocketBroadcast:
		return "broadcast"
	case c.Work == webSocketHandshake:
		return "handshake"
	}
	return "echo"
}

func (s *Settings) webSocketCases() []Case {
	conns, members := s.WebSocketConns, s.WebSocketMembers
	return []Case{
		{Work: webSocketEcho, Size: 64, Conns: conns},
		{Work: webSocketEcho, Size: 4 << 10, Conns: conns},
		{Work: webSocketEcho, Size: 1 << 10, Conns: conns, Deflate: true},
		{Work: webSocketBroadcast, Size: 64, Conns: members, Burst: 1},
		{Work: webSocketBroadcast, Size: 64, Conns: members, Burst: burst},
		{Work: webSocketHandshake, Size: 64, Conns: many},
	}
}

func webSocketText(c Case) string {
	switch c.Work {
	case webSocketEcho:
		if c.Deflate {
			return fmt.Sprintf("WebSocket echo, %s of JSON, permessage-deflate", sizeText(c.Size))
		}
		return fmt.Sprintf("WebSocket echo, %s", sizeText(c.Size))
	case webSocketBroadcast:
		if c.Burst > 1 {
			return fmt.Sprintf("WebSocket, %d broadcasts of %s together", c.Burst, sizeText(c.Size))
		}
		return fmt.Sprintf("WebSocket, one broadcast of %s at a time", sizeText(c.Size))
	}
	return "WebSocket handshake"
}

func (r *Result) writeWebSockets(w io.Writer) {
	r.writeCases(w, aWebSocket,
		"\n## WebSocket servers: CPU time of each operation\n\nThe ratio is to "+
			webSocketReference[0]+". Echo has one message outstanding on each connection, binary "+
			"or, where it is compressed, text in JSON: all agree to compress without takeover of "+
			"context in either direction, and their answers are inflated and compared. A "+
			"broadcast goes to all connections, of which one has asked for it; the next ones are "+
			"asked for when all have got all. Handshakes begin with the TCP connection and end "+
			"with the response, after which the client resets it.\n",
		func(c Case) string { return sentence(webSocketText(c)) })
}

// webSockets measures the WebSocket servers.
func (b *bench) webSockets(r *Result) error {
	s := b.settings
	for _, what := range s.webSocketCases() {
		if !slices.Contains(s.WebSocketWork, what.choice()) {
			continue
		}
		for round := range s.Rounds {
			of, err := b.webSocketRound(what, round)
			if err != nil {
				return err
			}
			progress("%v: round %d of %d", what, round+1, s.Rounds)
			r.Samples = append(r.Samples, of...)
		}
	}
	if slices.Contains(s.WebSocketWork, "idle") {
		return b.idleWebSockets(r)
	}
	return nil
}

func (b *bench) enterWebSockets() error {
	times := map[string]int{}
	for _, name := range b.settings.WebSockets {
		peer, err := websockets.Find(name)
		if err != nil {
			return err
		}
		b.webEntries = append(b.webEntries, webSocketEntry{label(name, times), peer})
	}
	return nil
}

// webSocketRound starts all servers, connects to them, and lets them take turns.
func (b *bench) webSocketRound(what Case, round int) (samples []Sample, err error) {
	var all []*contestant
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	for _, e := range rotated(b.webEntries, round) {
		if !e.peer.Can(what.Work == webSocketBroadcast, what.Deflate, what.TLS) {
			continue
		}
		c, err := b.startWebSocket(e, what, what.Conns)
		if err != nil {
			return nil, fmt.Errorf("compare: %v: %s: %w", what, e.label, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, nil
	}
	if samples, err = b.takeTurns(all, round); err != nil || !what.Deflate {
		return samples, err
	}
	for _, c := range all {
		length, err := otherside.AnswerLength(c.worker)
		if err != nil {
			return nil, err
		}
		for i := range samples {
			if samples[i].Name == c.name {
				samples[i].Answer = length
			}
		}
	}
	return samples, nil
}

// startWebSocket begins a server and its load, with conns connections.
func (b *bench) startWebSocket(e webSocketEntry, what Case, conns int) (*contestant, error) {
	config := websockets.Config{Server: e.peer.Name, TLS: what.TLS, Deflate: what.Deflate,
		Broadcast: what.Work == webSocketBroadcast}
	load := otherside.WebSocket{Does: webSocketWork[what.Work], Conns: conns, Size: what.Size,
		Deflate: what.Deflate, Burst: what.Burst, TLS: what.TLS, Spin: b.settings.Split}
	if what.TLS {
		config.Cert, config.Key = b.identity.Chain, b.identity.Key
		load.CA, load.ServerName = b.identity.CA, identity.Server
	}
	server, err := child.Start(child.Spec{Name: e.label, Program: b.self,
		Args: []string{webSocketCommand}, Config: config, CPUs: b.measuredCPUs})
	if err != nil {
		return nil, err
	}
	load.Addr = server.Addr
	other, err := child.Start(child.Spec{Name: "the load generator", Program: b.self,
		Args: []string{webSocketLoadCommand}, Config: load, CPUs: b.otherCPUs, Counted: true})
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &contestant{Case: what, name: e.label, child: server, worker: other, otherSide: other},
		nil
}

// idleWebSockets measures what idle connections cost the WebSocket servers.
func (b *bench) idleWebSockets(r *Result) error {
	for _, kind := range idleKinds {
		if !kind.WebSocket || kind.TLS && !b.settings.TLS {
			continue
		}
		for round := range b.settings.IdleRounds {
			for _, e := range rotated(b.webEntries, round) {
				if !e.peer.Can(false, kind.Deflate, kind.TLS) {
					continue
				}
				sample := IdleSample{Name: e.label, idleKind: kind, Round: round}
				if err := b.idleWebSocket(e, &sample); err != nil {
					return fmt.Errorf("compare: %v: %s: %w", kind, e.label, err)
				}
				r.Idle = append(r.Idle, sample)
			}
		}
	}
	return nil
}

func (b *bench) idleWebSocket(e webSocketEntry, sample *IdleSample) error {
	what := Case{Work: webSocketEcho, Size: idleMessage, TLS: sample.TLS, Deflate: sample.Deflate}
	if sample.Deflate {
		what.Size = 1 << 10 // what is shorter isn't compressed
	}
	c, err := b.startWebSocket(e, what, held)
	if err != nil {
		return err
	}
	defer c.close()
	conns := b.settings.Idle
	if err := sample.measure(c.child, conns, e.peer.Goroutines, c.worker.OpenMore); err != nil {
		return err
	}
	// All are still there if a message comes back on each.
	before := c.worker.Count()
	if err := c.worker.StartTurn(); err != nil {
		return err
	}
	time.Sleep(b.settings.Slice)
	if err := c.worker.StopTurn(); err != nil {
		return err
	}
	if answers := c.worker.Count() - before; answers < int64(conns+held) {
		return fmt.Errorf("%d answers on %d connections", answers, conns+held)
	}
	return nil
}

// webSocketLimits are the goals for ratios.
func (r *Result) webSocketLimits() (all []limit) {
	const others = "the best of the others"
	for _, c := range r.Settings.webSocketCases() {
		of := func(*Result) Case { return c }
		add := func(other, against string, most float64, ours ...string) {
			work := fmt.Sprintf("%s, %s", webSocketText(c), report.Plural(int64(c.Conns),
				"connection"))
			all = append(all, limit{work: work, of: of, to: of, ours: ours, other: other,
				most: most, against: against})
		}
		switch c.Work {
		case webSocketEcho:
			add(bestRival, others, 0.9, "whorl", "whorl-co")
		case webSocketBroadcast:
			add("gws", "gws's Broadcaster", 0.8, "whorl")
			add("raw", "one write(2) each", 2, "whorl")
		case webSocketHandshake:
			add("gorilla", "gorilla over net/http", 1, "whorl", "whorl-co")
		}
	}
	return all
}

// webSocketIdleGoals are those for heap and stack of an idle connection.
func (r *Result) webSocketIdleGoals() (all []finding) {
	const most = 800
	used := map[idleKind]float64{}
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			if row.name == "whorl" {
				used[row.idleKind] = row.used()
			}
		}
	}
	for _, kind := range idleKinds {
		if !kind.WebSocket {
			continue
		}
		most, goal := float64(most), fmt.Sprintf("≤ %d B of heap and stack", most)
		if kind.TLS {
			plain, tls := used[idleKind{}], used[idleKind{TLS: true}]
			most = used[idleKind{WebSocket: true}] + tls - plain
			goal = "≤ plaintext, and what TLS takes without WebSocket"
			if plain == 0 || tls == 0 {
				most = 0
			}
		}
		f := unmeasured(kind.String(), goal)
		if kind.TLS {
			all = append(all, compactWebSocket(r, kind))
		}
		if got := used[kind]; got > 0 && most > 0 {
			f.who, f.measured = "whorl", fmt.Sprintf("%.0f B", got)
			f.verdict = verdict(got <= most)
		}
		all = append(all, f)
	}
	return all
}

// compactWebSocket is the goal for a compact connection of wss.
func compactWebSocket(r *Result, kind idleKind) finding {
	const most = 1600
	f := unmeasured(kind.String()+", compact", fmt.Sprintf("≤ %d B of heap and stack", most))
	for _, rows := range r.idleRows() {
		for _, row := range rows {
			if row.idleKind == kind && row.name == "whorl"+compactSuffix {
				f.who, f.measured = row.name, fmt.Sprintf("%.0f B", row.used())
				f.verdict = verdict(row.used() <= most)
			}
		}
	}
	return f
}
