//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Plaintext that was not read ends the connection before the handshake begins, wherever it waits;
// the peer gets nothing.
func TestSSLHandshakeRefusesUnreadPlaintext(t *testing.T) {
	for _, c := range []struct {
		name, role string
		sent       string
		read       func(ctx context.Context, s *socket.Socket)
	}{
		{"client, one byte in the buffer", "client", "220 go\r\n!", func(ctx context.Context, s *socket.Socket) { s.RecvLine(ctx, 100) }},
		{"client, many bytes in the buffer", "client", "220 go\r\n250 AUTH PLAIN\r\n", func(ctx context.Context, s *socket.Socket) { s.RecvLine(ctx, 100) }},
		{"client, peeked at", "client", "220 go\r\n", func(ctx context.Context, s *socket.Socket) { s.Peek(make([]byte, 1)) }},
		{"client, in the kernel", "client", "220 go\r\n!", func(ctx context.Context, s *socket.Socket) { s.RecvAll(ctx, make([]byte, 8)) }},
		{"client, a record in the kernel", "client", "\x16\x03\x03\x00\x01\x00", func(context.Context, *socket.Socket) {}},
		{"server, one byte in the buffer", "server", "STARTTLS\r\n!", func(ctx context.Context, s *socket.Socket) { s.RecvLine(ctx, 100) }},
		{"server, many bytes in the buffer", "server", "STARTTLS\r\nRSET\r\n", func(ctx context.Context, s *socket.Socket) { s.RecvLine(ctx, 100) }},
		{"server, peeked at", "server", "RSET\r\n", func(ctx context.Context, s *socket.Socket) { s.Peek(make([]byte, 1)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				forClient, forServer := configs(0)
				connect, config := dialed, forClient
				if c.role == "server" {
					connect, config = accepted, forServer
				}
				s, peer := connect(ctx, t, "tcp")
				defer peer.Close()
				io.WriteString(peer, c.sent)
				until(ctx, func() bool { return unread(s) == len(c.sent) })
				c.read(ctx, s)
				if err := s.SSLHandshake(ctx, config); !errors.Is(err, socket.ErrPlaintextPending) || socket.Code(err) != 509 {
					t.Error(err)
				}
				closedForGood(ctx, t, s)
				await(ctx, func() {
					if got, _ := io.ReadAll(peer); len(got) > 0 {
						t.Errorf("the peer got %q", got)
					}
				})
			})
		})
	}
}

// closedForGood checks that a Socket is closed, as after a failed handshake: it can't be used in
// plaintext by mistake.
func closedForGood(ctx context.Context, t testing.TB, s *socket.Socket) {
	t.Helper()
	if s.Connected() || s.FD() != -1 {
		t.Error("the Socket is still connected")
	}
	buf := make([]byte, 1)
	_, err1 := s.Recv(ctx, buf)
	_, err2 := s.SendAll(ctx, buf)
	_, err3 := s.Peek(buf)
	_, err4 := s.RecvPacket(ctx)
	_, err5 := s.SendSoon(ctx, buf)
	for _, err := range []error{err1, err2, err3, err4, err5, s.SSLHandshake(ctx, &tls.Config{}), s.Close()} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// When all that came has been read, nothing is left that could be taken for the other side's words.
func TestSSLHandshakeAfterPlaintextWasRead(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "pair")
		client.SendSoon(ctx, []byte("STARTTLS\r\n"))
		if line, err := server.RecvLine(ctx, 100); string(line) != "STARTTLS\r\n" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		server.SendSoon(ctx, []byte("220 go\r\n")) // still queued when the handshake begins
		reply := make(chan error, 1)
		_, forServer := configs(0)
		runtime.Go(ctx, func(ctx context.Context) { reply <- server.SSLHandshake(ctx, forServer) })
		if line, err := client.RecvLine(ctx, 100); string(line) != "220 go\r\n" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		forClient, _ := configs(0)
		if err := client.SSLHandshake(ctx, forClient); err != nil {
			t.Fatal(err)
		}
		until(ctx, func() bool { return len(reply) > 0 })
		if err := <-reply; err != nil {
			t.Fatal(err)
		}
		converse(ctx, t, client, server)
	})
}

// A server's client may begin at once: what waits in the kernel is its hello.
func TestServerHandshakeFindsTheHelloInTheKernel(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer, config := withCryptoTLS(ctx, t, "tcp", "server", 0)
		defer s.Close()
		peers.Go(func() {
			defer peer.Close()
			if err := peer.Handshake(); err != nil {
				t.Error("peer:", err)
			}
		})
		until(ctx, func() bool { return unread(s) > 100 })
		if err := s.SSLHandshake(ctx, config); err != nil {
			t.Error(err)
		}
	})
}

func TestSSLHandshakeOnlyOnce(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "tcp")
		handshakes(ctx, t, client, server, 0)
		forClient, forServer := configs(0)
		for range 2 {
			if err := client.SSLHandshake(ctx, forClient); !errors.Is(err, socket.ErrSSLActive) || socket.Code(err) != int(syscall.EISCONN) {
				t.Error(err)
			}
			if err := server.SSLHandshake(ctx, forServer); !errors.Is(err, socket.ErrSSLActive) {
				t.Error(err)
			}
		}
		converse(ctx, t, client, server)
	})
}

// ErrBusy closes nothing: when the other caller is done, the handshake can be made.
func TestSSLHandshakeIsBusyWhileOthersWait(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "pair")
		reader, _ := runtime.Go(ctx, func(ctx context.Context) {
			if line, err := client.RecvLine(ctx, 100); string(line) != "220 go\r\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
		})
		forClient, _ := configs(0)
		if err := client.SSLHandshake(ctx, forClient); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		server.SendAll(ctx, []byte("220 go\r\n"))
		reader.Join(ctx)

		big := make([]byte, 4<<20) // more than the kernel's buffers hold
		writer, _ := runtime.Go(ctx, func(ctx context.Context) { client.SendAll(ctx, big) })
		if err := client.SSLHandshake(ctx, forClient); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		server.RecvAll(ctx, big)
		writer.Join(ctx)

		handshakes(ctx, t, client, server, 0)
		converse(ctx, t, client, server)
	})
}

// While the handshake is under way, nobody else gets in.
func TestHandshakeKeepsOthersOut(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "pair")
		forClient, forServer := configs(0)
		shaking, _ := runtime.Go(ctx, func(ctx context.Context) {
			if err := client.SSLHandshake(ctx, forClient); err != nil {
				t.Error(err)
			}
		})
		_, err1 := client.Recv(ctx, make([]byte, 1))
		_, err2 := client.SendAll(ctx, make([]byte, 1))
		_, err3 := client.Peek(make([]byte, 1))
		for _, err := range []error{err1, err2, err3, client.SSLHandshake(ctx, forClient), client.SetProtocol(nil)} {
			if !errors.Is(err, socket.ErrBusy) {
				t.Error(err)
			}
		}
		if err := server.SSLHandshake(ctx, forServer); err != nil {
			t.Error(err)
		}
		shaking.Join(ctx)
		converse(ctx, t, client, server)
	})
}

func TestSSLHandshakeNeedsAStream(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, network := range []string{"unixgram", "unixpacket"} {
			a, b, err := socket.Pair(ctx, network)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.SSLHandshake(ctx, &tls.Config{}); !errors.Is(err, syscall.ESOCKTNOSUPPORT) {
				t.Error(err)
			}
			if _, err := a.Send(ctx, []byte("still there")); err != nil {
				t.Error(err)
			}
			a.Close()
			b.Close()
		}
		s, _ := socket.New("tcp")
		if err := s.SSLHandshake(ctx, &tls.Config{}); !errors.Is(err, socket.ErrNotConnected) {
			t.Error(err)
		}
	})
}

type countingFramer struct {
	socket.Framer
	resets int
}

func (f *countingFramer) Reset()                                 { f.resets++ }
func (f *countingFramer) Want() int                              { return 0 }
func (f *countingFramer) Next([]byte, bool) (int, []byte, error) { return 0, nil, nil }

func TestSSLHandshakeResetsTheFramer(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "pair")
		framer := new(countingFramer)
		client.SetProtocol(framer)
		handshakes(ctx, t, client, server, 0)
		if framer.resets != 1 {
			t.Errorf("%d resets", framer.resets)
		}
		client.Close()
		server.Close()
	})
}

// tapedPeer shakes hands with a Socket and returns the peer's end, whose later writes are kept on
// the tape.
func tapedPeer(ctx context.Context, t testing.TB, peers *sync.WaitGroup, role string, version uint16) (*socket.Socket, *tls.Conn, *tape) {
	t.Helper()
	forClient, forServer := configs(version)
	var s *socket.Socket
	kept := new(corked)
	var peer *tls.Conn
	config := forClient
	if role == "client" {
		s, kept.Conn = dialed(ctx, t, "unix")
		peer = tls.Server(kept, forServer)
	} else {
		s, kept.Conn = accepted(ctx, t, "unix")
		peer, config = tls.Client(kept, forClient), forServer
	}
	peers.Go(func() {
		if err := errors.Join(peer.Handshake(), kept.deliver()); err != nil {
			t.Error("peer:", err)
		}
	})
	if err := s.SSLHandshake(ctx, config); err != nil {
		t.Fatal(err)
	}
	await(ctx, peers.Wait)
	return s, peer, &kept.tape
}

// A time-out in the middle of a record, wherever that is, loses nothing.
func TestTLSTimeoutInTheMiddleOfARecord(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer, kept := tapedPeer(ctx, t, peers, "server", version)
			defer s.Close()
			defer kept.Conn.Close()
			s.SetTimeouts(socket.Timeouts{Read: time.Millisecond})
			buf := make([]byte, 100)
			for at, size := 0, 1; at < size; at++ {
				peer.Write([]byte("a record"))
				record := bytes.Clone(kept.Bytes())
				size = len(record)
				kept.Reset()
				kept.Conn.Write(record[:at])
				if n, err := s.Recv(ctx, buf); !errors.Is(err, runtime.ErrTimeout) {
					t.Errorf("cut at byte %d: %q, %v", at, buf[:n], err)
				}
				kept.Conn.Write(record[at:])
				if n, err := s.RecvAll(ctx, buf[:8]); string(buf[:n]) != "a record" || err != nil {
					t.Errorf("cut at byte %d: %q, %v", at, buf[:n], err)
				}
			}
		})
	})
}

func TestTLSCloseNotifyInEveryPosition(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for _, c := range []struct {
			name string
			say  func(peer *tls.Conn, kept *tape)
			want string
			err  error
		}{
			{"alone", func(peer *tls.Conn, _ *tape) { peer.CloseWrite() }, "", io.EOF},
			{"behind data, in one segment", func(peer *tls.Conn, _ *tape) { peer.Write([]byte("bye")); peer.CloseWrite() }, "bye", io.EOF},
			{"behind data, in a segment of its own", func(peer *tls.Conn, kept *tape) {
				peer.Write([]byte("bye"))
				kept.deliver()
				peer.CloseWrite()
			}, "bye", io.EOF},
			{"behind two records", func(peer *tls.Conn, _ *tape) { peer.Write([]byte("b")); peer.Write([]byte("ye")); peer.CloseWrite() }, "bye", io.EOF},
			{"before bytes that are not TLS", func(peer *tls.Conn, kept *tape) { peer.CloseWrite(); kept.WriteString("QUIT\r\n") }, "", io.EOF},
			{"missing", func(*tls.Conn, *tape) {}, "", socket.ErrTruncated},
			{"missing, behind data", func(peer *tls.Conn, _ *tape) { peer.Write([]byte("bye")) }, "bye", socket.ErrTruncated},
			{"cut off", func(peer *tls.Conn, kept *tape) {
				peer.Write([]byte("bye"))
				peer.CloseWrite()
				kept.Truncate(kept.Len() - 1)
			}, "bye", socket.ErrTruncated},
		} {
			t.Run(c.name, func(t *testing.T) {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					s, peer, kept := tapedPeer(ctx, t, peers, "client", version)
					defer s.Close()
					c.say(peer, kept)
					kept.deliver()
					kept.Conn.Close() // always with a FIN
					buf := make([]byte, 100)
					n, err := s.RecvAll(ctx, buf)
					want := c.err
					if want == io.EOF && len(c.want) > 0 {
						want = io.ErrUnexpectedEOF
					}
					if string(buf[:n]) != c.want || !errors.Is(err, want) {
						t.Errorf("RecvAll: %q, %v; want %q, %v", buf[:n], err, c.want, want)
					}
					for range 2 { // it stays so, whoever asks
						_, err1 := s.Recv(ctx, buf)
						_, err2 := s.RecvLine(ctx, 100)
						_, err3 := s.RecvPacket(ctx)
						_, err4 := s.ReadVector(ctx, [][]byte{buf})
						_, err5 := s.Peek(buf)
						for _, err := range []error{err1, err2, err3, err4, err5} {
							if c.err == io.EOF && err != io.EOF || c.err != io.EOF && !errors.Is(err, socket.ErrTruncated) {
								t.Errorf("got %v, want %v", err, c.err)
							}
							if c.err != io.EOF && (!errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF)) {
								t.Errorf("%v is not EOF", err)
							}
						}
					}
				})
			})
		}
	})
}

// A stream that ends in the middle of a record, wherever that is, was cut off.
func TestTLSStreamCutInARecord(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for at := 1; at < 30; at += 4 {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer, kept := tapedPeer(ctx, t, peers, "server", version)
				defer s.Close()
				peer.Write([]byte("a record that is longer than that"))
				kept.Truncate(at)
				kept.deliver()
				kept.Conn.Close()
				if n, err := s.Recv(ctx, make([]byte, 100)); n != 0 || !errors.Is(err, socket.ErrTruncated) {
					t.Errorf("cut at byte %d: %d, %v", at, n, err)
				}
			})
		}
	})
}

func TestTLSRecordThatWasTamperedWith(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer, kept := tapedPeer(ctx, t, peers, "client", version)
			defer s.Close()
			defer kept.Conn.Close()
			peer.Write([]byte("pay 100"))
			kept.Bytes()[kept.Len()-1] ^= 1
			kept.deliver()
			for range 2 {
				if n, err := s.Recv(ctx, make([]byte, 100)); n != 0 || err == nil || errors.Is(err, io.EOF) || errors.Is(err, runtime.ErrTimeout) {
					t.Error(n, err)
				}
			}
			await(ctx, func() {
				if _, err := peer.Read(make([]byte, 1)); err == nil || err.Error() != "remote error: tls: bad record MAC" {
					t.Errorf("the peer was told %v", err)
				}
			})
		})
	})
}
