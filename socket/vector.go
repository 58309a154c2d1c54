package socket

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
)

// maxVector is how many buffers the vector calls take: the kernel's IOV_MAX.
const maxVector = 1024

func checkVector(bufs [][]byte) error {
	if len(bufs) == 0 || len(bufs) > maxVector {
		return fmt.Errorf("%d buffers, must be 1 to %d: %w", len(bufs), maxVector, syscall.EINVAL)
	}
	for i, b := range bufs {
		if len(b) == 0 {
			return fmt.Errorf("buffer %d is empty: %w", i, syscall.EINVAL)
		}
	}
	return nil
}

// vector runs one of the calls below with the buffers checked and the lock of kind held.
func (s *Socket) vector(
	op string, kind uint32, bufs [][]byte, call func(f *fd) (int, error),
) (int, error) {
	if err := checkVector(bufs); err != nil {
		return 0, s.fail(op, err)
	}
	f, err := s.acquire(kind)
	if err != nil {
		return 0, s.fail(op, err)
	}
	defer f.leave(kind)
	n, err := call(f)
	return n, s.fail(op, err)
}

// ReadVector receives once, into several buffers in turn (readv(2)), and returns how many bytes
// came in all. None of the buffers may be empty.
func (s *Socket) ReadVector(ctx context.Context, bufs [][]byte) (int, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("readv", err)
	}
	return s.vector("readv", reading, bufs, func(f *fd) (n int, err error) {
		err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
			n, err = s.tryReadVector(f, bufs)
			return err
		})
		return n, err
	})
}

// tryReadVector reads once. Bytes that were read ahead, and those of TLS, come buffer by buffer.
func (s *Socket) tryReadVector(f *fd, bufs [][]byte) (int, error) {
	if s.secure.Load() != nil || len(s.in.unread()) > 0 {
		return s.tryTake(f, bufs[0])
	}
	s.in.release()
	return f.tryReadv(bufs)
}

// tryReadv is tryRead into several buffers.
func (f *fd) tryReadv(bufs [][]byte) (int, error) {
	for {
		n, errno := sysReadv(f.number, bufs)
		switch {
		case errno == 0 && f.endOfInput(n, bufs[0]):
			return 0, io.EOF
		case errno == 0:
			f.rd.drained = false
			return n, nil
		case errno == syscall.EINTR, errno == syscall.EAGAIN && f.stoppedShort():
		case errno == syscall.EAGAIN:
			return 0, f.nothing()
		default:
			return 0, callError("readv", errno)
		}
	}
}

// ReadVectorAll receives until all the buffers are full. Its errors are those of RecvAll.
func (s *Socket) ReadVectorAll(ctx context.Context, bufs [][]byte) (int, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("readv", err)
	}
	return s.vector("readv", reading, bufs, func(f *fd) (int, error) {
		rest := newVector(bufs)
		err := f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
			for len(rest.bufs) > 0 {
				n, err := s.tryReadVector(f, rest.bufs)
				rest.advance(n)
				if err != nil {
					return err
				}
				if len(rest.bufs) > 0 {
					sched.Spend(ctx, n)
				}
			}
			return nil
		})
		if err == io.EOF && rest.done > 0 {
			err = io.ErrUnexpectedEOF
		}
		return rest.done, err
	})
}

// WriteVector sends once, from several buffers in turn (writev(2)), and returns how many bytes went
// in all. None of the buffers may be empty.
func (s *Socket) WriteVector(ctx context.Context, bufs [][]byte) (int, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("writev", err)
	}
	return s.vector("writev", writing, bufs, func(f *fd) (int, error) {
		return s.writeVector(ctx, f, bufs)
	})
}

func (s *Socket) writeVector(ctx context.Context, f *fd, bufs [][]byte) (int, error) {
	if t := s.secure.Load(); t != nil {
		return t.send(ctx, f, bufs[0], s.patience())
	}
	if err := f.drain(ctx, s.patience()); err != nil {
		return 0, err
	}
	return f.transmit(ctx, s.patience(), func() (int, error) { return f.trySendv(bufs) })
}

// trySendv is trySend from several buffers.
func (f *fd) trySendv(bufs [][]byte) (int, error) {
	for {
		n, errno := sysSendv(f.number, bufs)
		if errno != syscall.EINTR {
			return n, sendError("sendmsg", errno)
		}
	}
}

// WriteVectorAll sends all of the buffers. Its results are those of SendAll.
func (s *Socket) WriteVectorAll(ctx context.Context, bufs [][]byte) (int, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("writev", err)
	}
	return s.vector("writev", writing, bufs, func(f *fd) (int, error) {
		rest := newVector(bufs)
		for len(rest.bufs) > 0 {
			n, err := s.writeVector(ctx, f, rest.bufs)
			rest.advance(n)
			if err != nil {
				return rest.done, err
			}
			if len(rest.bufs) > 0 {
				sched.Spend(ctx, n)
			}
		}
		return rest.done, nil
	})
}

// vector is what is left of several buffers that are worked off from the first on.
type vector struct {
	bufs [][]byte
	done int // bytes
}

func newVector(bufs [][]byte) *vector {
	return &vector{bufs: append([][]byte(nil), bufs...)} // the slices are ours to cut
}

// advance takes n bytes off.
func (v *vector) advance(n int) {
	v.done += n
	for len(v.bufs) > 0 && n >= len(v.bufs[0]) {
		n -= len(v.bufs[0])
		v.bufs = v.bufs[1:]
	}
	if n > 0 {
		v.bufs[0] = v.bufs[0][n:]
	}
}
