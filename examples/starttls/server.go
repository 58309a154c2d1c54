package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A server is the other side of the dialogue when there is no real one: emersion/go-smtp on a port
// of the loopback interface, on goroutines of its own. It takes mail only from a user who has
// logged in, which is possible only over TLS.
type server struct {
	smtp  *smtp.Server
	addr  string         // localhost:port
	roots *x509.CertPool // the authority that has signed its certificate
	user  string
	pass  string // made anew for each run
	mails chan mail
}

// A mail is what the server has received.
type mail struct {
	user, from, to string
	text           string
}

func startServer() (*server, error) {
	ca, err := devca.New("Whorl example CA")
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("in-process server: %w", err)
	}
	s := &server{
		addr:  fmt.Sprintf("localhost:%d", listener.Addr().(*net.TCPAddr).Port),
		roots: ca.Pool(),
		user:  "alice",
		pass:  rand.Text(),
		mails: make(chan mail, 1),
	}
	s.smtp = smtp.NewServer(s)
	s.smtp.Domain = "localhost"
	s.smtp.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.smtp.MaxMessageBytes = 1 << 20
	s.smtp.MaxRecipients = 1
	s.smtp.ReadTimeout = time.Minute
	s.smtp.WriteTimeout = time.Minute
	s.smtp.ErrorLog = log.New(io.Discard, "", 0) // the client says what went wrong
	go s.smtp.Serve(listener)
	return s, nil
}

// stop waits until the server has ended, and closes its connections if that takes long.
func (s *server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.smtp.Shutdown(ctx) != nil {
		s.smtp.Close()
	}
}

// NewSession is called at the first EHLO, and again at the first one over TLS: nothing from before
// is kept.
func (s *server) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &serverSession{server: s}, nil
}

// A serverSession implements smtp.Session and smtp.AuthSession.
type serverSession struct {
	server *server
	mail   mail
}

func (s *serverSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *serverSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != s.server.user ||
			subtle.ConstantTimeCompare([]byte(pass), []byte(s.server.pass)) == 0 {
			return smtp.ErrAuthFailed
		}
		s.mail.user = user
		return nil
	}), nil
}

func (s *serverSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.mail.user == "" {
		return &smtp.SMTPError{
			Code:         530,
			EnhancedCode: smtp.EnhancedCode{5, 7, 0},
			Message:      "Authentication required",
		}
	}
	s.mail.from = from
	return nil
}

func (s *serverSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.to = to
	return nil
}

func (s *serverSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.text = string(text)
	select {
	case s.server.mails <- s.mail:
		return nil
	default:
		return errors.New("one mail is enough")
	}
}

func (s *serverSession) Reset()        { s.mail = mail{user: s.mail.user} }
func (s *serverSession) Logout() error { return nil }
