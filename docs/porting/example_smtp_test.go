//go:build linux

package porting_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// The dialogue by hand, as the PHP program has it.
func Example_smtpByHand() {
	server := startMailServer()
	defer server.stop()
	err := runtime.Run(func(ctx context.Context) error {
		c := client.New(client.Config{EOF: "\r\n", MaxPacket: 64 << 10})
		defer c.Close()
		if err := c.Connect(ctx, "tcp", server.address); err != nil {
			return err
		}
		talk := func(command string) string {
			if command != "" {
				fmt.Printf("C: %q\n", command)
				c.Send(ctx, []byte(command+"\r\n"))
			}
			for {
				line, err := c.Recv(ctx)
				if err != nil {
					return err.Error()
				}
				fmt.Printf("S: %q\n", line)
				if len(line) < 4 || line[3] != '-' {
					return string(line[:3])
				}
			}
		}
		talk("")
		talk("EHLO client.example.test")
		talk("AUTH LOGIN")
		talk(base64.StdEncoding.EncodeToString([]byte("user")))
		if talk(base64.StdEncoding.EncodeToString([]byte("secret"))) == "235" {
			talk("MAIL FROM:<a@example.test>")
			talk("RCPT TO:<b@example.test>")
			talk("DATA")
			talk("Subject: hello\r\n\r\n..a line that begins with a dot\r\n.")
		}
		talk("QUIT")
		return nil
	})
	fmt.Println(err)
	// Output:
	// S: "220 mail.example.test ESMTP Postfix\r\n"
	// C: "EHLO client.example.test"
	// S: "250-mail.example.test\r\n"
	// S: "250-STARTTLS\r\n"
	// S: "250-AUTH LOGIN\r\n"
	// S: "250 8BITMIME\r\n"
	// C: "AUTH LOGIN"
	// S: "334 VXNlcm5hbWU6\r\n"
	// C: "dXNlcg=="
	// S: "334 UGFzc3dvcmQ6\r\n"
	// C: "c2VjcmV0"
	// S: "235 ok\r\n"
	// C: "MAIL FROM:<a@example.test>"
	// S: "250 2.0.0 Ok\r\n"
	// C: "RCPT TO:<b@example.test>"
	// S: "250 2.0.0 Ok\r\n"
	// C: "DATA"
	// S: "354 go on\r\n"
	// C: "Subject: hello\r\n\r\n..a line that begins with a dot\r\n."
	// S: "250 queued, 3 lines\r\n"
	// C: "QUIT"
	// S: "221 2.0.0 Bye\r\n"
	// <nil>
}

// The same by package smtp: STARTTLS, the login, the dots and the line ends are its business.
func Example_smtpPackage() {
	server := startMailServer()
	defer server.stop()
	err := runtime.Run(func(ctx context.Context) error {
		for _, password := range []string{"wrong", "secret"} {
			receipt, err := sendMail(ctx, server.address, smtp.Config{
				Hello:  "client.example.test",
				Auth:   smtp.Password("user", password),
				Client: client.Config{TLS: &tls.Config{RootCAs: server.roots}},
			})
			if refused, ok := errors.AsType[*smtp.Error](err); ok {
				fmt.Println(refused.Code, refused.Text)
				continue
			}
			fmt.Println(receipt.Text, err)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// 535 no
	// queued, 3 lines <nil>
	// <nil>
}

func sendMail(ctx context.Context, address string, config smtp.Config) (smtp.Receipt, error) {
	c, err := smtp.Dial(ctx, address, config)
	if err != nil {
		return smtp.Receipt{}, err
	}
	defer c.Close()
	receipt, err := c.Send(ctx, &smtp.Mail{
		From:    "a@example.test",
		To:      []string{"b@example.test"},
		Message: strings.NewReader("Subject: hello\n\n.a line that begins with a dot\n"),
	})
	return receipt, errors.Join(err, c.Quit(ctx))
}
