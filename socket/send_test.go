//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Send sends what the kernel takes, and waits only if that is nothing.
func TestSendMayBePartial(t *testing.T) {
	data := pattern(2 << 20)
	for _, network := range []string{"tcp", "unix"} {
		for _, from := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := connected(ctx, t, network)
				s.SetTimeouts(socket.Timeouts{Write: soon})
				s.SetBuffers(0, 50_000)
				peer.SetBuffers(50_000, 0)
				sent := 0
				from.call(ctx, func(ctx context.Context) {
					n, err := s.Send(ctx, data)
					if n <= 0 || n == len(data) || err != nil {
						t.Errorf("the kernel has taken %d bytes of %d, %v", n, len(data), err)
					}
					for err == nil { // until it takes nothing
						sent += n
						n, err = s.Send(ctx, data[sent:])
					}
					if n != 0 {
						t.Errorf("%d bytes beside the error", n)
					}
					wantError(t, from.name, err, runtime.ErrTimeout)
				})
				s.SetTimeouts(socket.Timeouts{})
				var both runtime.WaitGroup
				both.Go(ctx, func(ctx context.Context) {
					from.call(ctx, func(ctx context.Context) {
						n, err := s.Send(ctx, data[sent:])
						if sent += n; n <= 0 || err != nil {
							t.Error(n, err)
						}
					})
					s.Close()
				})
				var got []byte
				buf := make([]byte, 1<<20)
				for err := error(nil); err != io.EOF; {
					var n int
					if n, err = peer.Recv(ctx, buf); err != nil && err != io.EOF {
						t.Fatal(err)
					}
					got = append(got, buf[:n]...)
				}
				both.Wait(ctx)
				mustBe(t, got, data[:sent])
				peer.Close()
			}, runtime.WithLoops(2))
		}
	}
}

// With an error, SendAll tells how much had gone out.
func TestSendAllCountsUpToTheError(t *testing.T) {
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, c := dialed(ctx, t, "unix")
			peers.Go(func() {
				read(t, c, 100_000)
				c.Close()
			})
			from.call(ctx, func(ctx context.Context) {
				n, err := s.SendAll(ctx, make([]byte, 20<<20))
				if n < 100_000 || n == 20<<20 {
					t.Errorf("%d bytes sent", n)
				}
				wantError(t, from.name, err, syscall.EPIPE)
				n, err = s.SendAll(ctx, []byte("more"))
				if n != 0 {
					t.Errorf("%d bytes sent", n)
				}
				wantError(t, from.name, err, syscall.EPIPE)
			})
			s.Close()
		}, runtime.WithLoops(2))
	}
}

func TestSendingNothing(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "tcp")
		for _, send := range []func(context.Context, []byte) (int, error){s.Send, s.SendAll, s.SendSoon} {
			if n, err := send(ctx, nil); n != 0 || err != nil {
				t.Error(n, err)
			}
		}
		if n, err := s.Recv(ctx, nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		if n, err := s.RecvAll(ctx, nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		if err := s.Flush(ctx); err != nil {
			t.Error(err)
		}
		talk(ctx, t, s, peer)
		s.Abort()
		peer.Abort()
	})
}

// What is sent soon in one turn of the loop, by whichever of its coroutines, goes out at its end,
// in one write.
func TestSendSoonGathers(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "tcp")
		segments := func() uint32 {
			info, err := unix.GetsockoptTCPInfo(s.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			return info.Data_segs_out
		}
		for round := range 3 {
			before := segments()
			for range 5 {
				start(ctx, func(ctx context.Context) {
					if n, err := s.SendSoon(ctx, []byte("soon ")); n != 5 || err != nil {
						t.Error(n, err)
					}
				})
			}
			if n := unread(peer); n != 0 || segments() != before {
				t.Errorf("round %d: %d bytes have arrived before the end of the turn", round, n)
			}
			buf := make([]byte, 100)
			n, err := peer.RecvAll(ctx, buf[:25])
			if string(buf[:n]) != "soon soon soon soon soon " || err != nil {
				t.Errorf("round %d: %q, %v", round, buf[:n], err)
			}
			if n := segments() - before; n != 1 {
				t.Errorf("round %d: sent in %d segments", round, n)
			}
		}

		// Flush doesn't wait for the end of the turn, nor does what is sent otherwise, which goes
		// out behind it.
		s.SendSoon(ctx, []byte("soon"))
		if err := s.Flush(ctx); err != nil || unread(peer) != 4 {
			t.Errorf("%d bytes have arrived, %v", unread(peer), err)
		}
		for _, send := range []func(context.Context, []byte) (int, error){s.Send, s.SendAll} {
			s.SendSoon(ctx, []byte(" soon"))
			if n, err := send(ctx, []byte(" now")); n != 4 || err != nil {
				t.Error(n, err)
			}
		}
		buf := make([]byte, 22)
		if n, err := peer.RecvAll(ctx, buf); string(buf) != "soon soon now soon now" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		s.SendSoon(ctx, []byte("message"))
		s.Close() // delivers it
		if n, err := peer.RecvAll(ctx, buf[:7]); string(buf[:n]) != "message" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		peer.Close()
	}, runtime.WithLoops(1))
}

// From elsewhere than its loop SendSoon is SendAll; so it is for packets, which must not be put
// together.
func TestSendSoonThatIsSendAll(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "pair")
		for _, from := range callers[1:] {
			from.call(ctx, func(ctx context.Context) {
				if n, err := s.SendSoon(ctx, []byte("message")); n != 7 || err != nil {
					t.Error(n, err)
				}
				if n := unread(peer); n != 7 {
					t.Errorf("%s: %d bytes have arrived", from.name, n)
				}
				peer.RecvAll(ctx, make([]byte, 7))
				s.SetTimeouts(socket.Timeouts{Write: soon})
				var sent int
				var err error
				for err == nil {
					var n int
					n, err = s.SendSoon(ctx, make([]byte, 1000))
					sent += n
				}
				wantError(t, from.name, err, runtime.ErrTimeout)
				if _, err := peer.RecvAll(ctx, make([]byte, sent)); err != nil {
					t.Error(err)
				}
				_, err = peer.Peek(make([]byte, 1))
				wantError(t, "Peek behind what was sent", err, socket.ErrWouldBlock)
				s.SetTimeouts(socket.Timeouts{})
			})
		}
		s.Abort()
		peer.Abort()

		a, b, err := socket.Pair(ctx, "unixpacket")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"one", "two"} {
			a.SendSoon(ctx, []byte(p))
		}
		buf := make([]byte, 100)
		for _, p := range []string{"one", "two"} {
			if n, err := b.Recv(ctx, buf); string(buf[:n]) != p || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
		a.Close()
		b.Close()
	}, runtime.WithLoops(2))
}

// At most 64 KiB wait in memory for a peer that doesn't read; then SendSoon waits too.
func TestSendSoonIsBounded(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "pair")
		kernel := 0 // what it takes
		s.SetTimeouts(socket.Timeouts{Write: soon})
		message := bytes.Repeat([]byte("x"), 1000)
		for {
			n, err := s.Send(ctx, message)
			if err != nil {
				break
			}
			kernel += n
		}
		queued := 0
		for {
			n, err := s.SendSoon(ctx, message)
			if err != nil {
				wantError(t, "SendSoon", err, runtime.ErrTimeout)
				break
			}
			if queued += n; queued > 64<<10 {
				t.Fatalf("%d bytes are queued", queued)
			}
			runtime.Yield(ctx)
		}
		if queued < 60_000 {
			t.Errorf("only %d bytes were queued", queued)
		}
		wantError(t, "Flush", s.Flush(ctx), runtime.ErrTimeout)

		// When the peer reads, all that was taken arrives.
		s.SetTimeouts(socket.Timeouts{})
		end := start(ctx, func(ctx context.Context) {
			if n, err := s.SendSoon(ctx, []byte("the end")); n != 7 || err != nil {
				t.Error(n, err)
			}
		})
		got := make([]byte, kernel+queued+7)
		if n, err := peer.RecvAll(ctx, got); err != nil {
			t.Errorf("%d of %d bytes, %v", n, len(got), err)
		}
		if !bytes.HasSuffix(got, []byte("xthe end")) {
			t.Errorf("ends with %q", got[len(got)-10:])
		}
		end.Join(ctx)
		s.Abort()
		peer.Abort()
	}, runtime.WithLoops(1))
}

// The error of a write at the end of the turn is told by whatever is sent later.
func TestSendSoonFailsLater(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for i, later := range writeVerbs() {
			s, peer := connected(ctx, t, []string{"pair", "unix"}[i%2])
			peer.Close()
			if n, err := s.SendSoon(ctx, []byte("lost")); n != 4 || err != nil {
				t.Error(n, err)
			}
			runtime.Yield(ctx)
			runtime.Yield(ctx)
			for range 2 { // it is final
				err := later.call(ctx, s)
				wantError(t, later.name, err, syscall.EPIPE)
			}
			s.Close()
			wantError(t, later.name, later.call(ctx, s), net.ErrClosed)
		}
	}, runtime.WithLoops(1))
}
