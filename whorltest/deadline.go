package whorltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"
)

var deadlineTests = []test{
	{"DeadlineMovedEarlierWhileWaiting", testMovedEarlier},
	{"DeadlineMovedLaterWhileWaiting", testMovedLater},
	{"DeadlineForAllWhoWait", testDeadlineForAll},
	{"TimedOutReadsLoseNothing", testReadTimeouts},
	{"TimedOutWritesAreExact", testWriteTimeouts},
	{"DeadlinesMovedAtRandom", testRandomDeadlines},
}

var past = time.Unix(1, 0)

func wantTimeout(what string, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s: error is %v, want os.ErrDeadlineExceeded", what, err)
	}
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		return fmt.Errorf("%s: %T is not a net.Error that is a time-out", what, err)
	}
	return nil
}

// readInVain and writeInVain wait, and must time out.
func readInVain(conn net.Conn) func() error {
	return func() error {
		n, err := conn.Read(make([]byte, 10))
		if n != 0 {
			return fmt.Errorf("got %d bytes", n)
		}
		return wantTimeout("Read", err)
	}
}

func writeInVain(conn net.Conn) func() error {
	return func() error { return wantTimeout("Write", send(conn, "flood", 256<<20, 1<<20)) }
}

// From none to one that has passed, and from one far away to one that is near.
func testMovedEarlier(p *pair) {
	reader, writer := p.waiting(
		"reader without a deadline",
		readInVain(p.a),
	), p.waiting(
		"writer without a deadline",
		writeInVain(p.a),
	)
	p.a.SetDeadline(past)
	reader.succeed(p)
	writer.succeed(p)
	p.b.SetReadDeadline(time.Now().Add(time.Hour))
	// It reads what a's writer has sent, and then waits.
	drained := p.waiting("reader with a deadline far away", func() error {
		for buf := make([]byte, 64<<10); ; {
			if _, err := p.b.Read(buf); err != nil {
				return wantTimeout("Read", err)
			}
		}
	})
	p.b.SetReadDeadline(time.Now().Add(pause))
	drained.succeed(p)
}

// A reader goes on waiting beyond the deadline that it began with.
func testMovedLater(p *pair) {
	for wait := 5 * pause; ; wait *= 2 {
		deadline := time.Now().Add(wait)
		p.a.SetReadDeadline(deadline)
		reader := p.waiting("reader", func() error { return receive(p.a, "late", 100, 100) })
		p.a.SetReadDeadline(time.Time{})
		if time.Now().Before(deadline) {
			time.Sleep(time.Until(deadline) + pause)
			p.do("writer", func() error { return send(p.b, "late", 100, 100) })
			reader.succeed(p)
			return
		}
		// The machine was too slow: the deadline may have passed before it was moved.
		p.do("writer", func() error { return send(p.b, "late", 100, 100) })
		if err := reader.wait(p); err == nil {
			return
		} else if err := wantTimeout("Read", err); err != nil {
			p.Fatal(err)
		}
		p.a.SetReadDeadline(time.Time{})
		p.do("reading what was late", func() error { return receive(p.a, "late", 100, 100) })
	}
}

// A deadline counts for those, too, who wait for others to be done.
func testDeadlineForAll(p *pair) {
	var waiting []*party
	for range 4 {
		waiting = append(
			waiting,
			p.waiting("reader", readInVain(p.a)),
			p.waiting("writer", writeInVain(p.a)),
		)
	}
	p.a.SetDeadline(time.Now().Add(pause))
	for _, party := range waiting {
		party.succeed(p)
	}
}

// A reader with deadlines that are always too short gets every byte, once.
func testReadTimeouts(p *pair) {
	const total = 64 << 10
	p.all(map[string]func() error{
		"writer": func() error { return send(p.a, "bit by bit", total, 200) },
		"reader": func() error {
			c := newChecker("bit by bit")
			buf := make([]byte, 1000)
			for i := 0; c.n < total; i++ {
				p.b.SetReadDeadline(time.Now().Add(time.Duration(i%5) * 20 * time.Microsecond))
				n, err := p.b.Read(buf)
				if _, wrong := c.Write(buf[:n]); wrong != nil {
					return wrong
				}
				if err != nil {
					if err := wantTimeout("Read", err); err != nil {
						return err
					}
					if i%100 == 0 { // lest the deadlines leave it no time at all
						p.b.SetReadDeadline(p.deadline())
						n, err := p.b.Read(buf[:1])
						if _, wrong := c.Write(buf[:n]); wrong != nil || err != nil {
							return errors.Join(wrong, err)
						}
					}
				}
			}
			return nil
		},
	})
}

// A Write that times out says how much is on its way: who writes on from there sends each byte
// once. A transport that can't say so, as crypto/tls, must refuse every further Write, and have
// sent nothing wrong. Nor may it take any amount when nobody reads.
func testWriteTimeouts(p *pair) {
	const bound, piece = 128 << 20, 300_000
	from := newSource("exact")
	sent, rest := 0, from.take(piece)
	p.do("writer that nobody listens to", func() error {
		for timeouts := 0; timeouts < 5; {
			p.a.SetWriteDeadline(time.Now().Add(pause / 2))
			n, err := p.a.Write(rest)
			sent, rest = sent+n, rest[n:]
			switch {
			case err != nil:
				if err := wantTimeout("Write", err); err != nil {
					return err
				}
				timeouts++
			case len(rest) > 0:
				return fmt.Errorf("%d bytes were left without an error", len(rest))
			case sent > bound:
				return fmt.Errorf("%d bytes were taken while nobody reads", sent)
			default:
				rest = from.take(piece)
			}
		}
		return nil
	})
	var got checker
	reader := p.start("reader", func() error {
		got = *newChecker("exact")
		for buf := make([]byte, 1<<20); ; {
			n, err := p.b.Read(buf)
			if _, wrong := got.Write(buf[:n]); wrong != nil {
				return wrong
			}
			if err != nil {
				return nil // the writer has closed, if need be in the middle
			}
		}
	})
	refused := false
	p.do("writer that goes on", func() error {
		p.a.SetWriteDeadline(time.Time{})
		rest = append(rest, from.take(piece)...)
		n, err := p.a.Write(rest)
		sent += n
		refused = err != nil
		return p.a.Close()
	})
	reader.succeed(p)
	if !refused && got.n != sent {
		p.Errorf("%d bytes were said to be on their way, %d have arrived", sent, got.n)
	}
}

// Deadlines that come and go while both ends send and receive change nothing in the streams.
func testRandomDeadlines(p *pair) {
	const total = 2 << 20
	var done atomic.Bool
	mover := p.start("who moves the deadlines", func() error {
		random := rand.New(newSource("deadlines").ChaCha8)
		for !done.Load() {
			conn := []net.Conn{p.a, p.b}[random.IntN(2)]
			at := time.Time{}
			if random.IntN(2) == 0 {
				at = time.Now().Add(time.Duration(random.IntN(200)) * time.Microsecond)
			}
			if err := conn.SetReadDeadline(at); err != nil {
				return err
			}
			// It goes through the connection, so that a party that must not hold its loop lets
			// others run.
			if _, err := conn.Write(nil); err != nil {
				return err
			}
		}
		return errors.Join(p.a.SetReadDeadline(time.Time{}), p.b.SetReadDeadline(time.Time{}))
	})
	reader := func(conn net.Conn, name string) func() error {
		return func() error {
			c := newChecker(name)
			for buf := make([]byte, 20_000); c.n < total; {
				n, err := conn.Read(buf)
				if _, wrong := c.Write(buf[:n]); wrong != nil {
					return wrong
				}
				if err != nil {
					if err := wantTimeout("Read", err); err != nil {
						return err
					}
					conn.SetReadDeadline(time.Time{})
				}
			}
			return nil
		}
	}
	p.all(map[string]func() error{
		"a's writer": func() error { return send(p.a, "a to b", total, 50_000) },
		"b's writer": func() error { return send(p.b, "b to a", total, 50_000) },
		"a's reader": reader(p.a, "b to a"),
		"b's reader": reader(p.b, "a to b"),
	})
	done.Store(true)
	mover.succeed(p)
}
