// Smtp sends one mail, from a line in a shell.
//
//	go run ./examples/smtp -addr mail.example.com:587 -user me -password-file secret \
//		-from me@example.com -to you@example.com -subject "Hello" -text "Hello!" -attach cat.jpg
//
// goes to a real server: by STARTTLS, or with -implicit by TLS from the start. -text - is standard
// input. -to takes several addresses, with commas between them. Without -addr
//
//	go run ./examples/smtp
//
// sends to an SMTP server in the same process, shows what that has got, and ends:
//
//	Accepted by 127.0.0.1:40127: OK: queued
//	From alice@example.com, who logged in as alice, to bob@example.com and carol@example.com.
//	Refused: RCPT "nobody@example.com": refused with 550 5.1.1 "no such user"
//	Subject: Grüße
//	text/plain: "Hello.\n.\nA line that is a dot is no end."
//	attachment "hello.txt": "attached"
//
// The mail is built by wneessen/go-mail, whose messages package smtp sends as they are.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

func main() { program.Main("smtp", run) }

// letter is what the flags ask for.
type letter struct {
	addr, from, to, subject, text, user, password string
	attach                                        []string
	implicit                                      bool
	roots                                         *x509.CertPool
	timeout                                       time.Duration
}

// run returns an error if the server hasn't accepted the mail for all recipients.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	l, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if l.addr == "" {
		return demonstrate(ctx, stdout)
	}
	m, err := l.message()
	if err != nil {
		return err
	}
	receipt, err := l.send(ctx, m)
	if err != nil {
		return err
	}
	return l.report(stdout, receipt)
}

// message builds the mail. What makes no sense in it, go-mail finds out.
func (l *letter) message() (*mail.Msg, error) {
	m := mail.NewMsg()
	if err := errors.Join(m.From(l.from), m.To(strings.Split(l.to, ",")...)); err != nil {
		return nil, program.Usage("%w", err)
	}
	m.Subject(l.subject)
	m.SetDate()
	m.SetMessageID()
	m.SetBodyString(mail.TypeTextPlain, l.text)
	for _, name := range l.attach {
		if _, err := os.Stat(name); err != nil {
			return nil, fmt.Errorf("-attach: %w", err)
		}
		m.AttachFile(name)
	}
	return m, nil
}

// send sends the mail, in a coroutine.
func (l *letter) send(ctx context.Context, m *mail.Msg) (receipt smtp.Receipt, err error) {
	from, err := m.GetSender(false)
	if err != nil {
		return receipt, err
	}
	to, err := m.GetRecipients()
	if err != nil {
		return receipt, err
	}
	for i := range to {
		to[i] = bare(to[i])
	}
	// Attachments are files, which are read here and not on the loop.
	var text strings.Builder
	if _, err := m.WriteTo(&text); err != nil {
		return receipt, err
	}
	config := smtp.Config{Client: client.Config{TLS: &tls.Config{RootCAs: l.roots}}}
	if l.implicit {
		config.Security = smtp.Implicit
	}
	if l.user != "" {
		config.Auth = smtp.Password(l.user, l.password)
	}
	err = runtime.Run(func(co context.Context) error {
		co, cancel := context.WithTimeout(co, l.timeout)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		c, err := smtp.Dial(co, l.addr, config)
		if err != nil {
			return err
		}
		defer c.Close()
		receipt, err = c.Send(co, &smtp.Mail{
			From: bare(from), To: to, Message: strings.NewReader(text.String()),
		})
		if err != nil {
			return err
		}
		c.Quit(co) // the mail is the server's, whatever comes of this
		return nil
	}, runtime.WithLoops(1))
	return receipt, err
}

// bare is an address without the brackets that go-mail gives it.
func bare(address string) string { return strings.Trim(address, "<>") }

// report prints what has become of the mail.
func (l *letter) report(stdout io.Writer, receipt smtp.Receipt) error {
	var errs []error
	if _, err := fmt.Fprintf(stdout, "Accepted by %s: %s\n", l.addr, receipt.Text); err != nil {
		errs = append(errs, fmt.Errorf("the mail was accepted, but: %w", err))
	}
	for _, refused := range receipt.Refused {
		errs = append(errs, refused)
	}
	return errors.Join(errs...)
}

// parse makes a letter of the flags, or says what is wrong with them.
func parse(args []string, stdout io.Writer) (*letter, error) {
	l := new(letter)
	var passwordFile, caFile string
	set := flag.NewFlagSet("smtp", flag.ContinueOnError)
	for _, f := range []struct {
		value             *string
		name, usual, what string
	}{
		{&l.addr, "addr", "", "`host:port` of a server; without it there is a demonstration"},
		{&l.from, "from", "", "`address` of the sender"},
		{&l.to, "to", "", "`addresses` of the recipients, with commas between them"},
		{&l.subject, "subject", "", "the `subject`"},
		{&l.text, "text", "", "the `text`; - is standard input"},
		{&l.user, "user", "", "`name` to log in with; without it there is no login"},
		{&passwordFile, "password-file", "", "`file` with the password"},
		{&caFile, "ca", "", "`file` with the authorities to trust (PEM); without it the system's"},
	} {
		set.StringVar(f.value, f.name, f.usual, f.what)
	}
	set.Func("attach", "`file` to attach; may be given more than once", func(name string) error {
		l.attach = append(l.attach, name)
		return nil
	})
	set.BoolVar(&l.implicit, "implicit", false, "TLS from the start, as on port 465")
	set.DurationVar(&l.timeout, "timeout", time.Minute, "time-out of all of it")
	if err := program.Parse(set, args, stdout); err != nil {
		return nil, err
	}
	if l.addr == "" {
		if set.NFlag() > 0 {
			return nil, program.Usage("-%s is for a real server: -addr is missing", given(set))
		}
		return l, nil
	}
	if l.from == "" || l.to == "" {
		return nil, program.Usage("-addr needs -from and -to")
	}
	if (l.user == "") != (passwordFile == "") {
		return nil, program.Usage("-user and -password-file belong together")
	}
	return l, l.read(passwordFile, caFile)
}

// given returns the name of a flag that was given.
func given(set *flag.FlagSet) (name string) {
	set.Visit(func(f *flag.Flag) { name = f.Name })
	return name
}

// read reads the files.
func (l *letter) read(passwordFile, caFile string) error {
	if passwordFile != "" {
		content, err := os.ReadFile(passwordFile)
		if err != nil {
			return fmt.Errorf("-password-file: %w", err)
		}
		l.password = strings.TrimRight(string(content), "\r\n")
	}
	if caFile != "" {
		content, err := os.ReadFile(caFile)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		l.roots = x509.NewCertPool()
		if !l.roots.AppendCertsFromPEM(content) {
			return fmt.Errorf("-ca: %s has no certificate in PEM", caFile)
		}
	}
	if l.text == "-" {
		content, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("-text: %w", err)
		}
		l.text = string(content)
	}
	return nil
}
