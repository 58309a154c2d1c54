package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/smtp"
)

// letter is the flags that say what is sent, and to whom.
type letter struct {
	from                string
	to, cc, bcc         []string
	subject, text, html string
	attach, header      []string

	given func(flag string) bool // is in the command line
}

func (l *letter) flags(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&l.from, "from", "", `sender: me@example.com, or "Me <me@example.com>"`)
	f.StringArrayVar(&l.to, "to", nil, "recipient, or several with commas between them; repeatable")
	f.StringArrayVar(&l.cc, "cc", nil, "the same for copies")
	f.StringArrayVar(&l.bcc, "bcc", nil, "the same for copies that nobody else is told of")
	f.StringVar(&l.subject, "subject", "", "subject")
	f.StringVar(&l.text, "text", "", "text (default standard input)")
	f.StringVar(&l.html, "html", "", "the text as HTML, in place of --text or beside it")
	f.StringArrayVar(&l.attach, "attach", nil, "FILE to attach; repeatable")
	f.StringArrayVar(&l.header, "header", nil, `further field: "Name: value"; repeatable`)
	l.given = f.Changed
}

// build makes a mail of the flags. text is its message, as it is for people to look at.
func (l *letter) build(stdin io.Reader) (sent *smtp.Mail, text string, err error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	sent = new(smtp.Mail)
	if err := l.address(m, sent); err != nil {
		return nil, "", err
	}
	if l.subject != "" {
		if err := oneLine(l.subject); err != nil {
			return nil, "", fmt.Errorf("--subject: %w", err)
		}
		m.Subject(l.subject)
	}
	m.SetDate()
	m.SetMessageID()
	if err := l.setHeader(m); err != nil {
		return nil, "", err
	}
	if err := l.setBody(m, stdin); err != nil {
		return nil, "", err
	}
	// Files and whatever else can go wrong with a message, before there is a connection.
	var message bytes.Buffer
	if _, err := m.WriteTo(&message); err != nil {
		return nil, "", err
	}
	sent.Message = bytes.NewReader(message.Bytes())
	return sent, strings.ReplaceAll(message.String(), "\r\n", "\n"), nil
}

// address sets who it is from and for, in the header and in the envelope.
func (l *letter) address(m *mail.Msg, sent *smtp.Mail) error {
	if l.from == "" {
		return errors.New("--from is missing")
	}
	from, err := netmail.ParseAddress(l.from)
	if err != nil {
		return fmt.Errorf("--from %q: %w", l.from, err)
	}
	if err := oneLine(from.Name); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	m.FromMailAddress(from)
	sent.From = bare(from)
	for _, field := range []struct {
		flag   string
		values []string
		set    func(...*netmail.Address)
	}{
		{"--to", l.to, m.ToMailAddress}, {"--cc", l.cc, m.CcMailAddress}, {"--bcc", l.bcc, nil},
	} {
		var all []*netmail.Address
		for _, value := range field.values {
			list, err := netmail.ParseAddressList(value)
			if err != nil {
				return fmt.Errorf("%s %q: %w", field.flag, value, err)
			}
			all = append(all, list...)
		}
		if len(all) > 0 && field.set != nil {
			field.set(all...)
		}
		for _, address := range all {
			if err := oneLine(address.Name); err != nil {
				return fmt.Errorf("%s: %w", field.flag, err)
			}
			sent.To = append(sent.To, bare(address))
		}
	}
	if len(sent.To) == 0 {
		return errors.New("--to is missing")
	}
	return nil
}

// bare is an address as an envelope has it.
func bare(address *netmail.Address) string {
	alone := netmail.Address{Address: address.Address}
	return strings.Trim(alone.String(), "<>")
}

// oneLine refuses what is more than one line, or a control character in it. It could be sent
// encoded, but who wants it to be?
func oneLine(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("a line end or another control character in %q", text)
	}
	return nil
}

// setHeader sets the further fields.
func (l *letter) setHeader(m *mail.Msg) error {
	had := map[string]bool{
		"from": true, "to": true, "cc": true, "bcc": true, "subject": true, "mime-version": true,
	}
	for _, field := range l.header {
		name, value, ok := strings.Cut(field, ":")
		lower := strings.ToLower(name)
		switch {
		case !ok || name == "" || strings.ContainsFunc(name, notInName):
			return fmt.Errorf(`--header %q: want "Name: value"`, field)
		case strings.ContainsAny(value, "\r\n\x00"):
			return fmt.Errorf("--header %s: a line end or NUL in the value", name)
		case had[lower] || strings.HasPrefix(lower, "content-"):
			return fmt.Errorf("--header %s: that is set elsewhere, and only once", name)
		}
		had[lower] = true
		for _, usual := range []mail.Header{mail.HeaderDate, mail.HeaderMessageID} {
			if strings.EqualFold(name, string(usual)) {
				name = string(usual) // in place of the usual one
			}
		}
		m.SetGenHeader(mail.Header(name), strings.TrimSpace(value))
	}
	return nil
}

// notInName is what a field's name doesn't have: RFC 5322, section 3.6.8.
func notInName(c rune) bool { return c <= ' ' || c > '~' }

func (l *letter) setBody(m *mail.Msg, stdin io.Reader) error {
	if !l.given("text") && !l.given("html") {
		content, err := io.ReadAll(stdin)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		l.text = string(content)
	}
	switch {
	case !l.given("html"):
		m.SetBodyString(mail.TypeTextPlain, l.text)
	case !l.given("text"):
		m.SetBodyString(mail.TypeTextHTML, l.html)
	default:
		m.SetBodyString(mail.TypeTextPlain, l.text)
		m.AddAlternativeString(mail.TypeTextHTML, l.html)
	}
	for _, name := range l.attach {
		if err := attach(m, name); err != nil {
			return fmt.Errorf("--attach: %w", err)
		}
	}
	return nil
}

func attach(m *mail.Msg, name string) error {
	if err := oneLine(filepath.Base(name)); err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return m.AttachReader(filepath.Base(name), file)
}
