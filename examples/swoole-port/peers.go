package main

import (
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alicebob/miniredis/v2"

	"github.com/whorl-go/whorl/internal/examples/mailserver"
	"github.com/whorl-go/whorl/internal/program"
)

// peers are the servers that the service works with: those of the flags, or small ones in the
// process.
type peers struct {
	redis, mail, user, password, from, to string
	passwordFile, caFile                  string

	roots *x509.CertPool
	mails chan string // what the mail server in the process has got, in a demonstration
	stops []func()
}

func (p *peers) define(flags *flag.FlagSet) {
	flags.StringVar(&p.redis, "redis", "", "`host:port` of Redis; without it a small one is brought")
	flags.StringVar(&p.mail, "mail", "",
		"`host:port` of a mail server; without it one is brought that shows what it gets")
	flags.StringVar(&p.user, "user", "", "`name` to log in with there; without it there is no login")
	flags.StringVar(&p.passwordFile, "password-file", "", "`file` with the password")
	flags.StringVar(&p.caFile, "ca", "", "`file` with the authorities to trust (PEM)")
	flags.StringVar(&p.from, "from", "watch@example.com", "`address` that alarms come from")
	flags.StringVar(&p.to, "to", "bob@example.com", "`address` that gets them")
}

// start brings what the flags don't name. In a demonstration mails go to the channel.
func (p *peers) start(stdout io.Writer, demonstration bool) error {
	if err := p.read(); err != nil {
		return err
	}
	if p.redis == "" {
		cache, err := miniredis.Run()
		if err != nil {
			return err
		}
		p.stops = append(p.stops, cache.Close)
		p.redis = cache.Addr()
	}
	if p.mail != "" {
		return nil
	}
	p.mails = make(chan string, 100)
	s, err := mailserver.Start(mailserver.Config{Received: func(m mailserver.Mail) {
		_, subject, _ := strings.Cut(m.Text, "Subject: ")
		subject, _, _ = strings.Cut(subject, "\r\n")
		text := fmt.Sprintf("%s gets %q, from %s, who has logged in\n", m.To[0], subject, m.User)
		if demonstration {
			p.mails <- text
		} else {
			io.WriteString(stdout, text)
		}
	}})
	if err != nil {
		p.stop()
		return err
	}
	p.stops = append(p.stops, s.Stop)
	p.mail, p.user, p.password, p.roots = s.Addr, s.User, s.Password, s.Roots
	return nil
}

func (p *peers) stop() {
	for _, stop := range p.stops {
		stop()
	}
}

// read reads the files that the flags name.
func (p *peers) read() error {
	if p.mail == "" && (p.user != "" || p.passwordFile != "" || p.caFile != "") {
		return program.Usage("-user, -password-file and -ca are for -mail")
	}
	if (p.user == "") != (p.passwordFile == "") {
		return program.Usage("-user and -password-file belong together")
	}
	if p.passwordFile != "" {
		content, err := os.ReadFile(p.passwordFile)
		if err != nil {
			return fmt.Errorf("-password-file: %w", err)
		}
		p.password = strings.TrimRight(string(content), "\r\n")
	}
	if p.caFile != "" {
		content, err := os.ReadFile(p.caFile)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		p.roots = x509.NewCertPool()
		if !p.roots.AppendCertsFromPEM(content) {
			return fmt.Errorf("-ca: %s has no certificate in PEM", p.caFile)
		}
	}
	return nil
}
