//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	goruntime "runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// lingers waits, in a peer, until n closed Sockets deliver in the background what they have sent.
func lingers(n int) {
	for socket.Lingering() != n {
		goruntime.Gosched()
	}
}

// secured connects a Socket, the client, to a connection of package net, and turns it into TLS if
// asked to.
func secured(ctx context.Context, t testing.TB, network string, secure bool) (*socket.Socket, net.Conn) {
	t.Helper()
	s, peer := dialed(ctx, t, network)
	if c, ok := peer.(*net.TCPConn); ok {
		c.SetReadBuffer(64 << 10) // so that the rest stays with us
	}
	if !secure {
		return s, peer
	}
	forClient, forServer := configs(0)
	tlsPeer := tls.Server(peer, forServer)
	var shaken sync.WaitGroup
	shaken.Go(func() {
		if err := tlsPeer.Handshake(); err != nil {
			t.Error("peer:", err)
		}
	})
	if err := s.SSLHandshake(ctx, forClient); err != nil {
		t.Fatal(err)
	}
	await(ctx, shaken.Wait)
	return s, tlsPeer
}

// Close at once after SendAll loses nothing of 16 MiB, though the peer takes its time, and though
// it sends what nobody reads.
func TestCloseDeliversWhatWasSent(t *testing.T) {
	sent := pattern(16 << 20)
	const late = 1 << 20 // that the peer reads after Close
	for _, c := range []struct {
		name, network  string
		secure, chatty bool
		mustLinger     bool
	}{
		{"TCP", "tcp", false, false, true},
		{"TCP, unread input", "tcp", false, true, true},
		{"TLS", "tcp", true, false, true},
		{"TLS, unread input", "tcp", true, true, true},
		{"Unix", "unix", false, false, false},
		{"TLS over Unix", "unix", true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, c.network, c.secure)
				if c.chatty {
					peers.Go(func() {
						for err := error(nil); err == nil; _, err = peer.Write(make([]byte, 10_000)) {
						}
					})
				}
				early := len(sent)
				if c.mustLinger {
					early -= late
				}
				peers.Go(func() {
					defer peer.Close()
					got := read(t, peer, early)
					if c.mustLinger {
						lingers(1)
					}
					rest, err := io.ReadAll(peer) // with TLS, nil says that close_notify has come
					if err != nil {
						t.Error("peer:", err)
					}
					mustBe(t, append(got, rest...), sent)
				})
				if n, err := s.SendAll(ctx, sent); n != len(sent) || err != nil {
					t.Error(n, err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What SendSoon has queued is delivered, too: in the turn in which it was queued, and when the
// kernel has no room for it.
func TestCloseDeliversWhatIsQueued(t *testing.T) {
	for _, c := range []struct {
		name, network string
		secure, full  bool
	}{
		{"TCP", "tcp", false, false}, {"Unix", "unix", false, false}, {"TLS", "tcp", true, false},
		{"TCP, no room", "tcp", false, true}, {"Unix, no room", "unix", false, true}, {"TLS, no room", "tcp", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, c.network, c.secure)
				var sent []byte
				if c.full && !c.secure {
					sent = fill(ctx, t, s)
				}
				message, taken := pattern(5000), 0
				if c.full && c.secure { // the count leaves out what the queue still holds
					s.SetTimeouts(socket.Timeouts{Write: 10 * time.Millisecond})
					message = pattern(32 << 20)
					var err error
					if taken, err = s.SendAll(ctx, message); !errors.Is(err, runtime.ErrTimeout) {
						t.Error(err)
					}
				} else if _, err := s.SendSoon(ctx, message); err != nil {
					t.Error(err)
				}
				sent = append(sent, message...)
				s.Close()
				peers.Go(func() {
					defer peer.Close()
					if c.full {
						lingers(1)
					}
					got, err := io.ReadAll(peer)
					if err != nil {
						t.Error("peer:", err)
					}
					if c.full && c.secure {
						if len(got) < taken {
							t.Errorf("the peer got %d bytes of %d", len(got), taken)
						}
						sent = sent[:min(len(got), len(sent))]
					}
					mustBe(t, got, sent)
				})
			})
		})
	}
}

// fill sends until nothing more goes, and returns what went.
func fill(ctx context.Context, t testing.TB, s *socket.Socket) []byte {
	t.Helper()
	before := s.Timeouts()
	s.SetTimeouts(socket.Timeouts{Write: 10 * time.Millisecond})
	defer s.SetTimeouts(before)
	all := pattern(32 << 20)
	sent := 0
	for {
		n, err := s.SendAll(ctx, all[sent:])
		if !errors.Is(err, runtime.ErrTimeout) {
			t.Fatal(n, err)
		}
		if n == 0 { // before that, the time may have been over though there was room
			return all[:sent:sent]
		}
		sent += n
	}
}

// The peer first sends all it has, then reads: it can do so only if we read, too, while we deliver.
func TestCloseReadsWhileItDelivers(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer := secured(ctx, t, "tcp", false)
		sent := fill(ctx, t, s)
		s.SendSoon(ctx, []byte("the end"))
		s.Close()
		peers.Go(func() {
			defer peer.Close()
			lingers(1)
			if _, err := peer.Write(make([]byte, 64<<20)); err != nil {
				t.Error("peer:", err)
			}
			got, err := io.ReadAll(peer)
			if err != nil {
				t.Error("peer:", err)
			}
			mustBe(t, got, append(sent, "the end"...))
		})
	})
}

// Those who wait are woken with net.ErrClosed, also if something is still to be delivered; and that
// is delivered. Whoever closes.
func TestCloseWakesThoseWhoWaitAndDelivers(t *testing.T) {
	for _, from := range []string{"coroutine", "goroutine"} {
		for _, secure := range []bool{false, true} {
			t.Run(from, func(t *testing.T) {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					s, peer := secured(ctx, t, "tcp", secure)
					rt, _ := runtime.From(ctx)
					var ends []string
					var others runtime.WaitGroup
					others.Go(ctx, func(ctx context.Context) {
						if _, err := s.Recv(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						ends = append(ends, "reader")
					})
					sent := pattern(32 << 20)
					taken := 0
					others.Go(ctx, func(ctx context.Context) {
						var err error
						if taken, err = s.SendAll(ctx, sent); !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						ends = append(ends, "writer")
					})
					await(ctx, func() {
						for !waiting(rt, "socket send") || !waiting(rt, "socket recv") {
							goruntime.Gosched()
						}
						if from == "goroutine" {
							s.Close()
						}
					})
					if from == "coroutine" {
						s.Close()
					}
					others.Wait(ctx)
					if len(ends) != 2 || ends[0] != "writer" {
						t.Error("woken in this order:", ends)
					}
					closedForGood(ctx, t, s)
					peers.Go(func() {
						defer peer.Close()
						got, err := io.ReadAll(peer)
						if err != nil {
							t.Error("peer:", err)
						}
						if len(got) < taken || !secure && len(got) != taken {
							t.Errorf("the peer got %d bytes, SendAll returned %d", len(got), taken)
						}
						mustBe(t, got, sent[:len(got)])
					})
				})
			})
		}
	}
}

// Whoever is sending while another goroutine closes is told of that, and not of what closing does
// to the connection.
func TestWhoSendsIsToldOfClose(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for range 200 {
			s, peer := secured(ctx, t, "tcp", false)
			if _, err := peer.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
			_, err := runtime.Await(ctx, func() (struct{}, error) {
				begun, ended := make(chan struct{}), make(chan error)
				go func() {
					close(begun)
					for {
						if _, err := s.SendAll(ctx, []byte("x")); err != nil {
							ended <- err
							return
						}
					}
				}()
				<-begun
				s.Close()
				return struct{}{}, <-ended
			})
			wantError(t, "SendAll", err, net.ErrClosed)
			peer.Close()
		}
	})
}

func TestAbortResets(t *testing.T) {
	for _, secure := range []bool{false, true} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := secured(ctx, t, "tcp", secure)
			defer peer.Close()
			var waiters runtime.WaitGroup
			waiters.Go(ctx, func(ctx context.Context) {
				if _, err := s.Recv(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
			waiters.Go(ctx, func(ctx context.Context) {
				if _, err := s.SendAll(ctx, make([]byte, 32<<20)); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
			if err := s.Abort(); err != nil {
				t.Error(err)
			}
			if err := s.Abort(); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			waiters.Wait(ctx)
			closedForGood(ctx, t, s)
			await(ctx, func() {
				if _, err := io.Copy(io.Discard, peer); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("secure: %v; the peer got %v", secure, err)
				}
			})
		})
	}
}

// The address is free when Close returns, though somebody has waited in Accept until then.
func TestCloseOfAListenerFreesItsAddressAtOnce(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "unixpacket"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			l := listening(ctx, t, network)
			at, client := l.LocalAddr().String(), fresh(t, network)
			var err error
			accept := start(ctx, func(ctx context.Context) { _, err = l.Accept(ctx) })
			l.Close()
			wantError(t, "Connect", client.Connect(ctx, at), syscall.ECONNREFUSED)
			if network == "tcp" {
				again, err := socket.Listen(ctx, network, at)
				if err != nil {
					t.Fatal(err)
				}
				again.Close()
			}
			accept.Join(ctx)
			wantError(t, "Accept", err, net.ErrClosed)
			client.Close()
		}, runtime.WithLoops(1))
	}
}

// A listener that others have, too, goes on listening for them.
func TestCloseOfAListenerThatWasPassedOnLeavesItToOthers(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		first := listening(ctx, t, "tcp")
		file, err := first.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		second, err := socket.Adopt(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		third, err := socket.Adopt(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		client := fresh(t, "tcp")
		for _, l := range []*socket.Socket{first, second} {
			accept := start(ctx, func(ctx context.Context) { l.Accept(ctx) })
			l.Close()
			accept.Join(ctx)
		}
		if err := client.Connect(ctx, third.LocalAddr().String()); err != nil {
			t.Error(err)
		}
		client.Close()
		third.Close()
	}, runtime.WithLoops(1))
}
