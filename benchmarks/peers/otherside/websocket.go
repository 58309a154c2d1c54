//go:build linux

package otherside

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

// WebSocket says which load is made for a WebSocket server. It is sent to its process, so it holds
// plain values only.
type WebSocket struct {
	Addr  string // the server's
	Does  WebSocketWork
	Conns int // to open before the process is ready
	Size  int // of messages, in bytes
	// Deflate has messages be compressed text, in JSON, without context takeover in either
	// direction; otherwise those that are to be sent back are binary.
	Deflate bool
	// Burst is how many broadcasts are asked for at a time.
	Burst int
	TLS   bool // whether connections begin with TLS: for those that idle
	// CA is PEM; the server has a certificate of it for ServerName.
	CA, ServerName string
	// Spin keeps the load's threads awake during a turn, see bench.GeneratorOptions.
	Spin bool
}

// WebSocketWork is what the load does in its turns.
type WebSocketWork string

const (
	// Trips has one message outstanding on each connection, which comes back.
	Trips WebSocketWork = "trips"
	// Broadcasts has one connection ask for broadcasts, and waits until all have got all of them.
	// What is counted is deliveries.
	Broadcasts WebSocketWork = "broadcasts"
	// Upgrades opens connections up to the response to the handshake, and resets them: so many at a
	// time as there are connections.
	Upgrades WebSocketWork = "upgrades"
)

// ServeWebSocket is that process, which works in turns and counts: it does what a WebSocket in JSON
// says. It is made of bare epoll loops, a thread each, and so takes as little as can be of what it
// shares with the server.
func ServeWebSocket(text []byte, control *child.Control) error {
	var c WebSocket
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("otherside: configuration: %w", err)
	}
	counters, err := child.OpenCounters()
	if err != nil {
		return err
	}
	l, err := newLoad(c, counters)
	if err != nil {
		return err
	}
	if err := l.Open(c.Conns); err != nil {
		return err
	}
	control.Handle(answerCommand, func(string) (any, error) { return l.answerLength(), nil })
	control.HandleTurns(l)
	control.Ready("")
	select {}
}

const answerCommand = "answer"

// AnswerLength returns how long the answers were that a load of Trips has got, in bytes.
func AnswerLength(c *child.Child) (mean float64, err error) {
	return mean, c.Command(answerCommand, &mean)
}

// load is all connections to a server.
type load struct {
	config   WebSocket
	to       *unix.SockaddrInet4
	messages []outgoing
	pace     *pace // of broadcasts
	loops    []*loop
	secure   []*secureConn
	counter  *atomic.Int64 // for secure
	over     atomic.Bool   // the turn is to end
	failed   atomic.Bool   // a loop has an error: the others don't wait for what it doesn't do
	running  sync.WaitGroup
	opened   int
}

// A loop is a thread with connections.
type loop struct {
	load    *load
	epoll   int
	conns   map[int32]*wireConn
	slots   int // of Upgrades
	begun   int // of them
	counter *atomic.Int64
	in      [64 << 10]byte
	err     error // of the last turn
}

func newLoad(c WebSocket, counters *child.Counters) (*load, error) {
	at, err := net.ResolveTCPAddr("tcp4", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("otherside: %w", err)
	}
	l := &load{config: c, to: &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())},
		counter: &counters.Of(0).Int64}
	if l.messages, err = messagesOf(c); err != nil {
		return nil, err
	}
	if c.Does == Broadcasts {
		l.pace = newPace(l.messages, c.Burst)
	}
	for i := range runtime.GOMAXPROCS(0) {
		p := &loop{load: l, conns: map[int32]*wireConn{}, counter: &counters.Of(i).Int64}
		if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return nil, err
		}
		l.loops = append(l.loops, p)
	}
	return l, nil
}

// Open opens n connections, on each of which a message has come back when it returns.
func (l *load) Open(n int) error {
	switch {
	case l.config.Does == Upgrades:
		for i := range n {
			l.loops[i%len(l.loops)].slots++
		}
		return nil
	case l.config.TLS:
		return l.openSecure(n)
	}
	for range n {
		p := l.loops[l.opened%len(l.loops)]
		if err := p.open(l.opened); err != nil {
			return fmt.Errorf("otherside: connection %d: %w", l.opened, err)
		}
		l.opened++
	}
	return nil
}

// Start begins a turn. However short that is, on each connection comes back one message more.
func (l *load) Start() error {
	l.over.Store(false)
	if len(l.secure) > 0 {
		return l.tripsSecure()
	}
	if l.pace != nil {
		if err := l.pace.begin(l); err != nil {
			return err
		}
	}
	for _, p := range l.loops {
		l.running.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if p.err = p.turn(); p.err != nil {
				l.failed.Store(true)
			}
		})
	}
	return nil
}

// Stop ends a turn.
func (l *load) Stop() error {
	l.over.Store(true)
	l.running.Wait()
	var errs []error
	for _, p := range l.loops {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

func (l *load) answerLength() float64 {
	sum, count := 0, 0
	for i := range l.messages {
		if answer := l.messages[i].answer.Load(); answer != nil {
			sum, count = sum+len(*answer), count+1
		}
	}
	return float64(sum) / float64(max(1, count))
}

// turn does the loop's part of a turn, and waits for what is outstanding at its end.
func (p *loop) turn() error {
	outstanding, err := p.begin()
	if err != nil {
		return err
	}
	wait := 10 // ms
	if p.load.config.Spin {
		wait = 0
	}
	var events [256]unix.EpollEvent
	var late time.Time
	for outstanding > 0 || p.load.pace != nil {
		if p.load.failed.Load() {
			return nil
		}
		if p.load.over.Load() {
			if p.load.pace != nil && p.load.pace.ended() {
				return nil
			}
			if late.IsZero() {
				late = time.Now().Add(answerTimeout)
			} else if time.Now().After(late) {
				return fmt.Errorf("otherside: %d answers are missing", outstanding)
			}
		}
		n, err := unix.EpollWait(p.epoll, events[:], wait)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(0, n)] {
			ended, err := p.ready(e)
			if err != nil {
				return err
			}
			outstanding -= ended
		}
	}
	return nil
}

// begin has each connection do its first, and returns how many will end.
func (p *loop) begin() (outstanding int, err error) {
	switch p.load.config.Does {
	case Upgrades:
		for range p.slots {
			if err := p.connect(); err != nil {
				return 0, err
			}
		}
		return p.slots, nil
	case Trips:
		for _, c := range p.conns {
			if err := p.send(c); err != nil {
				return 0, err
			}
		}
		return len(p.conns), nil
	}
	return 0, nil
}

// ready does what there is to be done for a connection, and returns 1 if it does no more in this
// turn.
func (p *loop) ready(e unix.EpollEvent) (ended int, err error) {
	c := p.conns[e.Fd]
	if c == nil {
		return 0, nil
	}
	switch p.load.config.Does {
	case Upgrades:
		return p.upgrade(c, e)
	case Broadcasts:
		return 0, p.delivered(c)
	}
	return p.trip(c)
}
