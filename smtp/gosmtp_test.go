//go:build linux

package smtp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/smtp"
)

// A mailbox is a backend of emersion/go-smtp, a server that knows nothing of Whorl.
type mailbox struct {
	mu    sync.Mutex
	mails []boxed
}

type boxed struct {
	user, from, to, text string
	mail                 *gosmtp.MailOptions
	rcpt                 *gosmtp.RcptOptions
}

func (b *mailbox) NewSession(*gosmtp.Conn) (gosmtp.Session, error) {
	return &boxSession{box: b},
		nil
}

func (b *mailbox) last() boxed {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mails) == 0 {
		return boxed{}
	}
	return b.mails[len(b.mails)-1]
}

type boxSession struct {
	box  *mailbox
	mail boxed
}

func (s *boxSession) AuthMechanisms() []string { return []string{"PLAIN"} }
func (s *boxSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return gosmtp.ErrAuthFailed
		}
		s.mail.user = user
		return nil
	}), nil
}

func (s *boxSession) Reset()        { s.mail = boxed{user: s.mail.user} }
func (s *boxSession) Logout() error { return nil }
func (s *boxSession) Mail(from string, options *gosmtp.MailOptions) error {
	s.mail.from, s.mail.mail = from, options
	return nil
}
func (s *boxSession) Rcpt(to string, options *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "no") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1},
			Message: "no such user"}
	}
	s.mail.to, s.mail.rcpt = s.mail.to+to+" ", options
	return nil
}
func (s *boxSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mail.text = string(text)
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.mails = append(s.box.mails, s.mail)
	return err
}

// LMTPData is called with LMTP.
func (s *boxSession) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	if err := s.Data(r); err != nil {
		return err
	}
	for to := range strings.FieldsSeq(s.mail.to) {
		if strings.HasPrefix(to, "full") {
			status.SetStatus(to, &gosmtp.SMTPError{Code: 452,
				EnhancedCode: gosmtp.EnhancedCode{4, 2, 2}, Message: "full"})
		} else {
			status.SetStatus(to, nil)
		}
	}
	return nil
}

// startGoSMTP starts a server with all its extensions.
func startGoSMTP(t testing.TB, lmtp bool) (box *mailbox, address string) {
	t.Helper()
	box = new(mailbox)
	server := gosmtp.NewServer(box)
	server.Domain = "mail.test"
	server.LMTP = lmtp
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	server.MaxMessageBytes = 32 << 20
	server.EnableSMTPUTF8, server.EnableREQUIRETLS, server.EnableBINARYMIME = true, true, true
	server.EnableDSN = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return box, l.Addr().String()
}

func TestExtensionsWithGoSMTP(t *testing.T) {
	large := "Subject: large\r\n\r\n" + strings.Repeat("0123456789\r\n.\r\n", 10<<20/15)
	var hundred []string
	for i := range 100 {
		hundred = append(hundred, fmt.Sprintf("user%d@x", i))
	}
	hundred[20], hundred[50], hundred[80] = "no20@x", "no50@x", "no80@x"
	binary := "Subject: binary\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n\r.\r\n.\n" +
		strings.Repeat("\xff\x00", 1<<20)
	both(t, func(ctx context.Context, t *testing.T) {
		box, address := startGoSMTP(t, false)
		for _, chunking := range []bool{false, true} {
			config := secured()
			config.Auth, config.Chunking = smtp.Password("me", "secret"), chunking
			c := dial(ctx, t, address, config)
			for name, test := range map[string]struct {
				mail smtp.Mail
				want func(got boxed) bool
			}{
				"8-bit": {smtp.Mail{Message: pieces{"Subject: x\r\n\r\nä\r\n"}},
					func(got boxed) bool {
						return got.text == "Subject: x\r\n\r\nä\r\n" &&
							got.mail.Body == gosmtp.Body8BitMIME && !got.mail.UTF8 &&
							got.mail.Size == 18
					}},
				"UTF-8 header": {smtp.Mail{Message: pieces{"Subject: ä\n\nx"}},
					func(got boxed) bool {
						return got.text == "Subject: ä\r\n\r\nx\r\n" && got.mail.UTF8
					}},
				"UTF-8 addresses": {smtp.Mail{From: "jörg@bücher.test", To: []string{"ä@ö.test"},
					Message: pieces{"x"}}, func(got boxed) bool {
					return got.from == "jörg@bücher.test" && got.to == "ä@ö.test " && got.mail.UTF8
				}},
				"10 MB": {smtp.Mail{Message: strings.NewReader(large)}, func(got boxed) bool {
					return got.text == large
				}},
				"binary": {smtp.Mail{Message: pieces{binary}, Binary: true}, func(got boxed) bool {
					return got.text == binary && got.mail.Body == gosmtp.BodyBinaryMIME
				}},
				"REQUIRETLS, DSN": {smtp.Mail{Message: pieces{"x"}, RequireTLS: true,
					DSN: smtp.DSN{Notify: []string{"SUCCESS", "FAILURE"}, Return: "HDRS",
						EnvelopeID: "a b"}}, func(got boxed) bool {
					return got.mail.RequireTLS && got.mail.Return == gosmtp.DSNReturnHeaders &&
						got.mail.EnvelopeID == "a b" &&
						fmt.Sprint(got.rcpt.Notify) == "[SUCCESS FAILURE]" &&
						got.rcpt.OriginalRecipient == "user99@x"
				}},
				"empty": {smtp.Mail{Message: pieces{}},
					func(got boxed) bool { return got.text == "" }},
			} {
				if test.mail.From == "" {
					test.mail.From, test.mail.To = "me@me.test", hundred
				}
				receipt, err := c.Send(ctx, &test.mail)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := box.last(); !test.want(got) || got.user != "me" {
					t.Errorf("%s: %.300q %+v %+v", name, got.text, got.mail, got.rcpt)
				}
				var refused []string
				for _, r := range receipt.Refused {
					refused = append(refused, r.Recipient)
				}
				if got := strings.Join(refused, " "); len(test.mail.To) == 100 &&
					got != "no20@x no50@x no80@x" {
					t.Errorf("%s: refused were %s", name, got)
				}
				if got := strings.Count(box.last().to, "@"); got != len(test.mail.To)-len(refused) {
					t.Errorf("%s: it came for %d", name, got)
				}
			}
			check(t, c.Quit(ctx))
		}
	})
}

func TestLMTPWithGoSMTP(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		box, address := startGoSMTP(t, true)
		config := secured()
		config.LMTP = true
		c := dial(ctx, t, address, config)
		receipt, err := c.Send(ctx, letter("x\n", "a@x", "full@x", "no@x", "b@x"))
		check(t, err)
		var refused bytes.Buffer
		for _, r := range receipt.Refused {
			fmt.Fprintf(&refused, "%s %v;", r.Recipient, r.Enhanced)
		}
		if refused.String() != "no@x 5.1.1;full@x 4.2.2;" || box.last().to != "a@x full@x b@x " {
			t.Errorf("%s, %q", &refused, box.last().to)
		}
		_, err = c.Send(ctx, letter("x\n", "full@x"))
		if all, ok := errors.AsType[*smtp.RecipientsError](err); !ok || !all.Temporary() {
			t.Errorf("%v", err)
		}
		check(t, c.Quit(ctx))
	})
}

func TestWrongPassword(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		_, address := startGoSMTP(t, false)
		config := secured()
		config.Auth = smtp.Password("me", "wrong")
		_, err := smtp.Dial(ctx, address, config)
		if refused, ok := errors.AsType[*smtp.Error](err); !ok || refused.Code != 535 ||
			refused.Command != "AUTH PLAIN" {
			t.Errorf("%v", err)
		}
	})
}
