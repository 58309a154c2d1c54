//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// watcher counts what it is told.
type watcher struct{ readable, writable int }

func (w *watcher) Readable() { w.readable++ }
func (w *watcher) Writable() { w.writable++ }

// watched makes a Socket that is watched and its peer.
func watched(ctx context.Context, t *testing.T, network string) (*socket.Socket, net.Conn, *watcher) {
	t.Helper()
	s, peer := accepted(ctx, t, network)
	w := new(watcher)
	if err := inner(s).Watch(w); err != nil {
		t.Fatal(err)
	}
	if p, err := inner(s).TryRecvPacket(); p != nil || err != socket.ErrWouldBlock {
		t.Fatalf("%q, %v", p, err)
	}
	return s, peer, w
}

// told yields until the watcher has been told of input once more.
func (w *watcher) told(ctx context.Context) {
	before := w.readable
	until(ctx, func() bool { return w.readable > before })
}

func TestWatchTellsOfInput(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer, w := watched(ctx, t, network)
			for range 3 {
				if _, err := peer.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				w.told(ctx)
				if p, err := inner(s).TryRecvPacket(); string(p) != "hello" || err != nil {
					t.Errorf("%q, %v", p, err)
				}
				if p, err := inner(s).TryRecvPacket(); p != nil || err != socket.ErrWouldBlock {
					t.Errorf("%q, %v", p, err)
				}
			}
			peer.Close()
			w.told(ctx)
			if p, err := inner(s).TryRecvPacket(); p != nil && err == nil {
				t.Errorf("%q", p)
			}
			for range 2 {
				if p, err := inner(s).TryRecvPacket(); p != nil || err != io.EOF {
					t.Errorf("%q, %v", p, err)
				}
			}
			s.Close()
			if _, err := inner(s).TryRecvPacket(); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if err := inner(s).Watch(w); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// Packets come one by one; one that comes in pieces is nil, nil in between.
func TestTryRecvPacketWithAProtocol(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer, w := watched(ctx, t, "tcp")
		defer s.Close()
		defer peer.Close()
		framer, err := packet.NewEOF("\n", 100)
		if err != nil {
			t.Fatal(err)
		}
		s.SetProtocol(framer)
		got := ""
		for _, piece := range []string{"a", "b\nc", "d\ne\n", strings.Repeat("x", 50) + "\n"} {
			peer.Write([]byte(piece))
			w.told(ctx)
			for {
				p, err := inner(s).TryRecvPacket()
				if err == socket.ErrWouldBlock {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got += string(p)
			}
		}
		if want := "ab\ncd\ne\n" + strings.Repeat("x", 50) + "\n"; got != want {
			t.Errorf("%q", got)
		}
		peer.Write([]byte(strings.Repeat("y", 101)))
		w.told(ctx)
		_, err = inner(s).TryRecvPacket()
		for err == nil {
			_, err = inner(s).TryRecvPacket()
		}
		if !errors.Is(err, packet.ErrPacketTooLarge) {
			t.Error(err)
		}
	})
}

// An operation that waits gets the event instead of the watcher; afterwards, and with nil, it is as
// before.
func TestWatcherStandsBack(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer, w := watched(ctx, t, "tcp")
		defer s.Close()
		defer peer.Close()
		reader, _ := runtime.Go(ctx, func(ctx context.Context) {
			buf := make([]byte, 10)
			if n, err := s.Recv(ctx, buf); string(buf[:n]) != "waiter" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		})
		if _, err := inner(s).TryRecvPacket(); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		before := w.readable
		peer.Write([]byte("waiter"))
		reader.Join(ctx)
		if w.readable != before {
			t.Error("the watcher was told as well")
		}
		peer.Write([]byte("watcher"))
		w.told(ctx)
		inner(s).Watch(nil)
		before = w.readable
		peer.Write([]byte(", nobody"))
		buf := make([]byte, 100)
		if n, err := s.RecvAll(ctx, buf[:15]); n != 15 || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		if w.readable != before {
			t.Error("told after its time")
		}
	})
}

// These are for the socket's own loop.
func TestWatchElsewhere(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer, w := watched(ctx, t, "tcp")
		defer s.Close()
		defer peer.Close()
		await(ctx, func() {
			_, recvErr := inner(s).TryRecvPacket()
			_, queueErr := inner(s).Queue([]byte("x"), 100)
			_, pushErr := inner(s).Push()
			_, arrivedErr := inner(s).Arrived(make([]byte, 1))
			for what, err := range map[string]error{
				"Watch": inner(s).Watch(w), "TryRecvPacket": recvErr, "Queue": queueErr, "Push": pushErr, "Arrived": arrivedErr, "Discard": inner(s).Discard(1),
			} {
				if !errors.Is(err, syscall.EXDEV) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if inner(s).OnLoop() || inner(s).Queued() != 0 {
				t.Error("on the loop")
			}
		})
		if !inner(s).OnLoop() {
			t.Error("not on the loop")
		}
	})
}

// Queue takes all or nothing, up to the limit; what the kernel has no room for goes out as it gets
// some, in order, and Writable tells.
func TestQueue(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, secure := range []bool{false, true} {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				const limit = 1 << 20
				s, raw, w := watched(ctx, t, network)
				defer s.Close()
				defer raw.Close()
				peer := overTLS(ctx, t, peers, s, raw, secure)
				s.SetBuffers(0, 16<<10)
				sent, queued := 0, 0
				for {
					p := pattern(8 << 20)[sent : sent+10_000]
					n, err := inner(s).Queue(p, limit)
					if errors.Is(err, socket.ErrQueueFull) {
						if n != queued {
							t.Errorf("%d bytes are queued, were %d", n, queued)
						}
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					sent += len(p)
					if queued, err = inner(s).Push(); err != nil {
						t.Fatal(err)
					}
				}
				if queued > limit+limit/32 || queued < limit-limit/32 || inner(s).Queued() != queued {
					t.Errorf("%d bytes are queued", queued)
				}
				before := w.writable
				var reader sync.WaitGroup
				reader.Go(func() { mustBe(t, read(t, peer, sent), pattern(sent)) })
				until(ctx, func() bool { return inner(s).Queued() == 0 })
				await(ctx, reader.Wait)
				if w.writable == before {
					t.Error("the watcher was not told")
				}
			})
		}
	}
}

// overTLS has both ends speak TLS, if so, and returns the peer's.
func overTLS(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, raw net.Conn, secure bool) io.Reader {
	t.Helper()
	if !secure {
		return raw
	}
	forClient, forServer := configs(0)
	client := tls.Client(raw, forClient)
	peers.Go(func() {
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := s.SSLHandshake(ctx, forServer); err != nil {
		t.Fatal(err)
	}
	await(ctx, func() { client.Handshake() })
	return client
}

// Push sends all that is queued at once; a datagram socket has no queue; Sending tells of others.
func TestPushAndSending(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer, _ := watched(ctx, t, "tcp")
		defer s.Close()
		defer peer.Close()
		for _, text := range []string{"one ", "two ", "three"} {
			if _, err := inner(s).Queue([]byte(text), 100); err != nil {
				t.Error(err)
			}
		}
		if n := inner(s).Queued(); n != 13 {
			t.Errorf("%d bytes are queued", n)
		}
		if queued, err := inner(s).Push(); queued != 0 || err != nil {
			t.Error(queued, err)
		}
		await(ctx, func() { mustBe(t, read(t, peer, 13), []byte("one two three")) })
		if inner(s).Sending() {
			t.Error("somebody sends")
		}
		sender, _ := runtime.Go(ctx, func(ctx context.Context) { s.SendAll(ctx, pattern(16<<20)) })
		if !inner(s).Sending() {
			t.Error("nobody sends")
		}
		if _, err := inner(s).Queue([]byte("x"), 100); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		peers.Go(func() { io.Copy(io.Discard, peer) })
		sender.Join(ctx)
		a, b, err := socket.Pair(ctx, "unixgram")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		defer b.Close()
		if _, err := inner(a).Queue([]byte("x"), 100); !errors.Is(err, syscall.EPROTONOSUPPORT) {
			t.Error(err)
		}
	})
}

// Arrived looks and takes nothing, Discard takes; afterwards everything works as if they had not
// been.
func TestArrivedAndDiscard(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer, w := watched(ctx, t, network)
			defer s.Close()
			buf := make([]byte, 100)
			if n, err := inner(s).Arrived(buf); n != 0 || err != socket.ErrWouldBlock {
				t.Error(n, err)
			}
			peer.Write([]byte("header and the rest"))
			w.told(ctx)
			for range 2 {
				if n, err := inner(s).Arrived(buf); string(buf[:n]) != "header and the rest" || err != nil {
					t.Errorf("%q, %v", buf[:n], err)
				}
			}
			if err := inner(s).Discard(7); err != nil {
				t.Error(err)
			}
			if n, err := inner(s).Arrived(buf[:3]); string(buf[:n]) != "and" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
			if p, err := inner(s).TryRecvPacket(); string(p) != "and the rest" || err != nil {
				t.Errorf("%q, %v", p, err)
			}
			if inner(s).HungUp() {
				t.Error("hung up")
			}
			peer.Write([]byte("last"))
			peer.Close()
			until(ctx, inner(s).HungUp)
			if n, err := inner(s).Arrived(buf); string(buf[:n]) != "last" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
			if err := inner(s).Discard(4); err != nil {
				t.Error(err)
			}
			if n, err := inner(s).Arrived(buf); n != 0 || err != io.EOF {
				t.Error(n, err)
			}
			if err := inner(s).Discard(1); err != io.EOF {
				t.Error(err)
			}
		})
	}
}
