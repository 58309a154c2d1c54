//go:build linux

package client_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// The ids are those of the case list for STARTTLS clients: what somebody on the wire may append to
// the server's agreement.
var injections = []struct{ id, name, tail string }{
	{"ST-C-B1", "replies", "250-x\r\n250 AUTH LOGIN\r\n"},
	{"ST-C-B2", "part of a reply", "250-INJ"},
	{"ST-C-B2", "one byte", "2"},
	{"ST-C-B6", "refusal", "421 bye\r\n"},
	{"ST-C-B6", "goodbye", "221 bye\r\n"},
	{"ST-C-B7", "alert of TLS", "\x15\x03\x01\x00\x02\x02\x28"},
	{"ST-C-B7", "record of TLS", "\x16\x03\x03\x00\x04\x02\x00\x00\x00"},
	{"ST-C-B8", "4 MiB", strings.Repeat("250 x\r\n", 4<<20/7)},
}

// Plaintext behind the server's agreement is found, and TLS is not started: the server sees not a
// byte of a ClientHello. The tail comes in one segment with the agreement, or after it.
func TestInjectedPlaintext(t *testing.T) {
	for _, injection := range injections {
		for _, apart := range []bool{false, true} {
			name := injection.id + " " + injection.name
			if apart {
				name += " apart"
			}
			t.Run(name, func(t *testing.T) {
				both(t, func(ctx context.Context, t *testing.T) {
					goOn, seen := make(chan struct{}), make(chan []byte, 1)
					address := serve(t, func(s *script) {
						s.say("220 mail.test ESMTP\r\n")
						s.hear("STARTTLS\r\n")
						answer := "220 go ahead\r\n"
						if apart {
							s.say(answer)
							<-goOn
							answer = ""
						}
						written := make(chan struct{})
						go func() {
							defer close(written)
							io.WriteString(s, answer+injection.tail) // the client takes no 4 MiB
						}()
						seen <- s.rest()
						<-written
					})
					c := upgradable(ctx, t, mail(), address)
					close(goOn)
					eventually(ctx, t, "the tail arrives", func() bool {
						return c.Socket().Buffered()+queued(t, c.Socket().FD(), unix.SIOCINQ) > 0
					})
					if n := c.Socket().Buffered(); n > 64<<10 {
						t.Errorf("%d bytes are buffered", n)
					}
					err := c.EnableSSL(ctx)
					wantError(t, "EnableSSL", err, socket.ErrPlaintextPending)
					if socket.Code(err) != 509 || !strings.Contains(err.Error(), address) {
						t.Errorf("code %d, error %v", socket.Code(err), err)
					}
					if hello := receive(ctx, t, seen); len(hello) > 0 {
						t.Errorf("the server has seen %q", hello)
					}
					closedFor(ctx, t, c, socket.ErrPlaintextPending)
				})
			})
		}
	}
}

// closedFor checks that the connection is closed, and that everything says why.
func closedFor(ctx context.Context, t testing.TB, c *client.Client, cause error) {
	t.Helper()
	operations := func(want ...error) {
		t.Helper()
		_, sendErr := c.Send(ctx, []byte("AUTH PLAIN c2VjcmV0\r\n"))
		p, recvErr := c.Recv(ctx)
		_, peekErr := c.Peek(make([]byte, 1))
		_, fileErr := c.SendFile(ctx, "/dev/null", 0, 0)
		sslErr := c.EnableSSL(ctx)
		for _, err := range []error{sendErr, recvErr, peekErr, fileErr, sslErr} {
			if !strings.Contains(err.Error(), "use of closed network connection") {
				t.Errorf("after a failed EnableSSL: error is %v", err)
			}
			for _, want := range want {
				if !errors.Is(err, want) {
					t.Errorf("after a failed EnableSSL: error is %v, want %v", err, want)
				}
			}
		}
		if p != nil {
			t.Errorf("received %q", p)
		}
	}
	if c.Connected() || c.LocalAddr() != nil {
		t.Error("the connection is open")
	}
	if _, ok := c.ConnectionState(); ok {
		t.Error("there is a TLS state")
	}
	operations(net.ErrClosed, cause)
	check(t, c.Close()) // it is no mistake to close what has closed itself
	operations(net.ErrClosed)
	wantError(t, "second Close", c.Close(), net.ErrClosed)
}

// The tail is found also by a client that has framed otherwise, looked at it, or timed out over it.
func TestInjectedPlaintextUnderAnyFraming(t *testing.T) {
	for name, config := range map[string]client.Config{
		"EOF":    lines,
		"Split":  {Split: bufio.ScanLines},
		"Length": {Length: packet.LengthField{Func: func([]byte) (int, error) { return len("220 go\r\n"), nil }}},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.say("220 go\r\n250")
					s.rest()
				})
				config.TLS = trusting()
				for _, look := range []func(c *client.Client){
					func(*client.Client) {},
					func(c *client.Client) { c.Peek(make([]byte, 10)) },
					func(c *client.Client) {
						limited, cancel := context.WithTimeout(ctx, soon)
						defer cancel()
						_, err := c.Recv(limited)
						wantError(t, "Recv", err, context.DeadlineExceeded)
					},
				} {
					c := connect(ctx, t, config, "tcp", address)
					p, err := c.Recv(ctx)
					check(t, err)
					if strings.TrimSpace(string(p)) != "220 go" {
						t.Errorf("received %q", p)
					}
					look(c)
					wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrPlaintextPending)
				}
			})
		})
	}
}

// ST-C-B3: the plaintext comes when the handshake has begun.
func TestPlaintextDuringHandshake(t *testing.T) {
	for tail, reason := range map[string]explain.Reason{
		"250 AUTH PLAIN\r\n":                   explain.ReasonPlaintext,
		"\x15\x03\x01\x00\x02\x02\x28":         explain.ReasonHandshakeFailure, // an alert may come in plaintext; it only ends the attempt
		"\x16\x03\x03\x00\x04\x02\x00\x00\x00": explain.ReasonProtocolError,
	} {
		t.Run(string(reason), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				seen := make(chan []byte, 1)
				address := serve(t, func(s *script) {
					s.starttls()
					s.ok(first(s))
					s.say(tail)
					seen <- s.rest()
				})
				c := upgradable(ctx, t, mail(), address)
				wantReason(t, c.EnableSSL(ctx), reason)
				if strings.Contains(string(receive(ctx, t, seen)), "AUTH") {
					t.Error("the client has gone on in plaintext")
				}
				_, err := c.Send(ctx, []byte("AUTH PLAIN c2VjcmV0\r\n"))
				wantError(t, "Send", err, net.ErrClosed)
				wantReason(t, err, reason)
			})
		})
	}
}

// ST-C-B5: an agreement of several lines is no injection, once all of them are received.
func TestAgreementOfSeveralLines(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.say("220-go\r\n220 ahead\r\n")
			s.secure(serverTLS())
			s.say("250 secure\r\n")
			s.rest()
		})
		c := connect(ctx, t, mail(), "tcp", address)
		recv(ctx, t, c, "220-go\r\n")
		recv(ctx, t, c, "220 ahead\r\n")
		check(t, c.EnableSSL(ctx))
		recv(ctx, t, c, "250 secure\r\n")
	})
}

// The framing begins anew: what it has found out about the plaintext is forgotten.
func TestFramingBeginsAnew(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.say("220 go\r\n")
			s.secure(serverTLS())
			s.say("250 secure\r\n")
			s.rest()
		})
		// A framing for which each stream has one packet.
		config := client.Config{TLS: trusting(), Split: func(data []byte, atEOF bool) (int, []byte, error) {
			advance, token, err := bufio.ScanLines(data, atEOF)
			if token != nil {
				err = bufio.ErrFinalToken
			}
			return advance, token, err
		}}
		c := connect(ctx, t, config, "tcp", address)
		recv(ctx, t, c, "220 go")
		check(t, c.EnableSSL(ctx))
		recv(ctx, t, c, "250 secure")
	})
}

// Small messages that are still queued when EnableSSL is called leave in plaintext, before the
// ClientHello.
func TestQueuedPlaintextLeavesBeforeTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hear("\x00\x00\x00\x08\x04\xd2\x16\x2f")
			s.secure(serverTLS())
			s.hear("startup")
			s.say("welcome")
			s.rest()
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, "tcp", address)
		send(ctx, t, c, "\x00\x00\x00\x08\x04\xd2\x16\x2f")
		check(t, c.EnableSSL(ctx))
		send(ctx, t, c, "startup")
		recv(ctx, t, c, "welcome")
	})
}

// After a failed EnableSSL the Client can connect again, be it closed before or not.
func TestConnectAfterFailedEnableSSL(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		var attempts atomic.Int64
		address := serve(t, func(s *script) {
			s.say("220 mail.test ESMTP\r\n")
			s.hear("STARTTLS\r\n")
			if attempts.Add(1) < 3 {
				s.say("220 go ahead\r\n250 injected\r\n")
				s.rest()
				return
			}
			s.say("220 go ahead\r\n")
			s.secure(serverTLS())
			s.echoLines()
		})
		c := upgradable(ctx, t, mail(), address)
		wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrPlaintextPending)
		check(t, c.Connect(ctx, "tcp", address))
		ask(ctx, t, c)
		wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrPlaintextPending)
		check(t, c.Close())
		check(t, c.Connect(ctx, "tcp", address))
		ask(ctx, t, c)
		check(t, c.EnableSSL(ctx))
		send(ctx, t, c, "NOOP\r\n")
		recv(ctx, t, c, "NOOP\r\n")
		check(t, c.Close())
	})
}

// While another caller receives or sends, EnableSSL doesn't start, and the connection is as it was.
func TestEnableSSLWhileReceiving(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		goOn := make(chan struct{})
		address := serve(t, func(s *script) {
			<-goOn
			s.say("220 at last\r\n")
			s.secure(serverTLS())
			s.echoLines()
		})
		c := connect(ctx, t, mail(), "tcp", address)
		wait := start(ctx, t, func(ctx context.Context) error {
			p, err := c.Recv(ctx)
			if err == nil && string(p) != "220 at last\r\n" {
				err = errors.New("received " + string(p))
			}
			return err
		})
		eventually(ctx, t, "the receiver waits", func() bool { return waiting(ctx, t, "socket recv") })
		wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrBusy)
		close(goOn)
		check(t, wait())
		check(t, c.EnableSSL(ctx))
		send(ctx, t, c, "NOOP\r\n")
		recv(ctx, t, c, "NOOP\r\n")
		check(t, c.Close())
	})
}
