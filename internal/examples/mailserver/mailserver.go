// Package mailserver is the SMTP server of the examples that send mails, for when there is no real
// one: emersion/go-smtp on a port of the loopback interface, on goroutines of its own.
package mailserver

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Config says what a Server does with mails. Its functions are called on several goroutines.
type Config struct {
	Recipient func(to string) error // refuses recipients, by *smtp.SMTPError; nil: none
	Received  func(m Mail)          // gets each mail, before the client knows that it was accepted
}

// A Mail is what a Server has received.
type Mail struct {
	User, From string
	To         []string
	Text       string
}

// A Server takes mail only from a user who has logged in, which is possible only over TLS.
type Server struct {
	Addr     string         // localhost:port
	Roots    *x509.CertPool // the authority that has signed its certificate
	User     string
	Password string // made anew for each Server

	config Config
	pem    []byte
	smtp   *smtp.Server
}

// PEM returns the certificate of the authority.
func (s *Server) PEM() string { return string(s.pem) }

// Start starts a Server.
func Start(config Config) (*Server, error) {
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
	s := &Server{
		Addr:  fmt.Sprintf("localhost:%d", listener.Addr().(*net.TCPAddr).Port),
		Roots: ca.Pool(), User: "alice", Password: rand.Text(),
		config: config, pem: ca.PEM(),
	}
	s.smtp = smtp.NewServer(s)
	s.smtp.Domain = "localhost"
	s.smtp.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.smtp.MaxMessageBytes = 32 << 20
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ReadTimeout, s.smtp.WriteTimeout = time.Minute, time.Minute
	s.smtp.ErrorLog = log.New(io.Discard, "", 0) // the client says what went wrong
	go s.smtp.Serve(listener)
	return s, nil
}

// Stop waits until the server has ended, and closes its connections if that takes long.
func (s *Server) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.smtp.Shutdown(ctx) != nil {
		s.smtp.Close()
	}
}

// NewSession is called at the first EHLO, and again at the first one over TLS: nothing from before
// is kept.
func (s *Server) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{server: s}, nil }

// A session implements smtp.Session and smtp.AuthSession.
type session struct {
	server *Server
	mail   Mail
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.server.User ||
			subtle.ConstantTimeCompare([]byte(password), []byte(s.server.Password)) == 0 {
			return smtp.ErrAuthFailed
		}
		s.mail.User = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.mail.User == "" {
		return smtp.ErrAuthRequired
	}
	s.mail.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if refuse := s.server.config.Recipient; refuse != nil {
		if err := refuse(to); err != nil {
			return err
		}
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.Text = string(text)
	s.server.config.Received(s.mail)
	return nil
}

func (s *session) Reset()        { s.mail = Mail{User: s.mail.User} }
func (s *session) Logout() error { return nil }
