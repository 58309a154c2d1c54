//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	goruntime "runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// with calls fn with the descriptor of a connection.
func with(t testing.TB, c net.Conn, fn func(number int) error) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(number uintptr) { err = fn(int(number)) })
	if err != nil {
		t.Error(err)
	}
}

// ends sends p, and the end of the stream in the same segment.
func ends(t testing.TB, c net.Conn, p []byte) {
	t.Helper()
	with(t, c, func(number int) error {
		if _, err := unix.SendmsgN(number, p, nil, nil, unix.MSG_MORE); err != nil {
			return err
		}
		return unix.Shutdown(number, unix.SHUT_WR)
	})
}

// reset closes c so that the peer's connection is reset.
func reset(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	c.Close()
}

func TestBytesThatComeOneByOne(t *testing.T) {
	sent := pattern(500)
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, c := dialed(ctx, t, "tcp")
			peers.Go(func() {
				defer c.Close()
				for i := range sent {
					c.Write(sent[i : i+1])
					if i%7 == 0 {
						goruntime.Gosched()
					}
				}
			})
			from.call(ctx, func(ctx context.Context) {
				var got []byte
				buf := make([]byte, 3)
				for {
					n, err := s.Recv(ctx, buf)
					got = append(got, buf[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Error(err)
						break
					}
				}
				mustBe(t, got, sent)
				sleepsFully(ctx, t)
			})
			s.Close()
		}, runtime.WithLoops(2))
	}
}

// With the smallest buffers that the kernel allows, reader and writer wait for each other all the
// time.
func TestTheSmallestBuffers(t *testing.T) {
	for _, c := range []struct {
		network string
		size    int // TCP probes a window that was closed at intervals, which takes its time
	}{{"tcp", 20 << 10}, {"unix", 200 << 10}} {
		sent := pattern(c.size)
		for _, from := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				client, server := connected(ctx, t, c.network)
				for _, s := range []*socket.Socket{client, server} {
					if err := s.SetBuffers(1, 1); err != nil {
						t.Fatal(err)
					}
				}
				var both runtime.WaitGroup
				for _, ends := range [][2]*socket.Socket{{client, server}, {server, client}} {
					both.Go(ctx, func(ctx context.Context) {
						from.call(ctx, func(ctx context.Context) {
							if n, err := ends[0].SendAll(ctx, sent); n != len(sent) || err != nil {
								t.Error(n, err)
							}
						})
					})
					both.Go(ctx, func(ctx context.Context) {
						got := make([]byte, len(sent))
						if n, err := ends[1].RecvAll(ctx, got); err != nil {
							t.Error(n, err)
						}
						mustBe(t, got, sent)
					})
				}
				both.Wait(ctx)
				client.Abort()
				server.Abort()
			}, runtime.WithLoops(2))
		}
	}
}

// The end of the stream is seen, without further traffic, however it falls in with the data and
// with the reads.
func TestTheEndBesideTheDataIsSeen(t *testing.T) {
	const rounds = 120
	message := []byte("the last words")
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			for round := range rounds {
				s, c := dialed(ctx, t, "tcp")
				s.SetTimeouts(socket.Timeouts{Read: patience})
				pause := func() {
					for range rand.IntN(round%20 + 1) {
						goruntime.Gosched()
					}
				}
				reads := make(chan struct{}) // closed after the first read
				speak := []func(){
					func() { ends(t, c, message) },
					func() { c.Write(message); pause(); c.(*net.TCPConn).CloseWrite() },
					func() { c.Write(message); <-reads; c.(*net.TCPConn).CloseWrite() },
					func() { c.Write(message); <-reads; pause(); c.(*net.TCPConn).CloseWrite() },
				}[round/2%4]
				if before := round%2 == 0; before && round/2%4 < 2 {
					speak()
				} else {
					peers.Go(func() { pause(); speak() })
				}
				from.call(ctx, func(ctx context.Context) {
					buf := make([]byte, 100) // more than there is: each read is short
					n, err := s.Recv(ctx, buf)
					close(reads)
					if string(buf[:n]) != string(message) || err != nil {
						t.Errorf("round %d: %q, %v", round, buf[:n], err)
					}
					for range 2 {
						if n, err = s.Recv(ctx, buf); n != 0 || err != io.EOF {
							t.Errorf("round %d, behind the data: %q, %v", round, buf[:n], err)
						}
					}
				})
				s.Close()
				peers.Wait()
				c.Close()
			}
		}, runtime.WithLoops(2))
	}
}

// What has arrived before a reset is still received, then the reset is told.
func TestAResetBehindData(t *testing.T) {
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			for round := range 40 {
				s, c := dialed(ctx, t, "tcp")
				s.SetTimeouts(socket.Timeouts{Read: patience})
				speak := func() { c.Write([]byte("the last words")); reset(t, c) }
				if round%2 == 0 {
					speak()
				} else {
					peers.Go(speak)
				}
				from.call(ctx, func(ctx context.Context) {
					buf := make([]byte, 4)
					var got []byte
					n, err := s.Recv(ctx, buf)
					for ; err == nil; n, err = s.Recv(ctx, buf) {
						got = append(got, buf[:n]...)
					}
					wantError(t, from.name, err, syscall.ECONNRESET)
					if string(got) != "the last words" {
						t.Errorf("%s: got %q", from.name, got)
					}
					_, err = s.SendAll(ctx, buf)
					wantError(t, "Send after a reset", err, syscall.EPIPE)
				})
				s.Close()
			}
		}, runtime.WithLoops(2))
	}
}

func TestAHalfClosedConnectionGoesOnTheOtherWay(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, from := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				client, server := connected(ctx, t, network)
				buf := make([]byte, 100)
				from.call(ctx, func(ctx context.Context) {
					talk(ctx, t, client, server)
					if err := client.Shutdown(ctx, socket.ShutdownWrite); err != nil {
						t.Error(err)
					}
					if _, err := server.Recv(ctx, buf); err != io.EOF {
						t.Errorf("behind the end: %v", err)
					}
					_, err := client.Send(ctx, buf)
					wantError(t, "Send after Shutdown", err, syscall.EPIPE)
				})
				waits := start(ctx, func(ctx context.Context) { // for a late reply
					from.call(ctx, func(ctx context.Context) {
						if n, err := client.RecvAll(ctx, buf[:7]); string(buf[:n]) != "message" || err != nil {
							t.Errorf("%q, %v", buf[:n], err)
						}
					})
				})
				if _, err := server.SendAll(ctx, []byte("message")); err != nil {
					t.Error(err)
				}
				waits.Join(ctx)
				if !client.Alive() {
					t.Error("a connection that is half open is dead")
				}
				if err := server.Shutdown(ctx, socket.ShutdownBoth); err != nil {
					t.Error(err)
				}
				if _, err := client.Recv(ctx, buf); err != io.EOF {
					t.Errorf("behind both ends: %v", err)
				}
				client.Close()
				server.Close()
			}, runtime.WithLoops(2))
		}
	}
}

// Shutdown of the reading side ends a Recv that waits.
func TestShutdownEndsWhoWaits(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, from := range callers {
			client, server := connected(ctx, t, "tcp")
			waits := start(ctx, func(ctx context.Context) {
				from.call(ctx, func(ctx context.Context) {
					if _, err := client.Recv(ctx, make([]byte, 1)); err != io.EOF {
						t.Errorf("%s: %v", from.name, err)
					}
				})
			})
			if err := client.Shutdown(ctx, socket.ShutdownRead); err != nil {
				t.Error(err)
			}
			waits.Join(ctx)
			wantError(t, "no direction", client.Shutdown(ctx, 3), syscall.EINVAL)
			wantError(t, "no direction", client.Shutdown(ctx, -1), syscall.EINVAL)
			client.Abort()
			server.Abort()
		}
	}, runtime.WithLoops(2))
}

// A read stops short at urgent data (MSG_OOB) though there is more; that is received without
// further traffic.
func TestDataBehindUrgentData(t *testing.T) {
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			for round := range 60 {
				s, c := dialed(ctx, t, "tcp")
				s.SetTimeouts(socket.Timeouts{Read: patience})
				speak := func() {
					with(t, c, func(number int) error {
						unix.Sendto(number, []byte("be"), 0, nil)
						unix.Sendto(number, []byte("!"), unix.MSG_OOB, nil)
						return unix.Sendto(number, []byte("hind"), 0, nil)
					})
				}
				if round%2 == 0 {
					speak()
				} else {
					peers.Go(speak)
				}
				from.call(ctx, func(ctx context.Context) {
					var got []byte
					buf := make([]byte, 100)
					for len(got) < 6 {
						n, err := s.Recv(ctx, buf)
						if err != nil {
							t.Errorf("%s, round %d: got %q, then %v", from.name, round, got, err)
							break
						}
						got = append(got, buf[:n]...)
					}
					if string(bytes.ReplaceAll(got, []byte("!"), nil)) != "behind" {
						t.Errorf("%s, round %d: got %q", from.name, round, got)
					}
				})
				peers.Wait()
				s.Abort()
				c.Close()
			}
		}, runtime.WithLoops(2))
	}
}

// Hundreds of sockets, their ends on either loop or used from goroutines, and every byte is
// counted.
func TestPingPongOnTwoLoops(t *testing.T) {
	const (
		pairs  = 150
		rounds = 12
	)
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		rt, _ := runtime.From(ctx)
		var all runtime.WaitGroup
		use := func(i int, fn func(ctx context.Context)) { // by a coroutine of some loop, or by a goroutine
			all.Add(1)
			counted := func(ctx context.Context) { defer all.Done(); fn(ctx) }
			if i%5 == 4 {
				go counted(ctx)
			} else if _, err := rt.Go(counted); err != nil {
				t.Error(err)
			}
		}
		for i := range pairs {
			client, server := connected(ctx, t, []string{"tcp", "unix", "pair"}[i%3])
			data := pattern(20_000 + i)
			use(i, func(ctx context.Context) {
				defer client.Close()
				random := rand.New(rand.NewPCG(uint64(i), 0))
				back := make([]byte, len(data))
				for range rounds {
					n := 1 + random.IntN(len(data))
					if i%2 == 0 {
						n = 1 + random.IntN(100)
					}
					if _, err := client.SendAll(ctx, data[:n]); err != nil {
						t.Error(err)
						return
					}
					if _, err := client.RecvAll(ctx, back[:n]); err != nil {
						t.Error(err)
						return
					}
					mustBe(t, back[:n], data[:n])
				}
				client.Shutdown(ctx, socket.ShutdownWrite)
				if n, err := client.Recv(ctx, back); n != 0 || err != io.EOF {
					t.Error(n, err)
				}
			})
			use(i/2, func(ctx context.Context) {
				defer server.Close()
				buf := make([]byte, 1500)
				for {
					n, err := server.Recv(ctx, buf)
					if err == io.EOF {
						server.Shutdown(ctx, socket.ShutdownWrite)
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := server.SendAll(ctx, buf[:n]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait(ctx)
	}, runtime.WithLoops(2))
}
