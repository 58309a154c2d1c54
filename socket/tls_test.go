//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// handshakes shakes hands at both ends, in two coroutines of the loop.
func handshakes(ctx context.Context, t testing.TB, client, server *socket.Socket, version uint16) {
	t.Helper()
	forClient, forServer := configs(version)
	if err := bothShake(ctx, client, server, forClient, forServer); err != nil {
		t.Fatal(err)
	}
}

func bothShake(ctx context.Context, client, server *socket.Socket, forClient, forServer *tls.Config) error {
	return runtime.ForEach(ctx, 2, func(ctx context.Context, i int) error {
		if i == 0 {
			return client.SSLHandshake(ctx, forClient)
		}
		return server.SSLHandshake(ctx, forServer)
	})
}

// converse sends a line each way and ends the connection in an orderly way from both sides.
func converse(ctx context.Context, t testing.TB, client, server *socket.Socket) {
	t.Helper()
	for _, way := range []struct{ from, to *socket.Socket }{{client, server}, {server, client}} {
		if _, err := way.from.SendAll(ctx, []byte("hello over TLS\n")); err != nil {
			t.Error(err)
		}
		if line, err := way.to.RecvLine(ctx, 100); string(line) != "hello over TLS\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
	}
	if err := client.Shutdown(ctx, socket.ShutdownWrite); err != nil {
		t.Error(err)
	}
	if _, err := server.Recv(ctx, make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	server.Close()
	if _, err := client.Recv(ctx, make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	client.Close()
}

// eachVersion runs a test for each version of TLS.
func eachVersion(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

func TestSSLHandshakeBetweenSockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "pair"} {
		t.Run(network, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version uint16) {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					client, server := connected(ctx, t, network)
					if _, ok := client.ConnectionState(); ok {
						t.Error("a ConnectionState before the handshake")
					}
					handshakes(ctx, t, client, server, version)
					for _, s := range []*socket.Socket{client, server} {
						state, ok := s.ConnectionState()
						if !ok || !state.HandshakeComplete || state.Version != version || state.ServerName != "mail.test" {
							t.Errorf("%v, %+v", ok, state)
						}
					}
					if state, _ := client.ConnectionState(); len(state.VerifiedChains) == 0 || state.PeerCertificates[0].DNSNames[0] != "mail.test" {
						t.Errorf("%+v", state)
					}
					converse(ctx, t, client, server)
				})
			})
		})
	}
}

// The other end is crypto/tls on a connection of package net.
func TestSSLHandshakeWithCryptoTLS(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, role := range []string{"client", "server"} {
			t.Run(network+" "+role, func(t *testing.T) {
				eachVersion(t, func(t *testing.T, version uint16) {
					withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
						s, peer, config := withCryptoTLS(ctx, t, network, role, version)
						defer s.Close()
						peers.Go(func() {
							defer peer.Close()
							if _, err := io.Copy(peer, peer); err != nil {
								t.Error("peer:", err)
							}
						})
						if err := s.SSLHandshake(ctx, config); err != nil {
							t.Fatal(err)
						}
						echo(ctx, t, s, pattern(100_000))
						s.Shutdown(ctx, socket.ShutdownWrite)
						if _, err := s.Recv(ctx, make([]byte, 1)); err != io.EOF {
							t.Error(err)
						}
					})
				})
			})
		}
	}
}

// withCryptoTLS connects a Socket in a role to crypto/tls in the other, and returns the Socket's
// configuration.
func withCryptoTLS(ctx context.Context, t testing.TB, network, role string, version uint16) (*socket.Socket, *tls.Conn, *tls.Config) {
	t.Helper()
	forClient, forServer := configs(version)
	if role == "client" {
		s, c := dialed(ctx, t, network)
		return s, tls.Server(c, forServer), forClient
	}
	s, c := accepted(ctx, t, network)
	return s, tls.Client(c, forClient), forServer
}

// echo sends p in one coroutine and receives it in this one.
func echo(ctx context.Context, t testing.TB, s *socket.Socket, p []byte) {
	t.Helper()
	sender, err := runtime.Go(ctx, func(ctx context.Context) {
		if n, err := s.SendAll(ctx, p); n != len(p) || err != nil {
			t.Error(n, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p))
	if n, err := s.RecvAll(ctx, got); err != nil {
		t.Error(n, err)
	}
	sender.Join(ctx)
	mustBe(t, got, p)
}

func TestSSLHandshakeAcrossLoops(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			rt, err := runtime.From(ctx)
			if err != nil {
				t.Fatal(err)
			}
			forClient, forServer := configs(version)
			l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var elsewhere runtime.WaitGroup
			elsewhere.Add(1)
			rt.Loops()[1].Post(func() {
				runtime.Go(ctx, func(ctx context.Context) {
					defer elsewhere.Done()
					s, err := l.Accept(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Close()
					if s.Loop() == l.Loop() {
						t.Error("both ends are on one loop")
					}
					if err := s.SSLHandshake(ctx, forServer); err != nil {
						t.Error(err)
						return
					}
					buf := make([]byte, 1000)
					for {
						n, err := s.Recv(ctx, buf)
						if err != nil {
							if err != io.EOF {
								t.Error(err)
							}
							return
						}
						if _, err := s.SendAll(ctx, buf[:n]); err != nil {
							t.Error(err)
						}
					}
				})
			})
			c, _ := socket.New("tcp")
			if err := c.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			if err := c.SSLHandshake(ctx, forClient); err != nil {
				t.Fatal(err)
			}
			echo(ctx, t, c, pattern(200_000))
			c.Close()
			elsewhere.Wait(ctx)
		}, runtime.WithLoops(2))
	})
}

func TestSSLHandshakeFromPlainGoroutines(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			forClient, forServer := configs(version)
			client, server := connected(ctx, t, "tcp")
			var ends sync.WaitGroup
			ends.Go(func() {
				if err := server.SSLHandshake(ctx, forServer); err != nil {
					t.Error(err)
				}
				got := make([]byte, 300_000)
				if n, err := server.RecvAll(ctx, got); err != nil {
					t.Error(n, err)
				}
				if _, err := server.SendAll(ctx, got); err != nil {
					t.Error(err)
				}
			})
			ends.Go(func() {
				if err := client.SSLHandshake(ctx, forClient); err != nil {
					t.Error(err)
				}
				if _, err := client.SendAll(ctx, pattern(300_000)); err != nil {
					t.Error(err)
				}
				got := make([]byte, 300_000)
				if n, err := client.RecvAll(ctx, got); err != nil {
					t.Error(n, err)
				}
				mustBe(t, got, pattern(300_000))
			})
			await(ctx, ends.Wait)
			client.Close()
			server.Close()
		})
	})
}

// Both ends send 4 MiB at the same time, through kernel buffers of 4 KiB: nobody may wait for
// sending to end before it receives.
func TestTLSBothDirectionsThroughTinyBuffers(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			client, server := connected(ctx, t, "pair")
			client.SetBuffers(4096, 4096)
			server.SetBuffers(4096, 4096)
			handshakes(ctx, t, client, server, version)
			sent := pattern(4 << 20)
			var ends runtime.WaitGroup
			for _, s := range []*socket.Socket{client, server} {
				ends.Go(ctx, func(ctx context.Context) { echo(ctx, t, s, sent) }) // each receives what the other sends
			}
			ends.Wait(ctx)
			converse(ctx, t, client, server)
		})
	})
}

func TestTLSOverTCPThroughTinyBuffers(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer, config := withCryptoTLS(ctx, t, "tcp", "client", version)
			defer s.Close()
			s.SetBuffers(4096, 4096)
			peers.Go(func() { io.Copy(peer, peer); peer.Close() })
			if err := s.SSLHandshake(ctx, config); err != nil {
				t.Fatal(err)
			}
			echo(ctx, t, s, pattern(16_000))
		})
	})
}

func TestTLSManySmallRecords(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			client, server := connected(ctx, t, "tcp")
			handshakes(ctx, t, client, server, version)
			var want bytes.Buffer
			sender, err := runtime.Go(ctx, func(ctx context.Context) {
				for i := range 3000 {
					send := client.SendAll
					if i%3 == 0 {
						send = client.SendSoon
					}
					line := fmt.Appendf(nil, "%d\n", i)
					want.Write(line)
					if n, err := send(ctx, line); n != len(line) || err != nil {
						t.Error(n, err)
						return
					}
				}
				client.Shutdown(ctx, socket.ShutdownWrite)
			})
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for i := 0; ; i++ {
				line, err := server.RecvLine(ctx, 100)
				if err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					break
				}
				got.Write(line)
			}
			sender.Join(ctx)
			mustBe(t, got.Bytes(), want.Bytes())
			client.Close()
			server.Close()
		})
	})
}

// What the peer says arrives in the same segments as the last message of its handshake.
func TestTLSDataRightBehindTheHandshake(t *testing.T) {
	for _, c := range []struct {
		role        string
		lines, size int // a record each; more than is read at a time during a handshake
	}{{"client", 300, 10}, {"client", 1, 3000}, {"server", 300, 10}, {"server", 1, 3000}} {
		line := append(bytes.Repeat([]byte("x"), c.size-1), '\n')
		t.Run(fmt.Sprintf("%s,lines=%d", c.role, c.lines), func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version uint16) {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					forClient, forServer := configs(version)
					var s *socket.Socket
					var raw net.Conn
					var cork *corked
					var peer *tls.Conn
					config := forClient
					if c.role == "client" {
						s, raw = dialed(ctx, t, "tcp")
						cork = &corked{tape{Conn: raw}}
						peer = tls.Server(cork, forServer)
					} else {
						s, raw = accepted(ctx, t, "tcp")
						cork = &corked{tape{Conn: raw}}
						peer = tls.Client(cork, forClient)
						config = forServer
					}
					defer s.Close()
					peers.Go(func() {
						defer raw.Close()
						err := peer.Handshake()
						for range c.lines {
							_, writeErr := peer.Write(line)
							err = errors.Join(err, writeErr)
						}
						if err := errors.Join(err, peer.CloseWrite(), cork.deliver()); err != nil {
							t.Error("peer:", err)
						}
						io.Copy(io.Discard, raw)
					})
					if err := s.SSLHandshake(ctx, config); err != nil {
						t.Fatal(err)
					}
					for i := range c.lines {
						if got, err := s.RecvLine(ctx, c.size); !bytes.Equal(got, line) || err != nil {
							t.Fatalf("line %d: %.20q, %v", i, got, err)
						}
					}
					if _, err := s.Recv(ctx, make([]byte, 1)); err != io.EOF {
						t.Error(err)
					}
				})
			})
		})
	}
}

func TestTLSSessionTickets(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			forClient, forServer := configs(version)
			forClient.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 3 {
				client, server := connected(ctx, t, "tcp")
				if err := bothShake(ctx, client, server, forClient, forServer); err != nil {
					t.Fatal(err)
				}
				for _, s := range []*socket.Socket{client, server} {
					if state, _ := s.ConnectionState(); state.DidResume != (i > 0) {
						t.Errorf("connection %d: resumed: %v", i, state.DidResume)
					}
				}
				converse(ctx, t, client, server) // the client reads, and with that gets its ticket
			}
		})
	})
}
