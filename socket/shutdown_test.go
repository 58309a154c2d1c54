//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// The peer reads what was sent, also what was only queued, then the end, and can still answer.
func TestShutdownWriteHalfCloses(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, secure := range []bool{false, true} {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, network, secure)
				defer s.Close()
				peers.Go(func() {
					defer peer.Close()
					got, err := io.ReadAll(peer) // with TLS: nil only after close_notify
					if string(got) != "a question" || err != nil {
						t.Errorf("the peer got %q, %v", got, err)
					}
					if secure {
						if n, err := peer.(*tls.Conn).NetConn().Read(make([]byte, 1)); n != 0 || err != io.EOF {
							t.Errorf("behind close_notify there is %d, %v", n, err)
						}
					}
					io.WriteString(peer, "an answer")
				})
				s.SendAll(ctx, []byte("a "))
				s.SendSoon(ctx, []byte("question"))
				if err := s.Shutdown(ctx, socket.ShutdownWrite); err != nil {
					t.Error(err)
				}
				if err := s.Shutdown(ctx, socket.ShutdownWrite); err != nil && !errors.Is(err, syscall.ENOTCONN) { // the peer may have ended by now
					t.Error(err)
				}
				if _, err := s.SendAll(ctx, []byte("more")); err == nil || !secure && !errors.Is(err, syscall.EPIPE) {
					t.Error(err)
				}
				got := make([]byte, 100)
				if n, err := s.RecvAll(ctx, got); string(got[:n]) != "an answer" || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%q, %v", got[:n], err)
				}
			})
		}
	}
}

// What waits in the queue because the kernel has no room goes first.
func TestShutdownWriteWaitsForTheQueue(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		rt, _ := runtime.From(ctx)
		s, peer := secured(ctx, t, "unix", false)
		defer s.Close()
		sent := fill(ctx, t, s)
		s.SendSoon(ctx, []byte("the end"))
		peers.Go(func() {
			defer peer.Close()
			for !waiting(rt, "socket send") {
			}
			got, err := io.ReadAll(peer)
			if err != nil {
				t.Error("peer:", err)
			}
			mustBe(t, got, append(sent, "the end"...))
		})
		if err := s.Shutdown(ctx, socket.ShutdownWrite); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownReadEndsTheReader(t *testing.T) {
	for _, how := range []socket.How{socket.ShutdownRead, socket.ShutdownBoth} {
		for _, network := range []string{"tcp", "unix"} {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := dialed(ctx, t, network)
				defer peer.Close()
				defer s.Close()
				reader, _ := runtime.Go(ctx, func(ctx context.Context) {
					if n, err := s.Recv(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
						t.Error(n, err)
					}
				})
				if err := s.Shutdown(ctx, how); err != nil {
					t.Error(err)
				}
				reader.Join(ctx)
				_, err := s.SendAll(ctx, []byte("hello"))
				if how == socket.ShutdownRead && err != nil || how == socket.ShutdownBoth && !errors.Is(err, syscall.EPIPE) {
					t.Error(how, err)
				}
			})
		}
	}
}

func TestShutdownThatCannotBe(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, _ := socket.New("tcp")
		if err := s.Shutdown(ctx, socket.ShutdownWrite); !errors.Is(err, socket.ErrNotConnected) {
			t.Error(err)
		}
		s, peer := dialed(ctx, t, "tcp")
		for _, how := range []socket.How{-1, 3, 100} {
			if err := s.Shutdown(ctx, how); !errors.Is(err, syscall.EINVAL) {
				t.Error(err)
			}
		}
		writer, _ := runtime.Go(ctx, func(ctx context.Context) { s.SendAll(ctx, pattern(32<<20)) })
		if err := s.Shutdown(ctx, socket.ShutdownWrite); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		peer.Close()
		writer.Join(ctx)
		s.Close()
		if err := s.Shutdown(ctx, socket.ShutdownRead); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
