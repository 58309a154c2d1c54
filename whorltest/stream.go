package whorltest

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// patience is how long the suite waits for what has to happen before it calls it a failure.
const patience = 30 * time.Second

// pause is given to an operation to begin waiting, which can't be seen from outside. Where it is
// too short, a test says less, but holds.
const pause = 20 * time.Millisecond

// TestStream runs the suite, each test on a pair of its own, which makePair makes as for
// nettest.TestConn: stop closes both ends, may be called when they are closed already, and must
// wake who waits in them. What an end may have beyond net.Conn is tested if it is there: CloseWrite
// and CloseRead, io.ReaderFrom, io.WriterTo, SyscallConn.
//
// spawn starts the suite's parties: it calls party elsewhere, in a coroutine, for one, and doesn't
// wait for it. nil is a goroutine for each. A party makes the pair, another one reads, and so on;
// parties wait in the connection and nowhere else.
func TestStream(t *testing.T, makePair nettest.MakePipe, spawn func(party func())) {
	if spawn == nil {
		spawn = func(party func()) { go party() }
	}
	for _, group := range [][]test{transferTests, endTests, deadlineTests, concurrencyTests} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) { run(t, makePair, spawn, test.run) })
		}
	}
}

type test struct {
	name string
	run  func(*pair)
}

// pair is what one test works with. Its methods are for the test's goroutine, not for parties.
type pair struct {
	*testing.T
	make    nettest.MakePipe
	spawn   func(party func())
	a, b    net.Conn
	parties []*party
}

// party is one of those who act in a test.
type party struct {
	what  string
	ended chan error // has room for one
}

// run runs one test, and sees to it that its parties end with it.
func run(t *testing.T, makePair nettest.MakePipe, spawn func(func()), test func(*pair)) {
	p := &pair{T: t, make: makePair, spawn: spawn}
	var stop func()
	p.a, p.b, stop = p.connect()
	defer func() {
		stop()
		for _, party := range p.parties {
			select {
			case <-party.ended:
			case <-time.After(patience):
				t.Errorf("%s hasn't ended %v after everything was closed", party.what, patience)
			}
		}
	}()
	test(p)
}

// connect makes a pair.
func (p *pair) connect() (a, b net.Conn, stop func()) {
	p.Helper()
	p.start("making the pair", func() (err error) {
		a, b, stop, err = p.make()
		return err
	}).succeed(p)
	return a, b, stop
}

// start has fn run by a party.
func (p *pair) start(what string, fn func() error) *party {
	party := &party{what: what, ended: make(chan error, 1)}
	p.parties = append(p.parties, party)
	p.spawn(func() {
		err := fmt.Errorf("%s was left by runtime.Goexit or a panic", what)
		defer func() { party.ended <- err }()
		err = fn()
	})
	return party
}

// wait waits for the party's end and returns its error.
func (party *party) wait(p *pair) error {
	p.Helper()
	select {
	case err := <-party.ended:
		party.ended <- err // for who asks again
		return err
	case <-time.After(patience):
		stacks := make([]byte, 256<<10)
		p.Fatalf(
			"%s hasn't ended after %v\n\n%s",
			party.what,
			patience,
			stacks[:runtime.Stack(stacks, true)],
		)
		return nil
	}
}

// succeed waits for the party's end, which must be without an error.
func (party *party) succeed(p *pair) {
	p.Helper()
	if err := party.wait(p); err != nil {
		p.Fatalf("%s: %v", party.what, err)
	}
}

// do has fn run by a party, waits for it, and fails the test if it fails.
func (p *pair) do(what string, fn func() error) {
	p.Helper()
	p.start(what, fn).succeed(p)
}

// all runs several at once, and waits for all.
func (p *pair) all(parties map[string]func() error) {
	p.Helper()
	started := make([]*party, 0, len(parties))
	for what, fn := range parties {
		started = append(started, p.start(what, fn))
	}
	for _, party := range started {
		party.succeed(p)
	}
}

// waiting runs fn in a party and returns when it has had time to begin waiting.
func (p *pair) waiting(what string, fn func() error) *party {
	p.Helper()
	began := make(chan struct{})
	party := p.start(what, func() error {
		close(began)
		return fn()
	})
	select {
	case <-began:
	case <-time.After(patience):
		p.Fatalf("%s hasn't begun after %v", what, patience)
	}
	time.Sleep(pause)
	return party
}

// deadline is the latest time for what has to happen.
func (p *pair) deadline() time.Time { return time.Now().Add(patience) }
