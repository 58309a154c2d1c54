package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/smtp"
)

// A mailer sends mails from one to another. The dialogue, that mail.php has by hand, is package
// smtp's: STARTTLS before all else, a verified certificate, the best login, and other attempts when
// the server is away.
type mailer struct {
	pool     *smtp.Pool
	from, to string
}

func newMailer(address, user, password string, roots *x509.CertPool) (*smtp.Pool, error) {
	config := smtp.Config{Client: client.Config{TLS: &tls.Config{RootCAs: roots}}}
	if user != "" {
		config.Auth = smtp.Password(user, password)
	}
	return smtp.NewPool(smtp.PoolConfig{Address: address, Config: config, MaxConns: 1})
}

func (m mailer) send(ctx context.Context, subject string) error {
	message := fmt.Sprintf("From: <%s>\nTo: <%s>\nSubject: %s\nDate: %s\n"+
		"Message-ID: <%s@watch.example.test>\n\n%s\n",
		m.from, m.to, subject, time.Now().Format(time.RFC1123Z), rand.Text(), subject)
	_, err := m.pool.Send(ctx, &smtp.Mail{
		From: m.from, To: []string{m.to}, Message: strings.NewReader(message),
	})
	return err
}
