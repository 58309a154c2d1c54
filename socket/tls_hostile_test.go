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
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// eachRole runs a test with a Socket as the client and as the server, connected to a bare
// connection.
func eachRole(t *testing.T, network string, test func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config)) {
	for _, role := range []string{"client", "server"} {
		t.Run(role, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				forClient, forServer := configs(0)
				connect, config := dialed, forClient
				if role == "server" {
					connect, config = accepted, forServer
				}
				s, peer := connect(ctx, t, network)
				defer s.Close()
				test(ctx, t, peers, s, peer, config)
			})
		})
	}
}

// The other end's handshake and records come one byte at a time, each read by itself.
func TestTLSByteByByte(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		t.Run(role, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version uint16) {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					forClient, forServer := configs(version)
					connect, config := dialed, forClient
					if role == "server" {
						connect, config = accepted, forServer
					}
					s, wire := connect(ctx, t, "unix")
					defer s.Close()
					near, far := joined(t)
					peers.Go(func() {
						defer wire.Close()
						defer near.Close()
						var back sync.WaitGroup
						back.Go(func() { io.Copy(near, wire); near.(*net.UnixConn).CloseWrite() })
						trickle(wire, near, s)
						back.Wait()
					})

					peers.Go(func() {
						defer far.Close()
						peer := tls.Server(far, forServer)
						if role == "server" {
							peer = tls.Client(far, forClient)
						}
						io.Copy(peer, peer)
						peer.Close()
					})
					if err := s.SSLHandshake(ctx, config); err != nil {
						t.Fatal(err)
					}
					echo(ctx, t, s, pattern(3000))
					s.Shutdown(ctx, socket.ShutdownWrite)
					if _, err := s.Recv(ctx, make([]byte, 1)); err != io.EOF {
						t.Error(err)
					}
					s.Close()
				})
			})
		})
	}
}

func TestGarbageInsteadOfAHandshake(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
		peers.Go(func() {
			defer peer.Close()
			if config.ServerName != "" { // the client has to begin
				read(t, peer, 5)
			}
			io.WriteString(peer, "500 what do you mean?\r\n")
			io.Copy(io.Discard, peer)
		})
		err := s.SSLHandshake(ctx, config)
		var header tls.RecordHeaderError
		if !errors.As(err, &header) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

func TestResetDuringTheHandshake(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
		peers.Go(func() {
			if config.ServerName != "" {
				read(t, peer, 5)
			}
			peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
		})
		if err := s.SSLHandshake(ctx, config); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

func TestEOFDuringTheHandshake(t *testing.T) {
	eachRole(t, "unix", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
		peers.Go(func() {
			if config.ServerName != "" {
				read(t, peer, 5)
			}
			peer.(*net.UnixConn).CloseWrite()
			io.Copy(io.Discard, peer)
			peer.Close()
		})
		if err := s.SSLHandshake(ctx, config); !errors.Is(err, io.EOF) || err == io.EOF {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

// The peer's first flight is cut off, anywhere.
func TestHandshakeThatIsCutOff(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for at := 1; at < 600; at += 67 {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				forClient, forServer := configs(version)
				s, wire := dialed(ctx, t, "unix")
				peers.Go(func() {
					peer := &cutOff{Conn: wire, left: at}
					if err := tls.Server(peer, forServer).Handshake(); err == nil {
						t.Error("the peer's handshake has succeeded")
					}
					wire.(*net.UnixConn).CloseWrite()
					io.Copy(io.Discard, wire)
					wire.Close()
				})
				err := s.SSLHandshake(ctx, forClient)
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut at byte %d: %v", at, err)
				}
				closedForGood(ctx, t, s)
			})
		}
	})
}

// cutOff is a connection that breaks after so many bytes were written.
type cutOff struct {
	net.Conn
	left int
}

func (c *cutOff) Write(p []byte) (int, error) {
	n, _ := c.Conn.Write(p[:min(len(p), c.left)])
	if c.left -= n; n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

func TestHandshakeTimeout(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
		defer peer.Close()
		s.SetTimeouts(socket.Timeouts{Handshake: 10 * time.Millisecond})
		if err := s.SSLHandshake(ctx, config); !errors.Is(err, runtime.ErrTimeout) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

// One deadline for the whole handshake: a peer that says a byte now and then doesn't extend it. It
// would take it several seconds to say all.
func TestHandshakeTimeoutIsNotExtendedByBytes(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, wire net.Conn, config *tls.Config) {
		s.SetTimeouts(socket.Timeouts{Handshake: 50 * time.Millisecond})
		near, far := net.Pipe()
		forClient, forServer := configs(0)
		peers.Go(func() {
			peer := tls.Server(far, forServer)
			if config.ServerName == "" {
				peer = tls.Client(far, forClient)
			}
			peer.Handshake()
			far.Close()
		})
		peers.Go(func() { io.Copy(near, wire); near.Close() })
		peers.Go(func() {
			defer wire.Close()
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			buf := make([]byte, 1)
			for {
				if _, err := near.Read(buf); err != nil {
					return
				}
				<-pace.C
				if _, err := wire.Write(buf); err != nil {
					return
				}
			}
		})
		if err := s.SSLHandshake(ctx, config); !errors.Is(err, runtime.ErrTimeout) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

// What ends a handshake that waits for the peer, from outside.
func TestHandshakeIsInterrupted(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *socket.Socket, cancel context.CancelFunc)
		want error
	}{
		{"context", func(_ *socket.Socket, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"Close", func(s *socket.Socket, _ context.CancelFunc) { s.Close() }, net.ErrClosed},
		{"Abort", func(s *socket.Socket, _ context.CancelFunc) { s.Abort() }, net.ErrClosed},
		{"Cancel", func(s *socket.Socket, _ context.CancelFunc) { s.Cancel(socket.ReadEvent) }, socket.ErrCanceled},
	} {
		for _, by := range []string{"coroutine", "goroutine"} {
			t.Run(c.name+" by a "+by, func(t *testing.T) {
				eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
					defer peer.Close()
					rt, _ := runtime.From(ctx)
					shaking, cancel := context.WithCancel(ctx)
					defer cancel()
					if by == "coroutine" {
						runtime.Go(ctx, func(ctx context.Context) {
							await(ctx, func() {
								for !waiting(rt, "socket recv") {
									goruntime.Gosched()
								}
							})
							c.end(s, cancel)
						})
					} else {
						peers.Go(func() {
							for !waiting(rt, "socket recv") {
								goruntime.Gosched()
							}
							c.end(s, cancel)
						})
					}
					if err := s.SSLHandshake(shaking, config); !errors.Is(err, c.want) {
						t.Error(err)
					}
					closedForGood(ctx, t, s)
				})
			})
		}
	}
}

func TestHandshakeUnderTheDeadlineOfAContext(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
		defer peer.Close()
		ctx2, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		if err := s.SSLHandshake(ctx2, config); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

// Whoever refuses says why, and the peer reads that.
func TestTheAlertReachesThePeer(t *testing.T) {
	for _, c := range []struct {
		name, role string
		change     func(forClient, forServer *tls.Config)
		alert      string
	}{
		{"unknown authority", "client", func(c, _ *tls.Config) { c.RootCAs = nil; c.ServerName = "mail.test" }, "remote error: tls: bad certificate"},
		{"another name", "client", func(c, _ *tls.Config) { c.ServerName = "elsewhere.test" }, "remote error: tls: bad certificate"},
		{"versions", "server", func(c, s *tls.Config) { c.MaxVersion = tls.VersionTLS12; s.MinVersion = tls.VersionTLS13 },
			"remote error: tls: protocol version not supported"},
		{"protocols", "server", func(c, s *tls.Config) { c.NextProtos = []string{"smtp"}; s.NextProtos = []string{"imap"} },
			"remote error: tls: no application protocol"},
		{"a client's certificate is needed", "server", func(c, s *tls.Config) {
			s.ClientAuth = tls.RequireAndVerifyClientCert
			c.MaxVersion, s.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		}, "remote error: tls: handshake failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, wire := (*socket.Socket)(nil), net.Conn(nil)
				forClient, forServer := configs(0)
				c.change(forClient, forServer)
				var peer *tls.Conn
				config := forClient
				if c.role == "client" {
					s, wire = dialed(ctx, t, "tcp")
					peer = tls.Server(wire, forServer)
				} else {
					s, wire = accepted(ctx, t, "tcp")
					peer, config = tls.Client(wire, forClient), forServer
				}
				peers.Go(func() {
					defer wire.Close()
					err := peer.Handshake()
					if err == nil {
						_, err = peer.Read(make([]byte, 1))
					}
					if err == nil || err.Error() != c.alert {
						t.Errorf("the peer was told %v, want %v", err, c.alert)
					}
				})
				if err := s.SSLHandshake(ctx, config); err == nil {
					t.Error("the handshake has succeeded")
				}
				closedForGood(ctx, t, s)
			})
		})
	}
}

func TestResetAfterTheHandshake(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := secured(ctx, t, "tcp", true)
		defer s.Close()
		peer.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
		peer.(*tls.Conn).NetConn().Close()
		if _, err := s.Recv(ctx, make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if _, err := s.SendAll(ctx, []byte("hello")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

// OpenSSL's clients refuse a certificate by an alert in plaintext where TLS 1.3 has it encrypted.
// It is told as what it is, on both sides, however it arrives.
func TestAlertInPlaintextIsTold(t *testing.T) {
	for kind, pieces := range map[string]int{"at once": 1, "byte by byte": 7} {
		t.Run(kind, func(t *testing.T) {
			eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn, config *tls.Config) {
				forClient, forServer := configs(tls.VersionTLS13)
				peers.Go(func() {
					defer peer.Close()
					// The server's hello, or the client's, is the first that is written.
					through := &complains{Conn: peer, pieces: pieces}
					if config.ServerName == "" {
						tls.Client(through, forClient).Handshake()
					} else {
						tls.Server(through, forServer).Handshake()
					}
				})
				err := s.SSLHandshake(ctx, config)
				if explained := explain.Server(err, "", nil).(*explain.HandshakeError); explained.Alert != 48 ||
					explained.ID != explain.IDCertRefused {
					t.Errorf("got %v", explained)
				}
			})
		})
	}
}

// complains sends its first record, a hello, and then an alert in plaintext in place of all else.
type complains struct {
	net.Conn
	pieces        int
	hello, silent bool // was sent; from now on
}

func (c *complains) Write(p []byte) (int, error) {
	rest := len(p)
	if !c.hello {
		c.hello = true
		first := 5 + int(p[3])<<8 + int(p[4])
		if _, err := c.Conn.Write(p[:first]); err != nil {
			return 0, err
		}
		rest -= first
	}
	alert := []byte{21, 3, 3, 0, 2, 2, 48} // fatal, unknown_ca
	if rest > 0 && !c.silent {
		c.silent = true
		for size := len(alert) / c.pieces; len(alert) > 0; alert = alert[size:] {
			c.Conn.Write(alert[:size])
		}
	}
	return len(p), nil
}
