//go:build linux

// Package load makes the load for the servers that are compared: connections with one message outstanding on each, so that a server's answer brings the
// next message (a closed loop). It is the same for every server.
//
// # Theory of operation
//
// What the generator does must not decide what is measured. So it does as little as it can: an epoll per thread, a read and a write per message, no allocation,
// no goroutine per connection, and TLS by crypto/tls over the bare descriptor. Its threads can be bound to CPUs of their own. A server
// that isn't busy all the time has then waited for the generator, and the report tells that.
//
// It is not too simple to notice a server that cheats or fails: the first message on each connection is compared byte by byte, all later ones by
// their length and their first eight bytes, which number them. In the end every message must have come back.
package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what to generate.
type Options struct {
	Addr  netip.AddrPort // IPv4
	Conns int
	Size  int         // bytes per message, MinSize at least
	TLS   *tls.Config // nil for plaintext
	Loops int         // threads, 1 if 0
	CPUs  *unix.CPUSet
	// Spin keeps the threads awake while they wait. A thread that sleeps has to be woken by the server, inside its write: that costs the server about a
	// microsecond (an interrupt to another CPU), the more often the slower it is, and tells nothing about servers whose clients are elsewhere. Threads that spin need
	// CPUs of their own.
	Spin bool
	// Patience bounds everything that waits for the server: 30 s if 0.
	Patience time.Duration
}

// Generator holds connections to a server. Its methods are for one goroutine at a time.
type Generator struct {
	loops   []*loop
	wg      sync.WaitGroup
	running bool
}

const (
	// perSource is how many connections one source address makes: fewer than there are ports by default (32768 to 60999).
	perSource = 20000
	// dialers is how many connections are set up at a time. A TLS handshake keeps both sides busy in turn, so with two neither waits.
	dialers = 2
)

// Dial opens the connections and sends one message on each. It returns when all came back whole.
func Dial(o Options) (*Generator, error) {
	if o.Size < MinSize || o.Conns < 1 || !o.Addr.Addr().Is4() {
		return nil, fmt.Errorf("load: %d connections to %v with messages of %d bytes: nothing that can be done", o.Conns, o.Addr, o.Size)
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	g := &Generator{}
	for range min(max(o.Loops, 1), o.Conns) {
		l, err := newLoop(o)
		if err != nil {
			g.Close()
			return nil, err
		}
		g.loops = append(g.loops, l)
	}
	if err := g.open(o); err != nil {
		g.Close()
		return nil, err
	}
	for _, l := range g.loops {
		if err := l.watch(); err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

func (g *Generator) open(o Options) error {
	conns := make([]*conn, o.Conns)
	errs := make([]error, dialers)
	var wg sync.WaitGroup
	for d := range dialers {
		wg.Go(func() {
			for i := d; i < len(conns) && errs[d] == nil; i += dialers {
				conns[i], errs[d] = dial(o, source(i))
			}
		})
	}
	wg.Wait()
	for i, c := range conns {
		if c != nil {
			l := g.loops[i%len(g.loops)]
			l.conns = append(l.conns, c)
		}
	}
	return errors.Join(errs...)
}

// source returns the address from which the nth connection is made: 127.0.0.2 and those that follow.
func source(n int) [4]byte {
	host := n/perSource + 2
	return [4]byte{127, byte(host >> 16), byte(host >> 8), byte(host)}
}

// Start sends a message on every connection, and sends on until Stop. It may be called again after Stop.
func (g *Generator) Start() {
	g.running = true
	var begun sync.WaitGroup
	for _, l := range g.loops {
		l.stop.Store(false)
		begun.Add(1)
		g.wg.Go(func() { l.run(begun.Done) })
	}
	begun.Wait()
}

// Messages returns how many messages have come back in all.
func (g *Generator) Messages() (n uint64) {
	for _, l := range g.loops {
		n += l.messages.Load()
	}
	return n
}

// CPU returns the CPU time that the generator's threads have used since Start. It fails when a loop has ended, for which Stop tells the reason.
func (g *Generator) CPU() (total time.Duration, err error) {
	for _, l := range g.loops {
		cpu, err := l.cpu()
		if err != nil {
			return 0, err
		}
		total += cpu
	}
	return total, nil
}

// Stop ends what Start began: it waits for the messages that are outstanding. It returns what went wrong since Start, a message that didn't come back too.
func (g *Generator) Stop() error {
	if !g.running {
		return nil
	}
	g.running = false
	for _, l := range g.loops {
		l.stop.Store(true)
	}
	g.wg.Wait()
	var errs []error
	for _, l := range g.loops {
		errs = append(errs, l.err)
	}
	return errors.Join(errs...)
}

// Close stops, and resets the connections: thousands of ports in TIME_WAIT would be in the way of the next measurement.
func (g *Generator) Close() error {
	err := g.Stop()
	for _, l := range g.loops {
		l.close()
	}
	return err
}
