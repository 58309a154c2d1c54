package socket

import (
	"context"
	"syscall"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
)

// What a net.Conn promises beyond the verbs of a Socket; package hooks is the user of these.

func (i *inner) RecvUntil(limit house.Limit, p []byte) (int, error) {
	s := (*Socket)(i)
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n := s.take(p)
		if n > 0 {
			sched.Spend(context.Background(), n)
			return n, nil
		}
		if n, err = s.tryRecv(f, p); err != errWait {
			sched.Spend(context.Background(), n)
			return n, s.fail("recv", err)
		}
		f.flushPending()
		if err := f.waitUntil(limit); err != nil {
			return 0, s.fail("recv", err)
		}
	}
}

func (i *inner) Interrupt() {
	s := (*Socket)(i)
	f := s.conn.Load()
	if f == nil {
		return
	}
	if w := f.rd.slot.Load(); w != nil && w != &edge && f.rd.slot.CompareAndSwap(w, nil) {
		w.Wake()
	}
}

func (i *inner) SendExact(ctx context.Context, p []byte) (int, error) {
	s := (*Socket)(i)
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("send", err)
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("send", err)
	}
	defer f.leave(writing)
	t := s.secure.Load()
	if t == nil {
		n, err := f.send(ctx, p, s.patience())
		return n, s.fail("send", err)
	}
	sent := 0
	for sent < len(p) {
		if err := f.drain(ctx, s.patience()); err != nil {
			return sent, s.fail("send", err)
		}
		n, err := t.enqueue(p[sent:min(len(p), sent+piece)])
		sent += n
		if err == nil {
			err = f.flush()
		}
		if err == errNoBuffers { // for which there is no event
			err = f.drain(ctx, s.patience())
		}
		if err != nil && err != errWait {
			return sent, s.fail("send", err)
		}
		if sent < len(p) {
			// A peer that always has room must not keep the loop from the others.
			sched.Spend(ctx, 0)
		}
	}
	return sent, nil
}

func (i *inner) OnOpen(fn func(number uintptr) error) error {
	s := (*Socket)(i)
	if !s.keepOption(option{set: func(number int) error { return fn(uintptr(number)) }}) {
		return s.fail("set option", ErrConnected)
	}
	return nil
}

func (i *inner) Control(fn func(number uintptr)) error {
	s := (*Socket)(i)
	f, err := s.acquire(using)
	if err != nil {
		return s.fail("control", err)
	}
	defer f.leave(using)
	fn(uintptr(f.number))
	return nil
}

func (i *inner) RawRead(ctx context.Context, fn func(number uintptr) bool) error {
	s := (*Socket)(i)
	f, err := s.acquire(reading)
	if err != nil {
		return s.fail("recv", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		f.rd.drained = false // fn may leave something, and tells nobody
		if !fn(uintptr(f.number)) {
			return errWait
		}
		return nil
	})
	return s.fail("recv", err)
}

func (i *inner) RawWrite(ctx context.Context, fn func(number uintptr) bool) error {
	s := (*Socket)(i)
	f, err := s.acquire(writing)
	if err != nil {
		return s.fail("send", err)
	}
	defer f.leave(writing)
	if s.secure.Load() != nil {
		return s.fail("send", syscall.EPROTONOSUPPORT)
	}
	if err := f.drain(ctx, s.patience()); err != nil {
		return s.fail("send", err)
	}
	_, err = f.transmit(ctx, s.patience(), func() (int, error) {
		if !fn(uintptr(f.number)) {
			return 0, errWait
		}
		return 0, nil
	})
	return s.fail("send", err)
}
