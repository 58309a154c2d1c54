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
		if err := s.eachPacket(ctx, yield); err != nil && err != io.EOF {
			yield(nil, s.fail("recv", err))
		}
	}
}

// eachPacket hands out packets until the program has had enough, which is no error.
func (s *Socket) eachPacket(ctx context.Context, yield func([]byte, error) bool) error {
	if err := sched.Begin(ctx, 0); err != nil {
		return err
	}
	f, err := s.acquire(reading)
	if err != nil {
		return err
	}
	defer f.leave(reading)
	more := true
	for more && err == nil {
		err = f.receive(ctx, reasonRecv, s.timeouts.Load().Read, func() error {
			before := s.in.start
			more, err = s.handOut(ctx, f, yield)
			if err != nil || !more || s.in.start != before {
				return err // the time-out is for the next packet
			}
			return s.tryFill(f)
		})
	}
	return err
}

// handOut hands out the packets that were read already. It reports whether the program wants more.
func (s *Socket) handOut(
	ctx context.Context, f *fd, yield func([]byte, error) bool,
) (more bool, err error) {
	for n := 1; ; n++ {
		var pkt []byte
		if s.in.index != nil {
			pkt = s.in.indexed()
		} else if pkt, err = s.nextPacket(); err != nil || pkt == nil {
			return err == nil, err
		}
		if !yield(pkt, nil) {
			return false, nil
		}
		if err := f.cause(); err != nil {
			return false, err // it was closed meanwhile
		}
		if n%spendEvery == 0 {
			sched.Spend(ctx, spendEvery*turn.Unit)
		}
	}
}

// spendEvery is how many packets are counted together: a look at the clock costs as much as a few.
const spendEvery = 2 * turn.Look
