//go:build linux

package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// One reads and one writes at each end, at the same time, in coroutines of the Socket's loop, of
// another one, and in plain goroutines. This is for the race detector.
func TestTLSReadAndWriteAtTheSameTime(t *testing.T) {
	for _, c := range []struct{ name, reader, writer string }{
		{"two coroutines", "coroutine", "coroutine"},
		{"coroutine and goroutine", "coroutine", "goroutine"},
		{"goroutine and coroutine", "goroutine", "coroutine"},
		{"two goroutines", "goroutine", "goroutine"},
		{"another loop", "coroutine", "another loop"},
		{"from another loop", "another loop", "coroutine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version uint16) {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					client, server := connected(ctx, t, "tcp")
					handshakes(ctx, t, client, server, version)
					sent := pattern(2 << 20)
					var all runtime.WaitGroup
					for _, s := range []*socket.Socket{client, server} {
						callAs(ctx, &all, c.writer, func(ctx context.Context) {
							for rest := sent; len(rest) > 0; {
								n := min(len(rest), 1+len(rest)%20_000)
								if _, err := s.SendAll(ctx, rest[:n]); err != nil {
									t.Error(err)
									return
								}
								rest = rest[n:]
							}
						})
						callAs(ctx, &all, c.reader, func(ctx context.Context) {
							got := make([]byte, len(sent))
							for at := 0; at < len(got); {
								n, err := s.Recv(ctx, got[at:min(len(got), at+10_000)])
								if err != nil {
									t.Error(err)
									return
								}
								at += n
							}
							mustBe(t, got, sent)
						})
					}
					all.Wait(ctx)
					converse(ctx, t, client, server)
				}, runtime.WithLoops(2))
			})
		})
	}
}

// callAs calls fn in another coroutine, in one of another loop, or in a plain goroutine.
func callAs(ctx context.Context, all *runtime.WaitGroup, who string, fn func(ctx context.Context)) {
	all.Add(1)
	counted := func(ctx context.Context) { defer all.Done(); fn(ctx) }
	switch who {
	case "coroutine":
		runtime.Go(ctx, counted)
	case "goroutine":
		go counted(ctx)
	default:
		co := sched.Current(ctx)
		for _, loop := range co.Runtime().Loops() {
			if loop != co.Loop() {
				loop.Post(func() { runtime.Go(ctx, counted) })
				return
			}
		}
	}
}

// A peer that takes everything at once doesn't let one coroutine have the loop for itself.
func TestTLSSendAllLetsOthersRun(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer := secured(ctx, t, "tcp", true)
		peers.Go(func() { defer peer.Close(); io.Copy(io.Discard, peer) })
		done := false
		turns := 0
		other, _ := runtime.Go(ctx, func(ctx context.Context) {
			for !done {
				turns++
				runtime.Yield(ctx)
			}
		})
		if _, err := s.SendAll(ctx, pattern(16<<20)); err != nil {
			t.Error(err)
		}
		done = true
		if turns < 4 {
			t.Errorf("the other coroutine had %d turns", turns)
		}
		other.Join(ctx)
		s.Close()
	})
}

// Close, from anywhere, ends both the reader and the writer of a TLS connection with net.ErrClosed,
// at whatever moment it comes.
func TestTLSCloseAtAnyMoment(t *testing.T) {
	for _, who := range []string{"coroutine", "goroutine", "another loop"} {
		t.Run(who, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				for range 6 {
					s, peer := secured(ctx, t, "tcp", true)
					s.SetLinger(0)
					peers.Go(func() { defer peer.Close(); io.Copy(peer, peer) })
					var all runtime.WaitGroup
					var received atomic.Int64
					callAs(ctx, &all, "coroutine", func(ctx context.Context) {
						buf := make([]byte, 10_000)
						for {
							n, err := s.Recv(ctx, buf)
							received.Add(int64(n))
							if err != nil {
								if !errors.Is(err, net.ErrClosed) {
									t.Error("reader:", err)
								}
								return
							}
						}
					})
					callAs(ctx, &all, who, func(ctx context.Context) {
						for {
							if _, err := s.SendAll(ctx, pattern(50_000)); err != nil {
								if !errors.Is(err, net.ErrClosed) {
									t.Error("writer:", err)
								}
								return
							}
						}
					})
					callAs(ctx, &all, who, func(ctx context.Context) {
						until(ctx, func() bool { return received.Load() > 100_000 })
						s.Close()
					})
					all.Wait(ctx)
				}
			}, runtime.WithLoops(2))
		})
	}
}

// A handshake takes another stack, but no other coroutine.
func TestHandshakeWithoutACoroutineToSpare(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, wire := dialed(ctx, t, "tcp")
		forClient, _ := configs(0)
		shakeWith(peers, wire, forClient)
		if err := s.SSLHandshake(ctx, forClient); err != nil {
			t.Error(err)
		}
		s.Close()
	}, runtime.WithMaxCoroutines(1), runtime.WithLogger(zap.NewNop()))
}
