//go:build linux

package socket_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// listening makes a listener on the caller's loop.
func listening(ctx context.Context, t testing.TB, network string) *socket.Socket {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" || network == "unixpacket" {
		address = unixName()
	}
	l, err := socket.Listen(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAListenerServesManyClients(t *testing.T) {
	const clients = 200
	for _, from := range callers {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			l := listening(ctx, t, "tcp")
			at := l.LocalAddr().String()
			for i := range clients {
				peers.Go(func() {
					c, err := net.Dial("tcp", at)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					id := binary.BigEndian.AppendUint32(nil, uint32(i))
					c.Write(id)
					if got := read(t, c, 4); string(got) != string(id) {
						t.Errorf("client %d got %d", i, got)
					}
				})
			}
			var served sync.Map
			var serving runtime.WaitGroup
			from.call(ctx, func(ctx context.Context) {
				for range clients {
					s, err := l.Accept(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					err = serving.Go(ctx, func(ctx context.Context) {
						defer s.Close()
						id := make([]byte, 4)
						if _, err := s.RecvAll(ctx, id); err != nil {
							t.Error(err)
							return
						}
						if _, twice := served.LoadOrStore(string(id), true); twice {
							t.Errorf("served twice: %d", id)
						}
						s.SendAll(ctx, id)
						if _, err := s.Recv(ctx, id); err != io.EOF {
							t.Error(err)
						}
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
			serving.Wait(ctx)
			l.Close()
		}, runtime.WithLoops(2))
	}
}

// What ends Accept loses no connection: the next one gets it.
func TestAcceptIsEnded(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "unixpacket"} {
		for _, from := range callers {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				l := listening(ctx, t, network)
				at, client := l.LocalAddr().String(), fresh(t, network)
				accepts := func(ctx context.Context, want error) {
					from.call(ctx, func(ctx context.Context) {
						_, err := l.Accept(ctx)
						wantError(t, from.name, err, want)
						sleepsFully(ctx, t)
					})
				}
				l.SetTimeouts(socket.Timeouts{Read: soon})
				accepts(ctx, runtime.ErrTimeout)

				l.SetTimeouts(socket.Timeouts{})
				from.call(ctx, func(ctx context.Context) {
					limited, cancel := context.WithTimeout(ctx, soon)
					defer cancel()
					_, err := l.Accept(limited)
					wantError(t, from.name, err, context.DeadlineExceeded)
				})

				waits := start(ctx, func(ctx context.Context) { accepts(ctx, socket.ErrCanceled) })
				until(ctx, func() bool { return l.Cancel(socket.ReadEvent) })
				waits.Join(ctx)

				if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
					t.Fatal(err)
				}
				from.call(ctx, func(ctx context.Context) {
					server, err := l.Accept(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					talk(ctx, t, client, server)
					server.Close()
				})

				waits = start(ctx, func(ctx context.Context) { accepts(ctx, net.ErrClosed) })
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				waits.Join(ctx)
				accepts(ctx, net.ErrClosed)
				client.Close()
				wantError(t, "after Close", fresh(t, network).Connect(ctx, at), syscall.ECONNREFUSED)
			}, runtime.WithLoops(2))
		}
	}
}

func TestOneAcceptAtATime(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		waits := start(ctx, func(ctx context.Context) {
			_, err := l.Accept(ctx)
			wantError(t, "the first", err, net.ErrClosed)
		})
		for _, from := range callers {
			from.call(ctx, func(ctx context.Context) {
				_, err := l.Accept(ctx)
				wantError(t, from.name, err, socket.ErrBusy)
			})
		}
		l.Close()
		waits.Join(ctx)
	}, runtime.WithLoops(2))
}

func TestAcceptedSocketsInherit(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Close()
		times := socket.Timeouts{Connect: 1, Read: patience, Write: 3, Handshake: 4}
		l.SetTimeouts(times)
		client := fresh(t, "tcp")
		defer client.Abort()
		if client.Timeouts() != (socket.Timeouts{Connect: socket.DefaultConnectTimeout, Read: socket.DefaultReadTimeout,
			Write: socket.DefaultWriteTimeout, Handshake: socket.DefaultHandshakeTimeout}) {
			t.Errorf("defaults are %v", client.Timeouts())
		}
		if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Abort()
		if server.Timeouts() != times {
			t.Errorf("time-outs are %v", server.Timeouts())
		}
		// They are its own from now on.
		l.SetTimeouts(socket.Timeouts{})
		if server.Timeouts() != times {
			t.Errorf("time-outs are %v", server.Timeouts())
		}
	})
}

// An accepted socket lives on the loop of whoever accepts it.
func TestAcceptedSocketsAreOnTheCallersLoop(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Close()
		for range 3 {
			client := fresh(t, "tcp")
			defer client.Abort()
			if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			elsewhere(ctx, func(ctx context.Context) {
				server, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Abort()
				if server.Loop() != runtime.Current(ctx).Loop() {
					t.Errorf("accepted on %s, is on %s", runtime.Current(ctx).Loop().Name(), server.Loop().Name())
				}
			}).Join(ctx)
		}
		if l.Loop() != runtime.Current(ctx).Loop() {
			t.Error("the listener is on another loop")
		}
	}, runtime.WithLoops(3))
}

// A peer that resets the connection before it is accepted costs the listener nothing.
func TestAPeerThatResetsBeforeAccept(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		defer l.Close()
		l.SetTimeouts(socket.Timeouts{Read: patience})
		for range 10 {
			gone, stays := fresh(t, "tcp"), fresh(t, "tcp")
			for _, s := range []*socket.Socket{gone, stays} {
				if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
					t.Fatal(err)
				}
			}
			if err := gone.Abort(); err != nil {
				t.Fatal(err)
			}
			server, err := l.Accept(ctx) // Linux hands out the connection that is gone, too
			if err != nil {
				t.Fatal(err)
			}
			_, err = server.Recv(ctx, make([]byte, 1))
			wantError(t, "the connection that was reset", err, syscall.ECONNRESET)
			server.Close()
			if server, err = l.Accept(ctx); err != nil {
				t.Fatal(err)
			}
			talk(ctx, t, stays, server)
			server.Abort()
			stays.Abort()
		}
	})
}

func TestListenNeedsABoundStreamSocket(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s := fresh(t, "tcp")
		wantError(t, "Listen before Bind", s.Listen(0), socket.ErrNotConnected)
		_, err := s.Accept(ctx)
		wantError(t, "Accept before Bind", err, socket.ErrNotConnected)
		if err := s.Bind(ctx, "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Accept(ctx)
		wantError(t, "Accept before Listen", err, syscall.EINVAL)
		for range 2 {
			if err := s.Listen(1); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		wantError(t, "Listen after Close", s.Listen(0), net.ErrClosed)

		for _, network := range []string{"udp", "unixgram"} {
			_, err = socket.Listen(ctx, network, "127.0.0.1:0")
			wantError(t, network, err, syscall.EOPNOTSUPP)
		}
		_, err = socket.Listen(ctx, "sctp", "127.0.0.1:0")
		wantError(t, "sctp", err, net.UnknownNetworkError("sctp"))
		_, err = socket.Listen(ctx, "tcp", "127.0.0.1")
		if err == nil {
			t.Error("listens without a port")
		}

		client, server := connected(ctx, t, "tcp")
		_, err = client.Accept(ctx)
		wantError(t, "Accept of a client", err, syscall.EINVAL)
		wantError(t, "Listen of a client", client.Listen(0), syscall.EINVAL)
		wantError(t, "Connect of an accepted socket", server.Connect(ctx, "127.0.0.1:25"), socket.ErrConnected)
		client.Abort()
		server.Abort()
	})
}
