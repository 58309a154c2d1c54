package socket

import (
	"context"
	"io"
	"iter"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/turn"
)

// Packets returns the packets of the stream, as RecvPacket would one after the other, at less cost:
// what has arrived is searched as a whole, and the socket is locked once for it. So while the loop
// over them runs, other operations that receive return ErrBusy; leave the loop before SSLHandshake.
//
//	for pkt, err := range s.Packets(ctx) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// A packet is valid until the next one. Timeouts.Read bounds the wait for each. The loop ends when
// the peer has closed after a packet; every other error, io.ErrUnexpectedEOF behind half a packet
// included, comes as the last of the sequence, without a packet. What wasn't handed out when the
// program leaves the loop is there for the next operation. A peer that always has packets doesn't
// keep the loop from others. The sequence may be used again: it goes on where it ended.
func (s *Socket) Packets(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := (*inner)(s).EachPacket(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

func (i *inner) EachPacket(ctx context.Context, yield func([]byte, error) bool) error {
	s := (*Socket)(i)
	if err := sched.Begin(ctx, 0); err != nil {
		return s.fail("recv", err)
	}
	f, err := s.acquire(reading)
	if err != nil {
		return s.fail("recv", err)
	}
	defer f.leave(reading)
	more := true
	for more && err == nil {
		// The time-out is for the next packet, and starts anew behind each, not behind each read.
		err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
			for {
				var handed bool
				if handed, more, err = s.handOut(ctx, f, yield); handed || !more || err != nil {
					return err
				}
				if err := s.tryFill(f); err != nil {
					return err
				}
				sched.Spend(ctx, readCost)
			}
		})
	}
	if err == io.EOF {
		return nil
	}
	return s.fail("recv", err)
}

// handOut hands out the packets that were read already. It reports whether there was one, and
// whether the program wants more.
func (s *Socket) handOut(
	ctx context.Context, f *fd, yield func([]byte, error) bool,
) (handed, more bool, err error) {
	for ; ; handed = true {
		for s.in.index != nil {
			handed = true
			if more, err = s.handOutIndexed(ctx, f, yield); err != nil || !more {
				return handed, more, err
			}
		}
		pkt, err := s.nextPacket()
		if err != nil || pkt == nil {
			return handed, err == nil, err
		}
		sched.Spend(ctx, 0)
		if !yield(pkt, nil) {
			return true, false, nil
		}
		if err := f.cause(); err != nil {
			return true, false, err // it was closed meanwhile
		}
	}
}

// handOutIndexed is handOut for some of the packets of the index, which are counted together: a
// look at the clock costs as much as a few.
func (s *Socket) handOutIndexed(
	ctx context.Context, f *fd, yield func([]byte, error) bool,
) (more bool, err error) {
	x, buf, start := s.in.index, s.in.buf, s.in.start
	from := x.next
	to := min(x.size, from+spendEvery)
	sched.Spend(ctx, (to-from)*turn.Unit)
	last := to == x.size
	for i, place := range x.ends[from:to] {
		end := x.base + int(place)
		pkt := buf[start:end:end]
		// The body may leave the loop, or panic: what it hasn't got is there for others.
		start, s.in.start, x.next = end, end, from+i+1
		if last && x.next == to {
			s.in.giveIndex()
		}
		if !yield(pkt, nil) {
			return false, nil
		}
		if f.closed() {
			return false, f.cause()
		}
	}
	return true, nil
}

// spendEvery is how many packets are counted together.
const spendEvery = 2 * turn.Look
