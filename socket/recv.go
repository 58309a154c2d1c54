package socket

import (
	"bytes"
	"context"
	"io"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/turn"
)

// Recv receives what there is, up to len(p) bytes, and waits until there is something. It returns
// io.EOF when the peer has closed its sending side. Bytes that Peek, RecvLine or RecvPacket have
// read ahead come first. On a datagram socket it receives one datagram; what doesn't fit p is lost.
func (s *Socket) Recv(ctx context.Context, p []byte) (n int, err error) {
	if err := sched.Begin(ctx, len(p)); err != nil {
		return 0, s.fail("recv", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		n, err = s.tryTake(f, p)
		return err
	})
	return n, s.fail("recv", err)
}

// tryTake is Recv without waiting.
func (s *Socket) tryTake(f *fd, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if n := s.take(p); n > 0 {
		return n, nil
	}
	return s.tryRecv(f, p)
}

// take takes bytes that were read ahead, and gives the buffer back when it is empty.
func (s *Socket) take(p []byte) int {
	s.dropIndex()
	n := copy(p, s.in.unread())
	s.in.start += n
	s.in.release()
	return n
}

// dropIndex forgets the packets that were found beforehand, for who takes the bytes otherwise. The
// stream is at the beginning of a packet then.
func (s *Socket) dropIndex() {
	if s.in.index != nil {
		s.in.giveIndex()
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
		err = f.cause() // what the peer answers to our closing is no news
	}
	return n, err
}

// RecvAll receives until p is full. It returns how much it has received: with an error less than
// len(p), io.ErrUnexpectedEOF when the peer closed after some of it, io.EOF when it closed before.
func (s *Socket) RecvAll(ctx context.Context, p []byte) (received int, err error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return 0, s.fail("recv", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return 0, s.fail("recv", err)
	}
	defer f.leave(reading)
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		for received < len(p) {
			n, err := s.tryTake(f, p[received:])
			if received += n; err != nil {
				return err
			}
			if received < len(p) {
				sched.Spend(ctx, n)
			}
		}
		return nil
	})
	if err == io.EOF && received > 0 {
		err = io.ErrUnexpectedEOF
	}
	return received, s.fail("recv", err)
}

// RecvLine receives a line, through and including its "\n", and at most max bytes: a longer one is
// ErrLineTooLong, and stays unread. If the peer closes in the middle of a line, that part comes
// with io.ErrUnexpectedEOF. The line is valid until the next operation that receives.
func (s *Socket) RecvLine(ctx context.Context, max int) (line []byte, err error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return nil, s.fail("recv", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
	s.dropIndex()
	scanned := 0
	err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
		for {
			unread := s.in.unread()
			limit := min(len(unread), max)
			if limit > scanned {
				if i := bytes.IndexByte(unread[scanned:limit], '\n'); i >= 0 {
					end := scanned + i + 1
					line = unread[:end:end]
					s.in.start += end
					return nil
				}
			}
			if len(unread) >= max {
				return ErrLineTooLong
			}
			scanned = len(unread)
			if s.in.eof {
				line, err = s.rest()
				return err
			}
			if err := s.tryFill(f); err != nil {
				return err
			}
			sched.Spend(ctx, readCost)
		}
	})
	return line, s.fail("recv", err)
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

// RecvPacket receives one packet, as SetProtocol has said; without a protocol, what there is. The
// packet is valid until the next operation that receives on this socket, whoever makes it, and
// whatever others do meanwhile.
//
// io.EOF says that the peer has closed after a packet, io.ErrUnexpectedEOF that it has closed in
// the middle of one. The errors of the Framer, such as packet.ErrPacketTooLarge, are final: the
// stream can't be understood from there on.
func (s *Socket) RecvPacket(ctx context.Context) ([]byte, error) {
	if pkt := s.packetAtHand(ctx); pkt != nil {
		return pkt, nil
	}
	return s.recvPacket(ctx)
}

// begin is acquire for an operation that may wait with ctx.
func (s *Socket) begin(ctx context.Context, kind uint32) (*fd, error) {
	if err := sched.Begin(ctx, 0); err != nil {
		return nil, err
	}
	return s.acquire(kind)
}

// readCost is how many bytes a read into the buffer counts as, whatever it has found.
const readCost = bufferSize / 4

// recvPacket is RecvPacket for packets that are still to be received. Very many coroutines are
// parked in it: its frame, and those below, are kept small, so that the first 2 KiB of a stack do,
// and few cache lines are touched on the way back. So its loop is that of receive, without two
// frames.
func (s *Socket) recvPacket(ctx context.Context) (pkt []byte, err error) {
	f, err := s.begin(ctx, reading)
	if err != nil {
		return nil, s.fail("recv", err)
	}
	defer f.leave(reading)
	var deadline sched.Deadline
	for {
		if pkt, err = s.nextPacket(); pkt != nil || err != nil {
			return pkt, s.fail("recv", err)
		}
		switch err = s.tryFill(f); err {
		case nil:
			sched.Spend(ctx, readCost)
		case errWait:
			if deadline == 0 {
				deadline = sched.DeadlineAfter(s.timeouts.Load().Read)
			}
			f.flushPending()
			err = f.wait(ctx, &f.rd, reasonRecv, deadline)
			f.rd.drained = f.rd.drained && err != nil
		}
		if err != nil {
			return nil, s.fail("recv", err)
		}
	}
}

// packetAtHand is RecvPacket for the case that matters when packets come by the hundred: one was
// read already. It returns nil for everything else.
func (s *Socket) packetAtHand(ctx context.Context) []byte {
	f := s.conn.Load()
	if f == nil || !sched.Live(ctx) || f.acquire(reading) != nil {
		return nil
	}
	pkt := s.nextAtHand()
	due := s.in.due()
	f.leave(reading)
	if due && pkt != nil {
		sched.Spend(ctx, spendEvery*turn.Unit)
	}
	return pkt
}

// nextAtHand is packetAtHand with the lock held.
func (s *Socket) nextAtHand() []byte {
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

// searched searches what is unread for packets, if it is likely to hold several, and reports
// whether it has found some.
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
		if pkt := in.unread(); len(pkt) > 0 || in.message {
			in.start, in.message = in.end, false
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

// roomToFill is where tryFill receives.
func (s *Socket) roomToFill(f *fd) []byte {
	switch {
	case !f.stream: // a message that finds too little room is cut
		return s.in.roomFor(len(s.in.unread()) + s.messageSize(f))
	case s.framer != nil:
		return s.in.room(s.framer.Want())
	}
	return s.in.room(0)
}

// tryFill receives something behind what is unread, without waiting: errWait says that there is
// nothing, and gives an empty buffer back, as whoever calls it is going to wait. At the end of the
// stream it sets in.eof and returns nil.
func (s *Socket) tryFill(f *fd) error {
	if s.secure.Load() == nil && f.exhausted() {
		s.in.release()
		return errWait // no buffer is needed for that
	}
	n, err := s.tryRecv(f, s.roomToFill(f))
	switch err {
	case nil:
		s.in.received(n)
		s.in.message = !f.stream
	case io.EOF:
		s.in.eof = true
		err = nil
	case errWait:
		s.in.release()
	}
	return err
}

// Peek copies up to len(p) bytes that have arrived without taking them, and doesn't wait:
// ErrWouldBlock if there are none, io.EOF if there will be none. With TLS it sees decrypted bytes.
// A packet that RecvPacket has returned stays valid.
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
		if f.endOfInput(n, p) {
			return 0, io.EOF
		}
		return n, nil
	}
	f.rd.drained = false // ask the kernel: the loop may not have seen yet what has arrived
	switch err := s.readAhead(f); err {
	case nil:
		return copy(p, s.in.unread()), nil
	case errWait:
		return 0, ErrWouldBlock
	default:
		return 0, err
	}
}

// readAhead reads into the buffer, which is empty, without waiting. Whoever has the last packet
// keeps it: the buffer is another one.
func (s *Socket) readAhead(f *fd) error {
	s.in.detach()
	n, err := s.tryRecv(f, s.in.room(0))
	switch err {
	case nil:
		s.in.received(n)
		return nil
	case io.EOF:
		s.in.eof = true
	}
	s.in.release()
	return err
}

// Rest is of house.Socket.
func (i *inner) Rest() {
	s := (*Socket)(i)
	f, err := s.acquire(reading)
	if err != nil {
		return
	}
	s.in.release()
	f.leave(reading)
}

// Buffered returns how many bytes were read ahead and not handed out yet; 0 while somebody
// receives. It may be called from anywhere, and keeps nobody from receiving.
func (s *Socket) Buffered() int {
	f, err := s.acquire(looking)
	if err != nil {
		return 0
	}
	defer f.leave(looking)
	return len(s.in.unread())
}
