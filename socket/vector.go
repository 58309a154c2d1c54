package socket

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"github.com/whorl-go/whorl/runtime"
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

// vectorLen returns how many bytes the buffers have in all.
func vectorLen(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// vector runs one of the calls below with the buffers checked and the lock of kind held.
func (s *Socket) vector(op string, kind uint32, bufs [][]byte, call func(f *fd) (int, error)) (int, error) {
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

// ReadVector receives once, into several buffers in turn (readv(2)), and returns how many bytes came in all. None of the buffers may be empty.
func (s *Socket) ReadVector(ctx context.Context, bufs [][]byte) (int, error) {
	return s.vector("readv", reading, bufs, func(f *fd) (int, error) { return s.readVector(ctx, f, bufs, new(runtime.Deadline)) })
}

// readVector reads once. Bytes that were read ahead, and those of TLS, come buffer by buffer.
func (s *Socket) readVector(ctx context.Context, f *fd, bufs [][]byte, deadline *runtime.Deadline) (int, error) {
	if s.secure.Load() != nil || len(s.in.unread()) > 0 {
		return s.recv(ctx, f, bufs[0], deadline)
	}
	s.in.release()
	for {
		n, errno := sysReadv(f.number, bufs)
		switch {
		case errno == 0 && n == 0 && !f.datagrams:
			return 0, io.EOF
		case errno == 0:
			runtime.Spend(ctx, n)
			f.rd.drained = false
			return n, nil
		case errno == syscall.EINTR, errno == syscall.EAGAIN && f.stoppedShort():
			continue
		case errno != syscall.EAGAIN:
			return 0, callError("readv", errno)
		}
		if err := f.waitRead(ctx, deadline, s.timeouts.Read); err != nil {
			return 0, err
		}
	}
}

// ReadVectorAll receives until all the buffers are full. Its errors are those of RecvAll.
func (s *Socket) ReadVectorAll(ctx context.Context, bufs [][]byte) (int, error) {
	return s.vector("readv", reading, bufs, func(f *fd) (int, error) {
		var deadline runtime.Deadline
		return s.eachVector("readv", bufs, func(rest [][]byte) (int, error) { return s.readVector(ctx, f, rest, &deadline) })
	})
}

// WriteVector sends once, from several buffers in turn (writev(2)), and returns how many bytes went in all. None of the buffers may be empty.
func (s *Socket) WriteVector(ctx context.Context, bufs [][]byte) (int, error) {
	runtime.Spend(ctx, vectorLen(bufs))
	return s.vector("writev", writing, bufs, func(f *fd) (int, error) { return s.writeVector(ctx, f, bufs, new(runtime.Deadline)) })
}

func (s *Socket) writeVector(ctx context.Context, f *fd, bufs [][]byte, deadline *runtime.Deadline) (int, error) {
	if t := s.secure.Load(); t != nil {
		return t.send(ctx, f, bufs[0], deadline, s.timeouts.Write)
	}
	if err := f.drain(ctx, deadline, s.timeouts.Write); err != nil {
		return 0, err
	}
	for {
		n, errno := sysSendv(f.number, bufs)
		var err error
		switch errno {
		case 0:
			return n, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			err = errWait
		case syscall.ENOBUFS:
			err = errNoBuffers
		default:
			return 0, callError("sendmsg", errno)
		}
		if err := f.waitWrite(ctx, err, deadline, s.timeouts.Write); err != nil {
			return 0, err
		}
	}
}

// WriteVectorAll sends all of the buffers. Its results are those of SendAll.
func (s *Socket) WriteVectorAll(ctx context.Context, bufs [][]byte) (int, error) {
	runtime.Spend(ctx, vectorLen(bufs))
	return s.vector("writev", writing, bufs, func(f *fd) (int, error) {
		var deadline runtime.Deadline
		return s.eachVector("writev", bufs, func(rest [][]byte) (int, error) { return s.writeVector(ctx, f, rest, &deadline) })
	})
}

// eachVector calls op until all of the buffers are done.
func (s *Socket) eachVector(name string, bufs [][]byte, op func(rest [][]byte) (int, error)) (int, error) {
	rest := make([][]byte, len(bufs)) // ours to cut
	copy(rest, bufs)
	total := 0
	for len(rest) > 0 {
		n, err := op(rest)
		total += n
		for len(rest) > 0 && n >= len(rest[0]) {
			n -= len(rest[0])
			rest = rest[1:]
		}
		if n > 0 {
			rest[0] = rest[0][n:]
		}
		if err == io.EOF && total > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return total, s.fail(name, err)
		}
	}
	return total, nil
}
