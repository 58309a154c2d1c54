//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A verb is one of the calls of a Socket.
type verb struct {
	name string
	call func(ctx context.Context, s *socket.Socket) error
}

func readVerbs() []verb {
	return []verb{
		{"Recv", func(ctx context.Context, s *socket.Socket) error { _, err := s.Recv(ctx, make([]byte, 1)); return err }},
		{"RecvAll", func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvAll(ctx, make([]byte, 1))
			return err
		}},
		{"RecvLine", func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvLine(ctx, 10); return err }},
		{"RecvPacket", func(ctx context.Context, s *socket.Socket) error { _, err := s.RecvPacket(ctx); return err }},
		{"Peek", func(_ context.Context, s *socket.Socket) error { _, err := s.Peek(make([]byte, 1)); return err }},
		{"ReadVector", func(ctx context.Context, s *socket.Socket) error {
			_, err := s.ReadVector(ctx, [][]byte{make([]byte, 1)})
			return err
		}},
		{"ReadVectorAll", func(ctx context.Context, s *socket.Socket) error {
			_, err := s.ReadVectorAll(ctx, [][]byte{make([]byte, 1)})
			return err
		}},
		{"Accept", func(ctx context.Context, s *socket.Socket) error { _, err := s.Accept(ctx); return err }},
	}
}

func writeVerbs() []verb {
	return []verb{
		{"Send", func(ctx context.Context, s *socket.Socket) error { _, err := s.Send(ctx, []byte("x")); return err }},
		{"SendAll", func(ctx context.Context, s *socket.Socket) error { _, err := s.SendAll(ctx, []byte("x")); return err }},
		{"SendSoon", func(ctx context.Context, s *socket.Socket) error { _, err := s.SendSoon(ctx, []byte("x")); return err }},
		{"Flush", func(ctx context.Context, s *socket.Socket) error { return s.Flush(ctx) }},
		{"WriteVector", func(ctx context.Context, s *socket.Socket) error {
			_, err := s.WriteVector(ctx, [][]byte{[]byte("x")})
			return err
		}},
		{"WriteVectorAll", func(ctx context.Context, s *socket.Socket) error {
			_, err := s.WriteVectorAll(ctx, [][]byte{[]byte("x")})
			return err
		}},
		{"Shutdown", func(ctx context.Context, s *socket.Socket) error { return s.Shutdown(ctx, socket.ShutdownWrite) }},
	}
}

// bothVerbs need both directions.
func bothVerbs() []verb {
	return []verb{
		{"Connect", func(ctx context.Context, s *socket.Socket) error { return s.Connect(ctx, "@nowhere") }},
		{"Listen", func(_ context.Context, s *socket.Socket) error { return s.Listen(0) }},
		{"SSLHandshake", func(ctx context.Context, s *socket.Socket) error { return s.SSLHandshake(ctx, &tls.Config{}) }},
	}
}

// waitsToSend sends until the peer takes no more, and waits then.
func waitsToSend(ctx context.Context, s *socket.Socket) error {
	_, err := s.SendAll(ctx, make([]byte, 10<<20))
	return err
}

// insists calls fn again as long as somebody else is busy there: the test, which looks whether fn
// has begun.
func insists(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, socket.ErrBusy) {
			return err
		}
		goruntime.Gosched()
	}
}

func TestASecondReaderIsBusy(t *testing.T) {
	for _, first := range callers {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := connected(ctx, t, "pair")
			waits := start(ctx, func(ctx context.Context) {
				first.call(ctx, func(ctx context.Context) {
					buf := make([]byte, 7)
					if err := insists(func() error { _, err := s.RecvAll(ctx, buf); return err }); string(buf) != "message" || err != nil {
						t.Errorf("the first reader: %q, %v", buf, err)
					}
				})
			})
			until(ctx, func() bool { _, err := s.Peek(make([]byte, 1)); return errors.Is(err, socket.ErrBusy) })
			for _, second := range callers {
				second.call(ctx, func(ctx context.Context) {
					for _, v := range slices.Concat(readVerbs(), bothVerbs()) {
						err := v.call(ctx, s)
						wantError(t, v.name+" from "+second.name, err, socket.ErrBusy)
						if code := socket.Code(err); code != 10002 {
							t.Errorf("%s: code %d", v.name, code)
						}
					}
					wantError(t, "SetProtocol", s.SetProtocol(nil), socket.ErrBusy)
					if n := s.Buffered(); n != 0 {
						t.Errorf("%d bytes are buffered", n)
					}
					talk(ctx, t, s, peer) // sending is another matter
				})
			}
			if _, err := peer.SendAll(ctx, []byte("message")); err != nil {
				t.Error(err)
			}
			waits.Join(ctx)
			for _, next := range callers {
				next.call(ctx, func(ctx context.Context) { talk(ctx, t, peer, s) })
			}
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(2))
	}
}

func TestASecondWriterIsBusy(t *testing.T) {
	for _, first := range callers {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := connected(ctx, t, "pair")
			data := pattern(1 << 20)
			waits := start(ctx, func(ctx context.Context) {
				first.call(ctx, func(ctx context.Context) {
					if err := insists(func() error { _, err := s.SendAll(ctx, data); return err }); err != nil {
						t.Error(err)
					}
				})
			})
			until(ctx, func() bool { return errors.Is(s.Flush(ctx), socket.ErrBusy) })
			for _, second := range callers {
				second.call(ctx, func(ctx context.Context) {
					for _, v := range slices.Concat(writeVerbs(), bothVerbs()) {
						wantError(t, v.name+" from "+second.name, v.call(ctx, s), socket.ErrBusy)
					}
					talk(ctx, t, peer, s) // receiving is another matter
				})
			}
			got := make([]byte, len(data))
			if _, err := peer.RecvAll(ctx, got); err != nil {
				t.Error(err)
			}
			mustBe(t, got, data)
			waits.Join(ctx)
			for _, next := range callers {
				next.call(ctx, func(ctx context.Context) { talk(ctx, t, s, peer) })
			}
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(2))
	}
}

// Close wakes who waits, once and with net.ErrClosed; in coroutines of its loop, the writer first,
// when the closer waits next.
func TestCloseEndsWhoWaits(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, closer := range callers {
			for _, waiter := range callers {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					s, peer := connected(ctx, t, network)
					s.SetLinger(0)
					var ended []string
					var mu sync.Mutex
					var both runtime.WaitGroup
					waits := func(name string, fn func(ctx context.Context) error) {
						both.Go(ctx, func(ctx context.Context) {
							waiter.call(ctx, func(ctx context.Context) {
								wantError(t, name+": "+waiter.name, fn(ctx), net.ErrClosed)
								mu.Lock()
								ended = append(ended, name)
								mu.Unlock()
								sleepsFully(ctx, t)
							})
						})
					}
					waits("reader", func(ctx context.Context) error { _, err := s.Recv(ctx, make([]byte, 1)); return err })
					waits("writer", func(ctx context.Context) error { return waitsToSend(ctx, s) })
					closer.call(ctx, func(ctx context.Context) {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
						if closer.name == "coroutine" && waiter.name == "coroutine" && len(ended) > 0 {
							t.Errorf("Close has switched: %q", ended)
						}
						wantError(t, "second Close", s.Close(), net.ErrClosed)
						wantError(t, "Abort after Close", s.Abort(), net.ErrClosed)
						if s.Connected() || s.FD() != -1 || s.Alive() {
							t.Error("the socket doesn't know that it is closed")
						}
					})
					both.Wait(ctx)
					if waiter.name == "coroutine" && !slices.Equal(ended, []string{"writer", "reader"}) || len(ended) != 2 {
						t.Errorf("ended, in this order: %q", ended)
					}
					peer.Abort()
				}, runtime.WithLoops(2))
			}
		}
	}
}

// Closing with somebody waiting must go well with the delivery in the background, too, which waits
// in the same places.
func TestCloseEndsWhoWaitsWhileItLingers(t *testing.T) {
	for _, closer := range callers {
		for _, waiter := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := connected(ctx, t, "tcp")
				var both runtime.WaitGroup
				for _, fn := range []func(ctx context.Context) error{
					func(ctx context.Context) error { _, err := s.Recv(ctx, make([]byte, 1)); return err },
					func(ctx context.Context) error { return waitsToSend(ctx, s) },
				} {
					both.Go(ctx, func(ctx context.Context) {
						waiter.call(ctx, func(ctx context.Context) { wantError(t, waiter.name, fn(ctx), net.ErrClosed) })
					})
				}
				closer.call(ctx, func(ctx context.Context) { s.Close() })
				both.Wait(ctx)
				n := 0
				for buf := make([]byte, 1<<20); ; { // what the kernel had taken comes, and then the end
					more, err := peer.Recv(ctx, buf)
					if n += more; err != nil {
						break
					}
				}
				if n == 0 && waiter.name == "coroutine" {
					t.Error("nothing was delivered")
				}
				peer.Abort()
			}, runtime.WithLoops(2))
		}
	}
}

func TestVerbsBeforeConnectAndAfterClose(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		verbs := slices.Concat(readVerbs(), writeVerbs(), bothVerbs()[1:]) // but Connect
		none := func(s *socket.Socket) {
			t.Helper()
			if s.FD() != -1 || s.Connected() || s.Alive() || s.LocalAddr() != nil || s.RemoteAddr() != nil || s.Buffered() != 0 || s.Cancel(3) {
				t.Error("there is something where nothing should be")
			}
		}
		for _, from := range callers {
			unused, used := fresh(t, "unix"), fresh(t, "unix")
			l := listening(ctx, t, "unix")
			if err := used.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			none(unused)
			from.call(ctx, func(ctx context.Context) {
				for _, v := range verbs {
					err := v.call(ctx, unused)
					wantError(t, v.name+" before Connect", err, socket.ErrNotConnected)
					wantError(t, v.name+" before Connect", err, syscall.ENOTCONN)
				}
				for _, s := range []*socket.Socket{unused, used, l} {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					none(s)
					for _, v := range slices.Concat(verbs, bothVerbs()[:1]) {
						err := v.call(ctx, s)
						wantError(t, v.name+" after Close, "+from.name, err, net.ErrClosed)
						if code := socket.Code(err); code != int(syscall.EBADF) {
							t.Errorf("%s: code %d", v.name, code)
						}
					}
					wantError(t, "Bind after Close", s.Bind(ctx, unixName()), net.ErrClosed)
					wantError(t, "SetOption after Close", s.SetOption(unix.SOL_SOCKET, unix.SO_RCVBUF, 1), net.ErrClosed)
					_, err := s.Option(unix.SOL_SOCKET, unix.SO_RCVBUF)
					wantError(t, "Option after Close", err, net.ErrClosed)
				}
			})
		}
	}, runtime.WithLoops(2))
}

// The number of a descriptor is used again at once by the next one, but never while somebody may
// still read or write by it: nobody gets the data of another connection.
func TestALateUserDoesntMeetTheNextDescriptor(t *testing.T) {
	const (
		workers = 4
		rounds  = 100
	)
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		var all runtime.WaitGroup
		var tags, received atomic.Uint64
		for w := range workers {
			all.Go(ctx, func(ctx context.Context) {
				for range rounds {
					from := callers[w%3]
					a, b := connected(ctx, t, "pair")
					var users runtime.WaitGroup
					for _, ends := range [][2]*socket.Socket{{a, b}, {b, a}} {
						message := bytes.Repeat(binary.BigEndian.AppendUint64(nil, tags.Add(1)), 16)
						users.Add(2)
						go func() {
							defer users.Done()
							for {
								if _, err := ends[0].SendAll(ctx, message); err != nil {
									return
								}
							}
						}()
						go func() {
							defer users.Done()
							got := make([]byte, len(message))
							for {
								n, err := ends[1].RecvAll(ctx, got)
								received.Add(uint64(n))
								if !bytes.Equal(got[:n], message[:n]) {
									t.Errorf("got another connection's %x, want %x", got[:n], message[:8])
								}
								if err != nil {
									return
								}
							}
						}()
					}
					runtime.Yield(ctx)
					from.call(ctx, func(context.Context) {
						a.Close()
						b.Close()
					})
					// The next round doesn't wait for these users.
					all.Add(1)
					go func() {
						defer all.Done()
						users.Wait(context.Background())
					}()
				}
			})
		}
		all.Wait(ctx)
		if received.Load() == 0 {
			t.Error("nothing was received at all")
		}
	}, runtime.WithLoops(2))
}
