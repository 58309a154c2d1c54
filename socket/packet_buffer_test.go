//go:build linux

package socket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
)

// pairs runs a test with two Sockets that are connected to each other.
func pairs(t *testing.T, test func(ctx context.Context, s, peer *Socket)) {
	err := runtime.Run(func(ctx context.Context) error {
		s, peer, err := Pair(ctx, "unix")
		if err != nil {
			return err
		}
		defer s.Close()
		defer peer.Close()
		test(ctx, s, peer)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each way to receive, once it has waited in vain, holds no buffer: neither one of its own nor that
// of the operation before, whose packet is no longer valid.
func TestIdleSocketHoldsNoBuffer(t *testing.T) {
	for name, receive := range map[string]func(ctx context.Context, s *Socket) error{
		"Recv":    func(ctx context.Context, s *Socket) error { _, err := s.Recv(ctx, make([]byte, 10)); return err },
		"RecvAll": func(ctx context.Context, s *Socket) error { _, err := s.RecvAll(ctx, make([]byte, 10)); return err },
		"RecvLine": func(ctx context.Context, s *Socket) error {
			_, err := s.RecvLine(ctx, 100)
			return err
		},
		"RecvPacket": func(ctx context.Context, s *Socket) error { _, err := s.RecvPacket(ctx); return err },
		"ReadVector": func(ctx context.Context, s *Socket) error {
			_, err := s.ReadVector(ctx, [][]byte{make([]byte, 10)})
			return err
		},
		"Peek": func(ctx context.Context, s *Socket) error {
			_, err := s.Peek(make([]byte, 10))
			if errors.Is(err, ErrWouldBlock) {
				err = runtime.ErrTimeout
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			pairs(t, func(ctx context.Context, s, peer *Socket) {
				s.SetTimeouts(Timeouts{Read: time.Millisecond})
				if err := receive(ctx, s); !errors.Is(err, runtime.ErrTimeout) || s.in.buf != nil {
					t.Errorf("%v; holds %d bytes", err, len(s.in.buf))
				}
				peer.SendAll(ctx, []byte("line\n"))
				s.SetTimeouts(Timeouts{}) // the loop may not have come to the event yet
				if line, err := s.RecvLine(ctx, 100); string(line) != "line\n" || err != nil {
					t.Fatal(string(line), err)
				}
				s.SetTimeouts(Timeouts{Read: time.Millisecond})
				if err := receive(ctx, s); !errors.Is(err, runtime.ErrTimeout) || s.in.buf != nil {
					t.Errorf("after a line: %v; holds %d bytes", err, len(s.in.buf))
				}
			})
		})
	}
}

// While others wait, too: the buffer is given back before the wait, not after it.
func TestWaitingReaderHoldsNoBuffer(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		peer.SendAll(ctx, []byte("one\n"))
		s.RecvLine(ctx, 100)
		reader, err := runtime.Go(ctx, func(ctx context.Context) { s.RecvLine(ctx, 100) })
		if err != nil {
			t.Fatal(err)
		}
		if s.in.buf != nil {
			t.Errorf("holds %d bytes while it waits", len(s.in.buf))
		}
		peer.SendAll(ctx, []byte("two\n"))
		reader.Join(ctx)
	})
}

// Whoever has done with a packet can say so, and loses nothing that came behind it.
func TestRestingSocketHoldsNoBuffer(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		peer.SendAll(ctx, []byte("one\ntwo\n"))
		for _, want := range []string{"one\n", "two\n"} {
			if line, err := s.RecvLine(ctx, 100); string(line) != want || err != nil {
				t.Errorf("%q, %v, want %q", line, err, want)
			}
			(*inner)(s).Rest()
		}
		if s.in.buf != nil {
			t.Errorf("holds %d bytes", len(s.in.buf))
		}
		reader, err := runtime.Go(ctx, func(ctx context.Context) { s.RecvLine(ctx, 100) })
		if err != nil {
			t.Fatal(err)
		}
		(*inner)(s).Rest() // somebody else's
		peer.SendAll(ctx, []byte("three\n"))
		reader.Join(ctx)
		s.Close()
		(*inner)(s).Rest()
	})
}

// A message that is a little longer than a small buffer takes two reads once, not each time.
func TestWhatOutgrowsASmallBufferIsReadAtOnceFromThenOn(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		message := make([]byte, smallBufferSize+8)
		for i := range 4 {
			if _, err := peer.SendAll(ctx, message); err != nil {
				t.Fatal(err)
			}
			for got, reads := 0, 0; got < len(message); {
				p, err := s.RecvPacket(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if got, reads = got+len(p), reads+1; i > 0 && reads > 1 {
					t.Errorf("message %d took %d reads", i, reads)
				}
			}
			if _, err := (*inner)(s).TryRecvPacket(); err != ErrWouldBlock {
				t.Fatal(err) // it gives the buffer back
			}
		}
	})
}

// An unfinished packet is kept, of course.
func TestTimeoutKeepsAnUnfinishedPacket(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		framer, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(framer)
		s.SetTimeouts(Timeouts{Read: time.Millisecond})
		peer.SendAll(ctx, []byte("unfin"))
		if _, err := s.RecvPacket(ctx); !errors.Is(err, runtime.ErrTimeout) || s.Buffered() != 5 {
			t.Error(err, s.Buffered())
		}
		peer.SendAll(ctx, []byte("ished\n"))
		s.SetTimeouts(Timeouts{})
		if p, err := s.RecvPacket(ctx); string(p) != "unfinished\n" || err != nil {
			t.Errorf("%q, %v", p, err)
		}
	})
}

// A packet whose length is known makes the buffer grow with what has arrived, not with what the
// peer has declared, and not beyond twice what is needed. The buffer is let go afterwards.
func TestLengthPacketGrowsTheBufferAsItArrives(t *testing.T) {
	const size = 1 << 20
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		framer, err := packet.NewLength(packet.LengthField{Type: 'N', BodyOffset: 4}, 2*size)
		if err != nil {
			t.Fatal(err)
		}
		s.SetProtocol(framer)
		s.SetTimeouts(Timeouts{Read: time.Minute})
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		sent := append(binary.BigEndian.AppendUint32(nil, size), body...)
		sender, err := runtime.Go(ctx, func(ctx context.Context) {
			if _, err := peer.SendAll(ctx, sent); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		watch := &watchedFramer{Framer: framer, watch: func() {
			arrived := s.in.end - s.in.start
			if n := len(s.in.buf); arrived > 0 && n > bufferSize && n > 8*arrived || n > 2*(size+4) {
				t.Errorf("a buffer of %d bytes for %d that have arrived", n, arrived)
			}
		}}
		s.SetProtocol(watch)
		p, err := s.RecvPacket(ctx)
		if !bytes.Equal(p, sent) || err != nil {
			t.Error(len(p), err)
		}
		sender.Join(ctx)
		s.SetTimeouts(Timeouts{Read: time.Millisecond})
		if _, err := s.RecvPacket(ctx); !errors.Is(err, runtime.ErrTimeout) || s.in.buf != nil {
			t.Errorf("%v; holds %d bytes", err, len(s.in.buf))
		}
		for range 3 {
			p := borrow()
			if len(p) != bufferSize {
				t.Errorf("the pool holds a buffer of %d bytes", len(p))
			}
			defer giveBack(p)
		}
	})
}

type watchedFramer struct {
	packet.Framer
	watch func()
}

func (f *watchedFramer) Next(data []byte, atEOF bool) (int, []byte, error) {
	f.watch()
	return f.Framer.Next(data, atEOF)
}

// A packet stays as it is whatever others do meanwhile, until the next operation of its own socket
// that receives.
func TestPacketIsValidUntilTheNextReceive(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		other, otherPeer, err := Pair(ctx, "unix")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		defer otherPeer.Close()
		framer, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(framer)
		peer.SendAll(ctx, []byte("first\nsecond\n"))
		p, err := s.RecvPacket(ctx)
		if err != nil {
			t.Fatal(err)
		}
		p = append(p, "must not write over what is behind it"...)[:len(p)]
		peer.SendAll(ctx, []byte("third\n"))
		otherPeer.SendAll(ctx, []byte("something else\n"))
		other.RecvLine(ctx, 100)
		s.SendAll(ctx, []byte("an answer"))
		if string(p) != "first\n" {
			t.Errorf("the packet has become %q", p)
		}
		for _, want := range []string{"second\n", "third\n"} {
			if p, err := s.RecvPacket(ctx); string(p) != want || err != nil {
				t.Errorf("%q, %v; want %q", p, err, want)
			}
		}
	})
}

// After a burst, packets are found in what was read ahead, without a system call each and without
// an allocation.
func TestRecvPacketAllocatesNothing(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		framer, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(framer)
		peer.SendAll(ctx, bytes.Repeat([]byte("packet\n"), 200))
		if n := testing.AllocsPerRun(100, func() {
			if p, err := s.RecvPacket(ctx); len(p) != 7 || err != nil {
				t.Error(string(p), err)
			}
		}); n > 0 {
			t.Errorf("%v allocations a packet", n)
		}
	})
}
