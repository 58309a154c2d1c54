//go:build linux

package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestRunWaitsForDelivery(t *testing.T) {
	var peers sync.WaitGroup
	var returned atomic.Bool
	run(t, func(ctx context.Context) {
		s, peer := secured(ctx, t, "tcp", false)
		sent := fill(ctx, t, s)
		s.Close()
		peers.Go(func() {
			defer peer.Close()
			lingers(1)
			if returned.Load() {
				t.Error("Run has returned")
			}
			got, err := io.ReadAll(peer)
			if err != nil {
				t.Error("peer:", err)
			}
			mustBe(t, got, sent)
		})
	})
	returned.Store(true)
	peers.Wait()
}

// A peer that never reads is waited for as long as SetLinger says.
func TestLingerEndsWithItsTime(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer := secured(ctx, t, "tcp", false)
		s.SetLinger(20 * time.Millisecond)
		fill(ctx, t, s)
		s.SendSoon(ctx, make([]byte, 5000))
		began := time.Now()
		s.Close()
		await(ctx, func() {
			lingers(0)
			if took := time.Since(began); took < 20*time.Millisecond {
				t.Errorf("gave up after %v", took)
			}
			peer.Close()
		})
	})
}

// A runtime that is shut down goes on delivering until Shutdown's time is over, and its loop goes
// on, too.
func TestShutdownOfTheRuntimeWhileDelivering(t *testing.T) {
	rt, err := runtime.New(runtime.WithLoops(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	var delivered, stuck net.Conn
	var sent []byte
	closed := make(chan struct{})
	rt.Go(func(ctx context.Context) {
		defer close(closed)
		var a, b *socket.Socket
		a, delivered = secured(ctx, t, "tcp", false)
		b, stuck = secured(ctx, t, "tcp", false)
		sent = fill(ctx, t, a)
		fill(ctx, t, b)
		b.SetLinger(time.Hour)
		a.Close()
		b.Close()
	})
	<-closed
	lingers(2)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- rt.Shutdown(ctx) }()
	<-rt.Context().Done()
	for loop, before := rt.Loops()[0], rt.Loops()[0].Stats(); loop.Stats().Fired < before.Fired+3; goruntime.Gosched() { // it looks now and then
		if n := loop.Stats().Iterations - before.Iterations; n > 10_000 {
			t.Errorf("the loop is busy: %d turns", n)
			break
		}
	}
	got, err := io.ReadAll(delivered)
	if err != nil {
		t.Error(err)
	}
	mustBe(t, got, sent)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a connection was cut, and Shutdown says %v", err)
	}
	delivered.Close()
	stuck.Close()
	lingers(0)
}

// Nothing is started for a Socket that has nothing left to deliver, or may not.
func TestCloseStartsNothingWithoutNeed(t *testing.T) {
	for _, c := range []struct {
		name, network string
		before        func(ctx context.Context, s *socket.Socket, peer net.Conn)
	}{
		{"nothing was sent", "tcp", func(context.Context, *socket.Socket, net.Conn) {}},
		{"all has arrived", "tcp", func(ctx context.Context, s *socket.Socket, peer net.Conn) {
			s.SendAll(ctx, []byte("hello"))
			read(t, peer, 5)
		}},
		{"unread input", "tcp", func(ctx context.Context, s *socket.Socket, peer net.Conn) {
			io.WriteString(peer, "hello")
			until(ctx, func() bool { return unread(s) == 5 })
		}},
		{"a Unix socket has it", "unix", func(ctx context.Context, s *socket.Socket, _ net.Conn) { s.SendAll(ctx, []byte("hello")) }},
		{"not wanted", "tcp", func(ctx context.Context, s *socket.Socket, peer net.Conn) {
			s.SetLinger(0)
			fill(ctx, t, s)
		}},
		{"less than nothing wanted", "tcp", func(ctx context.Context, s *socket.Socket, peer net.Conn) {
			s.SetLinger(-1)
			fill(ctx, t, s)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := secured(ctx, t, c.network, false)
				defer peer.Close()
				c.before(ctx, s, peer)
				s.Close()
				if n := socket.Lingering(); n != 0 {
					t.Errorf("%d deliver", n)
				}
			})
		})
	}
}

// The peer ends its side and then resets the connection. The kernel goes on counting what it will
// never take; that is no reason to linger.
func TestCloseDoesNotLingerAfterAReset(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := secured(ctx, t, "tcp", false)
		s.SetLinger(time.Hour)
		fill(ctx, t, s)
		s.Close()
		await(ctx, func() {
			lingers(1)
			peer.(*net.TCPConn).CloseWrite()
			lingers(1)
			peer.Close() // with unread input
			lingers(0)
		})
	})
}
