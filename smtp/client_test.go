//go:build linux

package smtp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/socket"
)

func TestMailOverSTARTTLS(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.helloTLS("PIPELINING", "SIZE 1000", "AUTH PLAIN")
			s.ask("AUTH PLAIN AG1lAHNlY3JldA==", "235 2.7.0 in\r\n")
			// All of it comes before the first answer.
			s.hear("MAIL FROM:<me@me.test> SIZE=29", "RCPT TO:<a@a.test>", "RCPT TO:<b@b.test>",
				"DATA")
			s.nothingHeard()
			s.say("250 2.1.0 a\r\n250 2.1.5 b\r\n550 5.1.1 no\r\n" + "354 go\r\n")
			if got := s.data(); got != "Subject: x\r\n\r\n..dot\r\n..\r\nlast\r\n" {
				t.Errorf("%q", got)
			}
			s.say("250 2.0.0 queued as 7\r\n")
			s.ask("VRFY you", "252 2.0.0 who knows\r\n")
			s.ask("NOOP", "250 ok\r\n")
			s.ask("RSET", "250 ok\r\n")
			s.ask("QUIT", "221 bye\r\n")
		})
		config := secured()
		config.Auth = smtp.Password("me", "secret")
		c := dial(ctx, t, address, config)
		receipt, err := c.Send(ctx, letter("Subject: x\n\n.dot\n.\r\nlast", "a@a.test", "b@b.test"))
		check(t, err)
		if receipt.Text != "queued as 7" || len(receipt.Refused) != 1 ||
			receipt.Refused[0].Recipient != "b@b.test" ||
			receipt.Refused[0].Enhanced.String() != "5.1.1" || receipt.Refused[0].Temporary() {
			t.Errorf("%+v", receipt)
		}
		if state, ok := c.ConnectionState(); !ok || state.Version != tls.VersionTLS13 {
			t.Errorf("%v", ok)
		}
		if params, ok := c.Extension("size"); !ok || params != "1000" {
			t.Error(params)
		}
		answer, err := c.Verify(ctx, "you")
		if check(t, err); answer != "who knows" {
			t.Error(answer)
		}
		check(t, c.Noop(ctx))
		check(t, c.Reset(ctx))
		check(t, c.Quit(ctx))
		_, err = c.Send(ctx, letter("x\n", "a@a.test"))
		wantError(t, "Send after Quit", err, net.ErrClosed)
	})
}

func TestImplicitTLS(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.secure()
			s.say("220 mail.test\r\n")
			s.ask("EHLO me.test", ehlo("STARTTLS")) // which means nothing here
			s.ask("QUIT", "221 bye\r\n")
		})
		config := secured()
		config.Security = smtp.Implicit
		check(t, dial(ctx, t, address, config).Quit(ctx))
	})
}

func TestHelloIsTheAddressUnlessGiven(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.say("220 mail.test\r\n")
			s.ask("EHLO [127.0.0.1]", "250 mail.test\r\n") // a reply of one line
			s.ask("QUIT", "221 bye\r\n")
		})
		check(t, dial(ctx, t, address, smtp.Config{Security: smtp.Opportunistic}).Quit(ctx))
	})
	_, err := smtp.NewDialer(smtp.Config{Hello: "a\r\nb"})
	wantError(t, "CR LF in Hello", err, smtp.ErrInvalid)
}

// A server that refuses a chunk, and takes what is in it for commands, can't have its answers to
// those taken for answers to ours.
func TestRefusedChunk(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var second atomic.Bool
		address := serve(t, func(s *script) {
			s.hasty = s.number == 1
			s.hello("PIPELINING", "CHUNKING")
			s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>")
			s.nothingHeard() // the chunk waits for the answers
			s.say("250 a\r\n250 b\r\n")
			if s.number == 1 {
				s.hear("BDAT 26 LAST")
				s.say("452 4.3.1 not now\r\n")
				for range 4 {
					s.line()
					s.say("500 what?\r\n")
				}
				if rest := s.rest(); rest != "" {
					t.Errorf("it went on with %q", rest)
				}
				return
			}
			second.Store(true)
			s.hear("BDAT 26 LAST", "Subject: x", "", "RSET", "NOOP")
			s.say("250 done\r\n")
			s.rest()
		})
		config := plaintext()
		config.Chunking = true
		p := pool(t, smtp.PoolConfig{Address: address, Config: config, FirstDelay: 1})
		receipt, err := p.Send(ctx, letter("Subject: x\r\n\r\nRSET\r\nNOOP\r\n", "a@a.test"))
		if check(t, err); receipt.Text != "done" || !second.Load() {
			t.Errorf("%+v", receipt)
		}
	})
}

// Nothing of the mail is sent before 354.
func TestNothingOfTheMailBefore354(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hello("PIPELINING")
			s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>", "DATA")
			s.say("250 a\r\n250 b\r\n")
			s.nothingHeard()
			s.say("451 4.3.0 not now\r\n")
			s.ask("RSET", "250 ok\r\n")
			s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>", "DATA")
			s.say("250 a\r\n250 b\r\n354 go\r\n")
			if got := s.data(); got != "x\r\n" {
				t.Errorf("%q", got)
			}
			s.say("250 ok\r\n")
			s.ask("QUIT", "221 bye\r\n")
		})
		c := dial(ctx, t, address, plaintext())
		_, err := c.Send(ctx, letter("x\n", "a@a.test"))
		if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Code != 451 ||
			refused.Command != "DATA" || !refused.Temporary() {
			t.Errorf("%v", err)
		}
		_, err = c.Send(ctx, letter("x\n", "a@a.test"))
		check(t, err)
		check(t, c.Quit(ctx))
	})
}

// Ten recipients take two round trips: the envelope in one group, the message in the other.
func TestTenRecipientsTakeTwoRoundTrips(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var to []string
		for i := range 10 {
			to = append(to, fmt.Sprintf("user%d@a.test", i))
		}
		address := serve(t, func(s *script) {
			s.hello("PIPELINING")
			for range 2 { // on a kept connection
				s.hear("MAIL FROM:<me@me.test>")
				for _, recipient := range to {
					s.hear("RCPT TO:<" + recipient + ">")
				}
				s.hear("DATA")
				s.nothingHeard()
				s.say("250 from\r\n" + strings.Repeat("250 to\r\n", len(to)) + "354 go\r\n")
				s.data()
				s.nothingHeard()
				s.say("250 queued\r\n")
			}
			s.rest()
		})
		c := dial(ctx, t, address, plaintext())
		for range 2 {
			_, err := c.Send(ctx, letter("x\n", to...))
			check(t, err)
		}
	})
}

// A server that wants commands one by one gets them one by one.
func TestLockstep(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hello()
			for _, step := range [][2]string{
				{"MAIL FROM:<me@me.test>", "250 a"}, {"RCPT TO:<a@a.test>", "450 no"},
				{"RCPT TO:<b@b.test>", "250 b"}, {"DATA", "354 go"},
			} {
				s.hear(step[0])
				s.nothingHeard()
				s.say(step[1] + "\r\n")
			}
			s.data()
			s.say("250 ok\r\n")
			s.rest()
		})
		receipt, err := dial(ctx, t, address, plaintext()).Send(ctx,
			letter("x\n", "a@a.test", "b@b.test"))
		if check(t, err); len(receipt.Refused) != 1 || !receipt.Refused[0].Temporary() {
			t.Errorf("%+v", receipt)
		}
	})
}

func TestConnectionThatIsLost(t *testing.T) {
	for name, test := range map[string]struct {
		play  func(s *script)
		doubt bool
	}{
		"in MAIL": {func(s *script) { s.line() }, false},
		"in the message": {func(s *script) {
			s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>", "DATA")
			s.say("250 a\r\n250 b\r\n")
		}, false},
		"at its end": {func(s *script) {
			s.hear("MAIL FROM:<me@me.test>", "RCPT TO:<a@a.test>", "DATA")
			s.say("250 a\r\n250 b\r\n354 go\r\n")
			s.data()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.hello("PIPELINING")
					test.play(s)
				})
				c := dial(ctx, t, address, plaintext())
				_, err := c.Send(ctx, letter("x\n", "a@a.test"))
				if err == nil || errors.Is(err, smtp.ErrInDoubt) != test.doubt {
					t.Errorf("%v", err)
				}
				wantError(t, "Noop afterwards", c.Noop(ctx), net.ErrClosed)
			})
		})
	}
}

// A session that died while nobody used it is noticed before MAIL.
func TestSessionThatHasDied(t *testing.T) {
	for name, last := range map[string]string{"silently": "", "421": "421 4.4.2 time is up\r\n"} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				said := make(chan string, 1)
				address := serve(t, func(s *script) {
					s.hello()
					s.say(last)
					s.raw.(*net.TCPConn).CloseWrite()
					said <- s.rest()
				})
				c := dial(ctx, t, address, plaintext())
				for c.Noop(ctx) == nil { // until it has come
					check(t, runtime.Sleep(ctx, time.Millisecond))
				}
				_, err := c.Send(ctx, letter("x\n", "a@a.test"))
				wantError(t, "Send", err, net.ErrClosed)
				if got, _ := runtime.Await(ctx,
					func() (string, error) { return <-said, nil }); strings.Contains(got, "MAIL") {
					t.Errorf("it said %q", got)
				}
			})
		})
	}
}

func TestOneCallerAtATime(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hello()
			s.hear("NOOP")
			s.idle()
		})
		c := dial(ctx, t, address, plaintext())
		co, err := runtime.Go(ctx, func(ctx context.Context) {
			wantError(t, "Noop that Close ends", c.Noop(ctx), net.ErrClosed)
		})
		check(t, err)
		_, err = c.Send(ctx, letter("x\n", "a@a.test"))
		wantError(t, "Send beside it", err, socket.ErrBusy)
		check(t, c.Close())
		check(t, co.Join(ctx))
	})
}

func TestCancellation(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hello()
			s.hear("MAIL FROM:<me@me.test>")
			s.idle()
		})
		c := dial(ctx, t, address, plaintext())
		ctx, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		_, err := c.Send(ctx, letter("x\n", "a@a.test"))
		wantError(t, "Send", err, context.DeadlineExceeded)
		wantError(t, "Noop afterwards", c.Noop(context.WithoutCancel(ctx)), net.ErrClosed)
	})
}

func TestByteByByte(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			slow := func(text string) {
				for i := range len(text) {
					s.say(text[i : i+1])
				}
			}
			slow("220-mail\r\n220 test\r\n")
			s.hear("EHLO me.test")
			slow(ehlo("PIPELINING", "SIZE 100"))
			s.hear("MAIL FROM:<me@me.test> SIZE=3", "RCPT TO:<a@a.test>", "DATA")
			slow("250 a\r\n250 b\r\n354 c\r\n")
			s.data()
			slow("250-a\r\n250 b\r\n")
			s.rest()
		})
		receipt, err := dial(ctx, t, address, plaintext()).Send(ctx, letter("x", "a@a.test"))
		if check(t, err); receipt.Text != "a\nb" {
			t.Errorf("%q", receipt.Text)
		}
	})
}

// The name goes to the proxy, and the certificate has to be for it.
func TestProxies(t *testing.T) {
	for kind, agree := range map[string]func(s *script){
		"http": func(s *script) {
			s.hear("CONNECT mail.test:25 HTTP/1.1")
			for s.line() != "" {
			}
			s.say("HTTP/1.1 200 OK\r\n\r\n")
		},
		"socks5": func(s *script) { // RFC 1928
			s.hearBytes("\x05\x01\x00")
			s.say("\x05\x00")
			s.hearBytes("\x05\x01\x00\x03\x09mail.test\x00\x19")
			s.say("\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x19")
		},
	} {
		t.Run(kind, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					agree(s)
					s.helloTLS()
					s.ask("QUIT", "221 bye\r\n")
				})
				config := secured()
				config.Client.Proxy = &client.Proxy{Type: kind, Address: address}
				check(t, dial(ctx, t, "mail.test:25", config).Quit(ctx))
			})
		})
	}
}

func TestOverAUnixSocket(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		path := t.TempDir() + "/s"
		l, err := net.Listen("unix", path)
		check(t, err)
		t.Cleanup(func() { l.Close() })
		done := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "220 x\r\n250 x\r\n221 x\r\n"[:7])
			p := make([]byte, 100)
			n, _ := conn.Read(p)
			done <- string(p[:n])
		}()
		config := smtp.Config{Security: smtp.Opportunistic, LMTP: true}
		_, err = smtp.Dial(ctx, path, config)
		if err == nil {
			t.Error("the session has begun")
		}
		if got, _ := runtime.Await(ctx, func() (string, error) {
			return <-done,
				nil
		}); got != "LHLO localhost\r\n" {
			t.Errorf("%q", got)
		}
	})
}
