//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A coroutine that never has to wait doesn't keep its loop from the others, nor from the timers, be
// its operations short or long.
func TestWhoNeverWaitsLetsOthersRun(t *testing.T) {
	lines, err := packet.NewEOF("\n", 10)
	if err != nil {
		t.Fatal(err)
	}
	one := []byte("\n")
	for _, c := range []struct {
		name string
		full bool // there is something to receive for all of the operations
		n    int
		op   func(ctx context.Context, s *socket.Socket) error
	}{
		{"Recv", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.Recv(ctx, one); return err }},
		{"RecvAll", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvAll(ctx, one); return err }},
		{"RecvLine", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvLine(ctx, 9); return err }},
		{"RecvPacket", true, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvPacket(ctx); return err }},
		{"RecvPacket and 1 µs of work", true, 50_000, func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvPacket(ctx)
			for end := clock.Now() + time.Microsecond; clock.Now() < end; {
			}
			return err
		}},
		{"Send", false, 5_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.Send(ctx, one); return err }},
		{"SendAll", false, 5_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.SendAll(ctx, one); return err }},
		{"SendSoon", false, 50_000, func(ctx context.Context, s *socket.Socket) error { _, err := s.SendSoon(ctx, one); return err }},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := connected(ctx, t, "tcp")
			if err := s.SetProtocol(lines); err != nil {
				t.Fatal(err)
			}
			if c.full {
				s.SetBuffers(1<<20, 0)
				if _, err := peer.SendAll(ctx, bytes.Repeat(one, c.n)); err != nil {
					t.Fatal(err)
				}
				until(ctx, func() bool { return unread(s) == c.n })
			}
			turns, fired, over := 0, 0, false
			start(ctx, func(ctx context.Context) {
				for ; !over; turns++ {
					runtime.Yield(ctx)
				}
			})
			start(ctx, func(ctx context.Context) {
				for ; !over; fired++ {
					runtime.Sleep(ctx, time.Microsecond)
				}
			})
			n := 0
			for ; n < c.n && (turns < 4 || fired < 3); n++ {
				if err := c.op(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			if over = true; n == c.n {
				t.Errorf("%s: in %d operations, the other coroutine had %d turns, and a timer fired %d times", c.name, n, turns, fired)
			}
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(1))
	}
}

// slowFramer takes its time to find out that the packet isn't whole yet.
type slowFramer struct{ length int }

func (f slowFramer) Next(data []byte, _ bool) (int, []byte, error) {
	for end := clock.Now() + 100*time.Microsecond; clock.Now() < end; {
	}
	if len(data) < f.length {
		return 0, nil, nil
	}
	return f.length, data[:f.length:f.length], nil
}

func (f slowFramer) Want() int { return f.length }
func (f slowFramer) Reset()    {}

// Nor does an operation that takes many reads for what it returns, and never has to wait.
func TestManyReadsOfOneOperationLetOthersRun(t *testing.T) {
	if os.Getenv("WHORL_TEST_COMPACT_TLS") != "" {
		return // a compact connection reads many records at once: there are no many reads
	}
	const records, record = 20, 1024
	bufs := make([][]byte, record)
	for i := range bufs {
		bufs[i] = make([]byte, 1)
	}
	for name, op := range map[string]func(ctx context.Context, s *socket.Socket) error{
		"RecvPacket": func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvPacket(ctx)
			return err
		},
		"Packets": func(ctx context.Context, s *socket.Socket) error {
			for _, err := range s.Packets(ctx) {
				return err
			}
			return nil
		},
		"ReadVectorAll": func(ctx context.Context, s *socket.Socket) error {
			for range records { // too few to be counted alone
				if _, err := s.ReadVectorAll(ctx, bufs); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := secured(ctx, t, "tcp", true)
			if err := s.SetProtocol(slowFramer{records * record}); err != nil {
				t.Fatal(err)
			}
			for range records {
				if _, err := peer.Write(make([]byte, record)); err != nil {
					t.Fatal(err)
				}
			}
			until(ctx, func() bool { return unread(s) > records*record })
			turns, over := 0, false
			start(ctx, func(ctx context.Context) {
				for ; !over; turns++ {
					runtime.Yield(ctx)
				}
			})
			runtime.Yield(ctx) // a new turn
			before := turns
			if err := op(ctx, s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if over = true; turns == before {
				t.Errorf("%s: the other coroutine had no turn", name)
			}
			s.Abort()
			peer.Close()
		}, runtime.WithLoops(1))
	}
}

func TestAcceptLetsOthersRun(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "unix")
		const clients = 300
		for range clients {
			s := fresh(t, "unix")
			defer s.Abort()
			if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
		}
		turns, over := 0, false
		start(ctx, func(ctx context.Context) {
			for ; !over; turns++ {
				runtime.Yield(ctx)
			}
		})
		for range clients {
			s, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			s.Abort()
		}
		if over = true; turns < 2 {
			t.Errorf("the other coroutine had %d turns", turns)
		}
		l.Close()
	}, runtime.WithLoops(1))
}

// Very many coroutines that are woken at once don't keep an echo from going on.
func TestManyThatAreWokenAtOnceLetAnEchoGoOn(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "tcp")
		trips := 0
		start(ctx, func(ctx context.Context) {
			one := make([]byte, 1)
			for {
				if _, err := s.RecvAll(ctx, one); err != nil {
					return
				}
				s.SendAll(ctx, one)
			}
		})
		start(ctx, func(ctx context.Context) {
			one := make([]byte, 1)
			for ; ; trips++ {
				peer.SendAll(ctx, one)
				if _, err := peer.RecvAll(ctx, one); err != nil {
					return
				}
			}
		})
		const all = 10_000
		var gate, ended runtime.WaitGroup
		gate.Add(1)
		before, after := 0, 0
		for range all {
			ended.Go(ctx, func(ctx context.Context) {
				gate.Wait(ctx)
				if before == 0 {
					before = trips
				}
				for end := clock.Now() + 5*time.Microsecond; clock.Now() < end; {
				}
				after = trips
			})
		}
		gate.Done()
		ended.Wait(ctx)
		if after-before < 5 {
			t.Errorf("%d round trips while %d coroutines went on", after-before, all)
		}
		s.Abort()
		peer.Abort()
	}, runtime.WithLoops(1))
}
