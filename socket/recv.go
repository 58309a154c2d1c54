package socket

import (
	"bytes"
	"context"
	"io"
	"net"
	"syscall"

	"github.com/whorl-go/whorl/runtime"
)

// Recv receives what there is, up to len(p) bytes, and waits until there is something. It returns io.EOF when the peer has closed its sending
// side. Bytes that Peek, RecvLine or RecvPacket have read ahead come first. On a datagram socket it receives one datagram; what doesn't fit p is lost.
func (s *Socket) Recv(ctx context.Context, p []byte) (int, error) {
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	n, err := s.recv(ctx, f, p, new(runtime.Deadline))
	return n, s.fail("recv", err)
}

// recv is Recv with the lock held.
func (s *Socket) recv(ctx context.Context, f *fd, p []byte, deadline *runtime.Deadline) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := s.take(p); n > 0 {
			runtime.Spend(ctx, n)
			return n, nil
		}
		n, err := s.tryRecv(f, p)
		if err != errWait {
			runtime.Spend(ctx, n)
			return n, err
		}
		if err := f.waitRead(ctx, deadline, s.timeouts.Read); err != nil {
			return 0, err
		}
	}
}

// take takes bytes that were read ahead, and gives the buffer back when it is empty.
func (s *Socket) take(p []byte) int {
	s.dropIndex()
	n := copy(p, s.in.unread())
	s.in.start += n
	s.in.release()
	return n
}

// dropIndex forgets the packets that were found beforehand, for who takes the bytes otherwise. The stream is at the beginning of a packet then.
func (s *Socket) dropIndex() {
	if x := s.in.index; x != nil {
		s.in.index = nil
		indexPool.Put(x)
		s.framer.Reset()
	}
}

// tryRecv reads once, decrypted if TLS is on, without waiting.
func (s *Socket) tryRecv(f *fd, p []byte) (n int, err error) {
	if secure := s.secure.Load(); secure != nil {
		n, err = secure.tryRead(f, p)
	} else {
		n, err = f.tryRead(p)
	}
	if err != nil && err != errWait && f.closed() {
		err = net.ErrClosed // what the peer answers to our closing is no news
	}
	return n, err
}

// RecvAll receives until p is full. It returns how much it has received: with an error less than len(p), io.ErrUnexpectedEOF when the peer closed
// after some of it, io.EOF when it closed before.
func (s *Socket) RecvAll(ctx context.Context, p []byte) (int, error) {
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	var deadline runtime.Deadline
	received := 0
	for received < len(p) {
		n, err := s.recv(ctx, f, p[received:], &deadline)
		received += n
		if err == io.EOF && received > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return received, s.fail("recv", err)
		}
	}
	return received, nil
}

// RecvLine receives a line, through and including its "\n", and at most max bytes: a longer one is ErrLineTooLong, and stays unread. If the peer
// closes in the middle of a line, that part comes with io.ErrUnexpectedEOF. The line is valid until the next operation that receives.
func (s *Socket) RecvLine(ctx context.Context, max int) ([]byte, error) {
	runtime.Spend(ctx, 0)
	f, err := s.acquire(reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
	if max < 0 {
		max = 0
	}
	s.dropIndex()
	var deadline runtime.Deadline
	scanned := 0
	for {
		unread := s.in.unread()
		if i := bytes.IndexByte(unread[scanned:min(len(unread), max)], '\n'); i >= 0 {
			line := unread[: scanned+i+1 : scanned+i+1]
			s.in.start += len(line)
			return line, nil
		}
		if len(unread) >= max {
			return nil, s.fail("recv", ErrLineTooLong)
		}
		scanned = len(unread)
		if s.in.eof {
			return s.rest()
		}
		if err := s.fill(ctx, f, &deadline); err != nil {
			return nil, s.fail("recv", err)
		}
	}
}

// rest returns what is left after the end of the stream.
func (s *Socket) rest() ([]byte, error) {
	rest := s.in.unread()
	if len(rest) == 0 {
		return nil, io.EOF
	}
	s.in.start = s.in.end
	return rest[:len(rest):len(rest)], io.ErrUnexpectedEOF
}

// RecvPacket receives one packet, as SetProtocol has said; without a protocol, what there is. The packet is valid until the next operation that
// receives on this socket, whoever makes it, and whatever others do meanwhile.
//
// io.EOF says that the peer has closed after a packet, io.ErrUnexpectedEOF that it has closed in the middle of one. The errors of the Framer, such as
// packet.ErrPacketTooLarge, are final: the stream can't be understood from there on.
func (s *Socket) RecvPacket(ctx context.Context) ([]byte, error) {
	runtime.Spend(ctx, 0) // before it: a packet must not be overtaken by one that others receive meanwhile
	if pkt := s.packetAtHand(); pkt != nil {
		return pkt, nil
	}
	return s.recvPacket(ctx)
}

// recvPacket is RecvPacket for packets that are still to be received. Very many coroutines are parked in it: its frame, and those below, are kept small, so that the first 2 KiB of a stack
// do, and few cache lines are touched on the way back.
func (s *Socket) recvPacket(ctx context.Context) (pkt []byte, err error) {
	f, err := s.acquire(reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
	var deadline runtime.Deadline
	for {
		if pkt, err = s.nextPacket(); pkt != nil || err != nil {
			return pkt, s.fail("recv", err)
		}
		switch err = s.tryFill(f); err {
		case nil:
			runtime.Spend(ctx, len(s.in.unread()))
		case ErrWouldBlock:
			s.in.release()
			f.flushPending() // from here on it is waitRead without its frame
			if deadline == 0 {
				deadline = runtime.DeadlineAfter(s.timeouts.Read)
			}
			err = f.wait(ctx, &f.rd, reasonRecv, deadline)
			f.rd.drained = f.rd.drained && err != nil
		}
		if err != nil {
			return nil, s.fail("recv", err)
		}
	}
}

// packetAtHand is RecvPacket for the case that matters when packets come by the hundred: one was read already, and the socket is private to the caller's
// loop. Then nobody else can come in between, so the lock needn't be taken, only looked at. Everything else returns nil and is RecvPacket's.
func (s *Socket) packetAtHand() []byte {
	f := s.conn.Load()
	if f == nil || !f.private() || f.word&(lockReading|lockClosed) != 0 {
		return nil
	}
	if s.in.index != nil {
		return s.in.indexed()
	}
	if s.framer == nil || s.in.start == s.in.end {
		return nil
	}
	if s.searched() {
		return s.in.indexed()
	}
	advance, pkt, err := s.framer.Next(s.in.buf[s.in.start:s.in.end], s.in.eof)
	s.in.start += advance
	if err != nil {
		return nil // it comes again
	}
	return pkt
}

// searched searches what is unread for packets, if it is likely to hold several, and reports whether it has found some.
func (s *Socket) searched() bool {
	if s.in.end-s.in.start < indexFrom {
		return false
	}
	f, ok := s.framer.(indexer)
	return ok && s.in.find(f)
}

// nextPacket takes a packet from what was received; nil, nil if more is needed.
func (s *Socket) nextPacket() ([]byte, error) {
	in := &s.in
	if s.framer == nil {
		if pkt := in.unread(); len(pkt) > 0 {
			in.start = in.end
			return pkt[:len(pkt):len(pkt)], nil
		}
		if in.eof {
			return nil, io.EOF
		}
		return nil, nil
	}
	if in.index != nil || s.searched() {
		return in.indexed(), nil
	}
	for {
		advance, pkt, err := s.framer.Next(in.unread(), in.eof)
		in.start += advance
		switch {
		case pkt != nil || err != nil:
			return pkt, err
		case advance > 0:
		case !in.eof:
			return nil, nil
		case in.start < in.end:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, io.EOF
		}
	}
}

// fill receives something behind what is unread, and waits for it. While it waits, an empty buffer is given back. At the end of the stream it sets
// in.eof and returns nil.
func (s *Socket) fill(ctx context.Context, f *fd, deadline *runtime.Deadline) error {
	for {
		err := s.tryFill(f)
		if err != ErrWouldBlock {
			runtime.Spend(ctx, len(s.in.unread()))
			return err
		}
		s.in.release()
		if err := f.waitRead(ctx, deadline, s.timeouts.Read); err != nil {
			return err
		}
	}
}

// tryFill is fill without waiting: ErrWouldBlock. Then whoever is going to wait gives the buffer back if it is empty.
func (s *Socket) tryFill(f *fd) error {
	want := 0
	switch {
	case s.secure.Load() == nil && f.exhausted():
		return ErrWouldBlock // no buffer is needed for that
	case !f.stream: // a packet that finds too little room is cut
		want = len(s.in.unread()) + bufferSize
	case s.framer != nil:
		want = s.framer.Want()
	}
	if s.in.buf == nil && want <= smallBufferSize && !s.in.large {
		s.in.buf = smallAtHand() // room would do that, but as recvPacket's frame this one is kept small
	}
	n, err := s.tryRecv(f, s.in.room(want))
	switch err {
	case nil:
		s.in.received(n)
	case io.EOF:
		s.in.eof = true
		err = nil
	case errWait:
		err = ErrWouldBlock
	}
	return err
}

// Peek copies up to len(p) bytes that have arrived without taking them, and doesn't wait: ErrWouldBlock if there are none, io.EOF if there will be
// none. With TLS it sees decrypted bytes.
func (s *Socket) Peek(p []byte) (int, error) {
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("peek", err)
	}
	defer f.leave(reading)
	n, err := s.peek(f, p)
	return n, s.fail("peek", err)
}

func (s *Socket) peek(f *fd, p []byte) (int, error) {
	if n := copy(p, s.in.unread()); n > 0 || len(p) == 0 {
		return n, nil
	}
	if s.in.eof {
		return 0, io.EOF
	}
	if !s.network.stream() {
		n, errno := sysPeek(f.number, p)
		if errno == syscall.EAGAIN {
			return 0, ErrWouldBlock
		}
		if errno != 0 {
			return 0, callError("recvfrom", errno)
		}
		if n == 0 && !f.datagrams {
			return 0, io.EOF
		}
		return n, nil
	}
	f.rd.drained = false // ask the kernel: the loop may not have seen yet what has arrived, and nobody waits for it here
	n, err := s.tryRecv(f, s.in.room(0))
	switch err {
	case nil:
		s.in.received(n)
		return copy(p, s.in.unread()), nil
	case errWait:
		err = ErrWouldBlock
	case io.EOF:
		s.in.eof = true
	}
	s.in.release()
	return 0, err
}

// Buffered returns how many bytes were read ahead and not handed out yet. It returns 0 while somebody receives.
func (s *Socket) Buffered() int {
	f, err := s.acquire(reading)
	if err != nil {
		return 0
	}
	defer f.leave(reading)
	return len(s.in.unread())
}
