// Smtp sends a mail by go-mail over Whorl's loops, with STARTTLS. The certificate is verified.
//
//	go run ./examples/smtp -addr mail.example.com:25 -from a@example.com -to b@example.com <text
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("smtp", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, os.Stdin, out)
	})
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("smtp", flag.ContinueOnError)
	addr := flags.String("addr", "localhost:25", "the server, host:port")
	from := flags.String("from", "", "the sender")
	to := flags.String("to", "", "the recipient")
	subject := flags.String("subject", "Hello", "the subject")
	authority := flags.String("ca", "", "a file with the authorities to trust; empty: the system's")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	m := mail.NewMsg()
	if err := m.From(*from); err != nil {
		return err
	}
	if err := m.To(*to); err != nil {
		return err
	}
	m.Subject(*subject)
	m.SetBodyString(mail.TypeTextPlain, string(text))
	// go-mail only reads and writes, so a coroutine may call it as it is.
	err = runtime.Run(func(ctx context.Context) error { return send(ctx, *addr, *authority, m) })
	if err == nil {
		fmt.Fprintf(out, "sent to %s\n", *to)
	}
	return err
}

func send(ctx context.Context, addr, authority string, m *mail.Msg) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	trust := &tls.Config{ServerName: host}
	if authority != "" {
		pem, err := os.ReadFile(authority)
		if err != nil {
			return err
		}
		trust.RootCAs = x509.NewCertPool()
		trust.RootCAs.AppendCertsFromPEM(pem)
	}
	client, err := mail.NewClient(
		host,
		mail.WithPort(number),
		mail.WithTLSPolicy(mail.TLSMandatory),
		mail.WithTLSConfig(trust),
		mail.WithTimeout(30*time.Second),
		mail.WithDialContextFunc(new(hooks.Dialer).DialContext),
	)
	if err != nil {
		return err
	}
	return client.DialAndSendWithContext(ctx, m)
}
