package websocket

import (
	"os"
	"sync"
	"time"
)

var errDeadline = os.ErrDeadlineExceeded

// A deadline is that of one direction of a net.Conn.
type deadline struct{ state *deadlineState }

type deadlineState struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when it has passed
	moved  chan struct{} // closed, and made anew, when it is set
}

func newDeadline() deadline {
	return deadline{&deadlineState{passed: make(chan struct{}), moved: make(chan struct{})}}
}

// wait returns a channel that is closed when the deadline has passed, and one that is closed when
// it is moved.
func (d deadline) wait() (passed, moved <-chan struct{}) {
	s := d.state
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passed, s.moved
}

func (d deadline) set(t time.Time) {
	s := d.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	passed := make(chan struct{})
	s.passed = passed
	close(s.moved)
	s.moved = make(chan struct{})
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(passed)
	default:
		s.timer = time.AfterFunc(left, func() { close(passed) })
	}
}

func (p *pipe) SetDeadline(t time.Time) error {
	p.rd.set(t)
	p.wr.set(t)
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.rd.set(t)
	return nil
}

func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.wr.set(t)
	return nil
}
