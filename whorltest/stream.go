package whorltest

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"
)

// MakePair makes two ends that are connected to each other. stop closes both, and whatever else belongs to them; it may be called when they are closed already, and must
// wake who waits in them. (It is what golang.org/x/net/nettest.MakePipe is.)
type MakePair func() (a, b net.Conn, stop func(), err error)

// An Option changes how TestStream tests.
type Option func(*config)

type config struct {
	spawn    func(party func())
	patience time.Duration
}

// Spawn has the suite's parties started by spawn, which calls party elsewhere and doesn't wait for it: in a coroutine, for one. A goroutine by default. A party makes the
// pair, another one reads, and so on; parties wait in the connection and nowhere else.
func Spawn(spawn func(party func())) Option { return func(c *config) { c.spawn = spawn } }

// Patience sets how long the suite waits for what has to happen before it calls it a failure; half a minute by default.
func Patience(d time.Duration) Option { return func(c *config) { c.patience = d } }

// pause is given to an operation to begin waiting, which can't be seen from outside. Where it is too short, a test says less, but holds.
const pause = 20 * time.Millisecond

// TestStream runs the suite, each test on a pair of its own. What an end may have beyond net.Conn is tested if it is there: CloseWrite and CloseRead, io.ReaderFrom,
// io.WriterTo, SyscallConn.
func TestStream(t *testing.T, makePair MakePair, options ...Option) {
	c := config{spawn: func(party func()) { go party() }, patience: 30 * time.Second}
	for _, option := range options {
		option(&c)
	}
	for _, group := range [][]test{transferTests, endTests, deadlineTests, concurrencyTests} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) { c.run(t, makePair, test.run) })
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
	config
	make    MakePair
	a, b    net.Conn
	parties []*party
}

// party is one of those who act in a test.
type party struct {
	what  string
	ended chan error // has room for one
}

// run runs one test, and sees to it that its parties end with it.
func (c config) run(t *testing.T, makePair MakePair, test func(*pair)) {
	p := &pair{T: t, config: c, make: makePair}
	var stop func()
	p.a, p.b, stop = p.connect()
	defer func() {
		stop()
		for _, party := range p.parties {
			select {
			case <-party.ended:
			case <-time.After(c.patience):
				t.Errorf("%s hasn't ended %v after everything was closed", party.what, c.patience)
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
	case <-time.After(p.patience):
		stacks := make([]byte, 256<<10)
		p.Fatalf("%s hasn't ended after %v\n\n%s", party.what, p.patience, stacks[:runtime.Stack(stacks, true)])
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
	case <-time.After(p.patience):
		p.Fatalf("%s hasn't begun after %v", what, p.patience)
	}
	time.Sleep(pause)
	return party
}

// deadline is the latest time for what has to happen.
func (p *pair) deadline() time.Time { return time.Now().Add(p.patience) }
