package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Read receives what there is, up to len(p) bytes, and waits until there is something. io.EOF says
// that the peer has closed its sending side; with TLS that it has said so, else it is
// socket.ErrTruncated, which is io.EOF too. On a datagram stream it receives one datagram, of which
// is lost what doesn't fit.
func (s *Stream) Read(ctx context.Context, p []byte) (int, error) {
	var n int
	err := s.receive(ctx, "read", func(ctx context.Context) (err error) {
		s.lines.Reset()
		n, err = s.socket.Recv(ctx, p)
		return err
	})
	return n, err
}

// receive runs an operation that receives, in the reader's direction, with the context that it may
// wait by.
func (s *Stream) receive(ctx context.Context, op string, do func(ctx context.Context) error) error {
	s.timedOut.Store(false)
	waited := ctx
	err := s.begin(ctx, &s.rd)
	if err == nil {
		defer s.rd.leave()
		if waited, err = s.patience(ctx); err == nil && waited == impatient {
			err = s.askKernel()
		}
		if err == nil {
			s.dry, s.partial = false, 0
			err = do(waited)
			s.countUnread()
		}
	}
	return s.received(op, waited, err)
}

// countUnread keeps how much has been read ahead, for the metadata. The caller has the reader's
// direction.
func (s *Stream) countUnread() { s.unread.Store(int64(s.socket.Buffered())) }

// askKernel has the next attempt to read ask the kernel, even if the loop hasn't seen yet that
// something has arrived. Who doesn't wait depends on that.
func (s *Stream) askKernel() error {
	return inner(s.socket).RawRead(impatient, func(uintptr) bool { return true })
}

// Write sends p and returns how much of it is on its way: all of it, unless there is an error. A
// stream that isn't blocking sends as much as there is room for, and returns ErrWouldBlock if there
// is none. After a time-out, writing on from p[n:] sends each byte once, with TLS too.
func (s *Stream) Write(ctx context.Context, p []byte) (int, error) {
	s.timedOut.Store(false)
	if err := s.begin(ctx, &s.wr); err != nil {
		return 0, s.outcome("write", ctx, err)
	}
	defer s.wr.leave()
	if s.cryptoEnded.Load() {
		return 0, s.fail("write", ErrCryptoEnded)
	}
	waited, err := s.patience(ctx)
	n := 0
	if err == nil {
		n, err = inner(s.socket).SendExact(waited, p)
	}
	if err = s.outcome("write", waited, err); err == ErrWouldBlock && n > 0 {
		err = nil
	}
	return n, err
}

// Gets receives a line, with its "\n", as PHP's fgets does: at most max bytes of it, so that a
// longer one comes in pieces. At the end of the stream it returns what is left, and then io.EOF.
// With any other error everything that has come stays for the next call; Select then reports the
// stream as readable when more has come, so that a client that sends half a line keeps nobody busy.
func (s *Stream) Gets(ctx context.Context, max int) (string, error) {
	return s.line(ctx, "gets", streamLines{ending: []byte{'\n'}, max: max, keep: true})
}

// GetLine receives what comes before ending, and drops ending, as PHP's stream_get_line does. If
// ending is not complete within max bytes it returns max bytes, and the rest comes with the next
// call. An empty ending stands for none: it returns max bytes. The end of the stream and errors are
// as with Gets.
func (s *Stream) GetLine(ctx context.Context, max int, ending string) (string, error) {
	return s.line(ctx, "get line", streamLines{ending: []byte(ending), max: max})
}

func (s *Stream) line(ctx context.Context, op string, want streamLines) (line string, err error) {
	if want.max <= 0 {
		return "", s.fail(op, errNoLength)
	}
	err = s.receive(ctx, op, func(ctx context.Context) error {
		s.lines.ask(want)
		pkt, err := s.socket.RecvPacket(ctx)
		line = string(pkt)
		if err != nil {
			s.partial = s.socket.Buffered()
		}
		return err
	})
	return line, err
}

var errNoLength = errors.New("the maximal length must be positive")

// streamLines finds lines in a stream: it is the packet.Framer of a stream's socket.
type streamLines struct {
	ending  []byte // none: only max counts
	max     int    // bytes, with ending
	keep    bool   // ending is part of the line
	scanned int    // how much of what is unread has no complete ending
}

// ask sets what the next packet is to be. What was scanned for the same ending needn't be again.
func (l *streamLines) ask(want streamLines) {
	if bytes.Equal(want.ending, l.ending) {
		want.scanned = l.scanned
	}
	*l = want
}

// Next is of packet.Framer.
func (l *streamLines) Next(data []byte, atEOF bool) (advance int, line []byte, err error) {
	window := data[:min(len(data), l.max)]
	if n := len(l.ending); n > 0 {
		from := min(max(l.scanned-n+1, 0), len(window))
		if i := bytes.Index(window[from:], l.ending); i >= 0 {
			l.scanned = 0
			end := from + i
			if l.keep {
				return end + n, window[:end+n], nil
			}
			return end + n, window[:end], nil
		}
		l.scanned = len(window)
	}
	if len(window) == l.max || atEOF && len(window) > 0 {
		l.scanned = 0
		return len(window), window, nil
	}
	return 0, nil, nil
}

// Want is of packet.Framer: how much is needed is never known.
func (l *streamLines) Want() int { return 0 }

// Reset is of packet.Framer.
func (l *streamLines) Reset() { l.scanned = 0 }

// copyBuffers are for Copy.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy sends to dst what it receives, until the end of this stream or until it was max bytes
// (negative: no limit), and returns how much that was. With an error nothing that was received is
// lost: what dst hasn't taken stays here, and the next Copy or Read gets it.
func (s *Stream) Copy(ctx context.Context, dst *Stream, max int64) (int64, error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	copied := int64(0)
	for max < 0 || copied < max {
		p := buf[:]
		if max >= 0 {
			p = p[:min(int64(len(p)), max-copied)]
		}
		sent := 0
		var writeErr error
		err := s.receive(ctx, "copy", func(waited context.Context) error {
			s.lines.Reset()
			n, err := s.look(waited, p)
			if err != nil {
				return err
			}
			sent, writeErr = dst.Write(ctx, p[:n])
			for taken := 0; taken < sent; { // they are all there
				n, err := s.socket.Recv(impatient, p[taken:sent])
				if taken += n; err != nil {
					return err
				}
			}
			return nil
		})
		copied += int64(sent)
		switch {
		case err == io.EOF:
			return copied, nil
		case err != nil:
			return copied, err
		case writeErr != nil:
			return copied, writeErr
		}
	}
	return copied, nil
}

// look copies what has arrived without taking it, and waits until there is something.
func (s *Stream) look(ctx context.Context, p []byte) (int, error) {
	deadline := sched.DeadlineAfter(time.Duration(s.timeout.Load()))
	for {
		n, err := s.socket.Peek(p)
		if !errors.Is(err, socket.ErrWouldBlock) || ctx == impatient {
			return n, err
		}
		if deadline.Passed() {
			return 0, runtime.ErrTimeout
		}
		waited := false
		err = inner(s.socket).RawRead(ctx, func(uintptr) bool {
			before := waited
			waited = true
			return before
		})
		if err != nil {
			return 0, err
		}
	}
}
