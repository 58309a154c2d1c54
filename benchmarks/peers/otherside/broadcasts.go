//go:build linux

package otherside

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
)

// pace is what the loops share while there are broadcasts: when the last delivery of a burst has
// come, the next one is asked for.
type pace struct {
	bursts  [2]burst // in turn
	turn    atomic.Int64
	left    atomic.Int64 // deliveries
	members int
	asks    int32 // the descriptor of the connection that asks

	mu   sync.Mutex
	over bool // guarded by mu: nothing is asked for any more
}

// A burst is messages that are broadcast together.
type burst struct {
	asked   []byte // as the frames of a client
	pattern []byte // as each connection gets them
	frame   int    // the length of each of them
	count   int
}

var errBroadcast = errors.New("otherside: a connection has got what wasn't broadcast, or not then")

func newPace(messages []outgoing, count int) *pace {
	p := new(pace)
	for i := range p.bursts {
		b := &p.bursts[i]
		for n := range count {
			// They differ from their neighbours, so that order can be told.
			m := &messages[(i+2*n)%len(messages)]
			b.asked = append(b.asked, m.frame...)
			frame := ws.MustCompileFrame(ws.NewTextFrame(m.payload))
			b.pattern, b.frame = append(b.pattern, frame...), len(frame)
		}
		b.count = count
	}
	return p
}

// begin asks for the first burst of a turn.
func (p *pace) begin(l *load) error {
	p.members = l.opened
	for fd := range l.loops[0].conns {
		p.asks = fd
		break
	}
	p.over = false
	return p.ask()
}

func (p *pace) ask() error {
	p.turn.Add(1)
	b := p.current()
	p.left.Store(int64(b.count * p.members))
	return write(p.asks, b.asked)
}

// goOn follows the last delivery of a burst.
func (p *pace) goOn() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	return p.ask()
}

func (p *pace) current() *burst { return &p.bursts[p.turn.Load()%2] }

// ended says whether nothing is to come, when the turn is to end. Nothing is asked for then.
func (p *pace) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	return p.left.Load() == 0
}

// delivered takes what has come of a burst.
func (p *loop) delivered(c *wireConn) error {
	n, err := p.read(c, 0)
	if n == 0 || err != nil {
		return err
	}
	all := p.load.pace
	b := all.current()
	if c.got+n > len(b.pattern) || !bytes.Equal(p.in[:n], b.pattern[c.got:c.got+n]) {
		return errBroadcast
	}
	messages := (c.got+n)/b.frame - c.got/b.frame
	if c.got += n; c.got == len(b.pattern) {
		c.got = 0
	}
	p.counter.Add(int64(messages))
	if messages > 0 && all.left.Add(-int64(messages)) == 0 {
		return all.goOn()
	}
	return nil
}
