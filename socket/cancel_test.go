//go:build linux

package socket_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestCancelWithoutAnybodyWaiting(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := connected(ctx, t, "tcp")
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				for _, event := range []socket.Event{0, socket.ReadEvent, socket.WriteEvent, socket.ReadEvent | socket.WriteEvent} {
					if s.Cancel(event) {
						t.Errorf("Cancel(%d) from %s says that somebody waited", event, from.name)
					}
				}
				// It has no effect on what begins later.
				talk(ctx, t, s, peer)
				talk(ctx, t, peer, s)
			})
		}
		s.Abort()
		peer.Abort()
	}, runtime.WithLoops(2))
}

// What Cancel ends, in each direction, and nothing else; the next operation goes on where that one
// was.
func TestCancelEndsADirection(t *testing.T) {
	for _, canceler := range callers {
		for _, waiter := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := connected(ctx, t, "pair")
				data := pattern(1 << 20)
				var ended []string
				var mu sync.Mutex
				end := func(name string) { mu.Lock(); defer mu.Unlock(); ended = append(ended, name) }
				has := func(names ...string) bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(ended, names) }
				var both runtime.WaitGroup
				sent, received := 0, 0
				buf := make([]byte, 20)
				wait := func() {
					both.Go(ctx, func(ctx context.Context) {
						waiter.call(ctx, func(ctx context.Context) {
							n, err := s.SendAll(ctx, data[sent:])
							sent += n
							wantError(t, "writer", err, socket.ErrCanceled)
							wantError(t, "writer", err, context.Canceled)
							end("writer")
							sleepsFully(ctx, t)
						})
					})
					both.Go(ctx, func(ctx context.Context) {
						waiter.call(ctx, func(ctx context.Context) {
							n, err := s.RecvAll(ctx, buf[received:])
							received += n
							wantError(t, "reader", err, socket.ErrCanceled)
							end("reader")
							sleepsFully(ctx, t)
						})
					})
				}
				cancel := func(event socket.Event) {
					canceler.call(ctx, func(ctx context.Context) {
						for !s.Cancel(event) { // until it waits
							runtime.Yield(ctx)
						}
					})
				}
				talk := func(text string) {
					if _, err := peer.SendAll(ctx, []byte(text)); err != nil {
						t.Error(err)
					}
				}
				wait()
				talk("first ")
				until(ctx, func() bool { return unread(s) == 0 })
				cancel(socket.ReadEvent)
				until(ctx, func() bool { return has("reader") })
				cancel(socket.WriteEvent)
				both.Wait(ctx)
				if !has("reader", "writer") || received != 6 || sent == 0 || sent == len(data) {
					t.Errorf("ended: %q, after %d bytes received and %d sent", ended, received, sent)
				}

				// Both at once: the writer first. Where they are goroutines, the one may come to
				// wait only after the other was cancelled.
				ended = nil
				wait()
				talk("second ")
				until(ctx, func() bool { return unread(s) == 0 })
				cancel(socket.ReadEvent | socket.WriteEvent)
				runtime.Yield(ctx) // they go on when this turn of the loop ends
				if waiter.name == "coroutine" && canceler.name == "coroutine" && !has("writer", "reader") {
					t.Errorf("ended: %q", ended)
				}
				for event := socket.ReadEvent | socket.WriteEvent; both.Count() > 0; runtime.Yield(ctx) {
					s.Cancel(event)
				}

				// Nothing was lost.
				talk("third..")
				if n, err := s.RecvAll(ctx, buf[received:]); err != nil || string(buf) != "first second third.." {
					t.Errorf("received %d and %d: %q, %v", received, n, buf, err)
				}
				rest := start(ctx, func(ctx context.Context) {
					if n, err := s.SendAll(ctx, data[sent:]); err != nil {
						t.Error(n, err)
					}
				})
				got := make([]byte, len(data))
				if _, err := peer.RecvAll(ctx, got); err != nil {
					t.Error(err)
				}
				mustBe(t, got, data)
				rest.Join(ctx)
				s.Abort()
				peer.Abort()
			}, runtime.WithLoops(2))
		}
	}
}

// Each Cancel that says that it has ended an operation has ended one, and each operation that says
// that it was cancelled was.
func TestCancelAndItsVictimsAgree(t *testing.T) {
	const rounds = 300 // and more until the two have met
	for _, waiter := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer := connected(ctx, t, "tcp")
			var told atomic.Int64
			var over atomic.Bool
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for !over.Load() {
					if s.Cancel(socket.ReadEvent) {
						told.Add(1)
					}
					peer.Send(context.Background(), []byte("x"))
				}
			}()
			var victims, read int64
			waiter.call(ctx, func(ctx context.Context) {
				buf := make([]byte, 100)
				for n := 0; n < rounds || victims == 0 || read == 0; n++ {
					n, err := s.Recv(ctx, buf)
					read += int64(n)
					switch {
					case errors.Is(err, socket.ErrCanceled):
						victims++
					case err != nil:
						t.Error(err)
					}
				}
			})
			over.Store(true)
			await(ctx, func() { <-stopped })
			if told.Load() != victims {
				t.Errorf("%s: Cancel has ended %d operations, %d were cancelled", waiter.name, told.Load(), victims)
			}
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(2))
	}
}

// An operation that time or a context ends has lost nothing that came in, nor does it leave a mark
// on the next.
func TestTimeoutsLoseNothing(t *testing.T) {
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := connected(ctx, t, "tcp")
			if _, err := peer.SendAll(ctx, []byte("first ")); err != nil {
				t.Fatal(err)
			}
			from.call(ctx, func(ctx context.Context) {
				buf := make([]byte, 100)
				s.SetTimeouts(socket.Timeouts{Read: soon, Write: soon})
				n, err := s.RecvAll(ctx, buf)
				wantError(t, from.name, err, runtime.ErrTimeout)
				sleepsFully(ctx, t)

				limited, cancel := context.WithTimeout(ctx, soon)
				defer cancel()
				s.SetTimeouts(socket.Timeouts{Write: soon})
				_, err = s.Recv(limited, buf)
				wantError(t, from.name, err, context.DeadlineExceeded)
				sleepsFully(ctx, t)

				data := pattern(20 << 20)
				sent, err := s.SendAll(ctx, data)
				wantError(t, from.name, err, runtime.ErrTimeout)
				if sent == 0 || sent == len(data) {
					t.Errorf("%d bytes sent", sent)
				}
				sleepsFully(ctx, t)
				got := make([]byte, sent)
				if _, err := peer.RecvAll(ctx, got); err != nil {
					t.Error(err)
				}
				mustBe(t, got, data[:sent])

				if _, err := peer.SendAll(ctx, []byte("second")); err != nil {
					t.Error(err)
				}
				s.SetTimeouts(socket.Timeouts{})
				more, err := s.RecvAll(ctx, buf[n:12])
				if string(buf[:n+more]) != "first second" || err != nil {
					t.Errorf("got %q, %v", buf[:n+more], err)
				}
			})
			s.Abort()
			peer.Abort()
		}, runtime.WithLoops(2))
	}
}

// With a context that is done already nothing is begun, whether it would have to wait or not.
func TestAContextThatIsDone(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, from := range callers {
			s, peer := connected(ctx, t, "pair")
			from.call(ctx, func(ctx context.Context) {
				done, cancel := context.WithCancel(ctx)
				cancel()
				if _, err := peer.SendAll(ctx, []byte("early ")); err != nil {
					t.Error(err)
				}
				buf := make([]byte, 1)
				for what, operation := range map[string]func() error{
					"Recv":       func() error { _, err := s.Recv(done, buf); return err },
					"RecvAll":    func() error { _, err := s.RecvAll(done, buf); return err },
					"RecvLine":   func() error { _, err := s.RecvLine(done, 9); return err },
					"RecvPacket": func() error { _, err := s.RecvPacket(done); return err },
					"ReadVector": func() error { _, err := s.ReadVector(done, [][]byte{buf}); return err },
					"Send":       func() error { _, err := s.Send(done, buf); return err },
					"SendAll":    func() error { _, err := s.SendAll(done, buf); return err },
					"SendSoon":   func() error { _, err := s.SendSoon(done, buf); return err },
					"WriteVector": func() error {
						_, err := s.WriteVector(done, [][]byte{buf})
						return err
					},
				} {
					err := operation()
					wantError(t, from.name+": "+what, err, context.Canceled)
					if errors.Is(err, socket.ErrCanceled) || errors.Is(err, net.ErrClosed) {
						t.Errorf("%v is taken for Cancel or Close", err)
					}
				}
				sleepsFully(ctx, t)
				early := make([]byte, 6)
				if _, err := s.RecvAll(ctx, early); string(early) != "early " || err != nil {
					t.Errorf("%q, %v", early, err)
				}
				talk(ctx, t, peer, s)
			})
			s.Abort()
			peer.Abort()
		}
	}, runtime.WithLoops(2))
}

// Shutdown of the runtime ends who waits.
func TestShutdownOfTheRuntimeEndsWhoWaits(t *testing.T) {
	rt, err := runtime.New(runtime.WithLoops(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	ctx := rt.Context()
	a, b, err := socket.Pair(ctx, "unix")
	if err != nil {
		t.Fatal(err)
	}
	var waits sync.WaitGroup
	waits.Add(1)
	start(ctx, func(ctx context.Context) {
		defer waits.Done()
		_, err := a.Recv(ctx, make([]byte, 1))
		wantError(t, "coroutine", err, runtime.ErrShutdown)
	})
	waits.Go(func() {
		_, err := b.Recv(ctx, make([]byte, 1))
		wantError(t, "goroutine", err, context.Canceled)
	})
	for !waiting(rt, "socket recv") {
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	waits.Wait()
	// Closing works without a loop, too.
	number := a.FD()
	for _, s := range []*socket.Socket{a, b} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != syscall.EBADF {
		t.Errorf("the descriptor is still open: %v", err)
	}
}
