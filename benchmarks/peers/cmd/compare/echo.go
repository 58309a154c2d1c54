//go:build linux

package main

import "fmt"

// echo measures the servers.
func (b *bench) echo(r *Result) error {
	s := b.settings
	for _, tls := range b.transports() {
		for _, size := range s.Sizes {
			for _, conns := range s.Conns {
				what := Case{Work: echoWork, TLS: tls, Size: size, Conns: conns}
				for round := range s.Rounds {
					of, err := b.echoRound(what, round)
					if err != nil {
						return err
					}
					progress("%v: round %d of %d", what, round+1, s.Rounds)
					r.Samples = append(r.Samples, of...)
				}
			}
		}
	}
	return nil
}

// echoRound starts all servers, connects to them, and lets them take turns.
func (b *bench) echoRound(what Case, round int) (samples []Sample, err error) {
	var all []*contestant
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	for _, e := range b.with(what.TLS, round) {
		server, err := b.start(e, what.TLS, max(what.Size, idleBuffer))
		if err != nil {
			return nil, err
		}
		c := &contestant{Case: what, name: e.label, child: server}
		all = append(all, c)
		generator, err := b.dial(server, what.Conns, what.Conns, what.Size, what.TLS)
		if err != nil {
			return nil, fmt.Errorf("compare: %s: %w", e.label, err)
		}
		c.worker, c.otherSide = generator, generator
	}
	return b.takeTurns(all, round)
}
