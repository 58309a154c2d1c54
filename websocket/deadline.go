package websocket

import (
	"sync"
	"time"
)

// A deadline is that of one direction of a net.Conn.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when it has passed
	moved  chan struct{} // closed, and made anew, when it is set
}

func newDeadline() *deadline {
	return &deadline{passed: make(chan struct{}), moved: make(chan struct{})}
}

// wait returns a channel that is closed when the deadline has passed, and one that is closed when
// it is moved.
func (d *deadline) wait() (passed, moved <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed, d.moved
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	passed := make(chan struct{})
	d.passed = passed
	close(d.moved)
	d.moved = make(chan struct{})
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(passed)
	default:
		d.timer = time.AfterFunc(left, func() { close(passed) })
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
