package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	stdmail "net/mail"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/internal/examples/mailserver"
)

// demonstrate sends a mail to a server in this process and shows what comes.
func demonstrate(ctx context.Context, stdout io.Writer) error {
	mails := make(chan mailserver.Mail, 1)
	server, err := mailserver.Start(mailserver.Config{
		Received: func(m mailserver.Mail) { mails <- m },
		Recipient: func(to string) error {
			if strings.HasPrefix(to, "nobody@") {
				return &gosmtp.SMTPError{
					Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user",
				}
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	l := &letter{
		addr: server.Addr, roots: server.Roots, user: server.User, password: server.Password,
		from: "alice@example.com", to: "bob@example.com,carol@example.com,nobody@example.com",
		subject: "Grüße", text: "Hello.\n.\nA line that is a dot is no end.", timeout: time.Minute,
	}
	m, err := l.message()
	if err != nil {
		return err
	}
	if err := m.AttachReader("hello.txt", strings.NewReader("attached"),
		mail.WithFileContentType(mail.TypeTextPlain)); err != nil {
		return err
	}
	receipt, err := l.send(ctx, m)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(server.Addr, ":")
	fmt.Fprintf(stdout, "Accepted by 127.0.0.1:%s: %s\n", port, receipt.Text)
	got := <-mails // the server puts it there before it accepts it
	fmt.Fprintf(stdout, "From %s, who logged in as %s, to %s.\n",
		got.From, got.User, strings.Join(got.To, " and "))
	for _, refused := range receipt.Refused {
		fmt.Fprintf(stdout, "Refused: %v\n", refused)
	}
	return show(stdout, got.Text)
}

// show prints the parts of a mail.
func show(stdout io.Writer, text string) error {
	m, err := stdmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Subject: %s\n", subject)
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(content), "\r\n", "\n")
		if name := part.FileName(); name != "" {
			attached, err := base64.StdEncoding.DecodeString(text) // which knows of line ends
			if err != nil {
				return err
			}
			fmt.Fprintf(stdout, "attachment %q: %q\n", name, attached)
			continue
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		fmt.Fprintf(stdout, "%s: %q\n", kind, text)
	}
}
