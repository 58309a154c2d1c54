//go:build linux

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// exampleServer is a server without TLS that knows everybody but nobody.
func exampleServer() (address string, stop func()) {
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session,
		error) {
		return exampleSession{}, nil
	}))
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(l)
	return l.Addr().String(), func() { server.Close() }
}

type exampleSession struct{ sinks }

func (exampleSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1},
			Message: "no such user"}
	}
	return nil
}

func Example() {
	address, stop := exampleServer()
	defer stop()
	err := runtime.Run(func(ctx context.Context) error {
		// A real server has TLS: leave Security out.
		c, err := smtp.Dial(ctx, address, smtp.Config{Security: smtp.Opportunistic})
		if err != nil {
			return err
		}
		defer c.Close()
		receipt, err := c.Send(ctx, &smtp.Mail{
			From:    "me@example.com",
			To:      []string{"you@example.com", "nobody@example.com"},
			Message: strings.NewReader("Subject: Hello\n\nHello, you.\n"),
		})
		if err != nil {
			return err
		}
		fmt.Println(receipt.Text)
		for _, refused := range receipt.Refused {
			fmt.Println(refused.Recipient, refused.Code, refused.Enhanced, refused.Text,
				refused.Temporary())
		}
		return c.Quit(ctx)
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// OK: queued
	// nobody@example.com 550 5.1.1 no such user false
}

func ExamplePool() {
	address, stop := exampleServer()
	defer stop()
	err := runtime.Run(func(ctx context.Context) error {
		pool, err := smtp.NewPool(smtp.PoolConfig{
			Address:  address,
			Config:   smtp.Config{Security: smtp.Opportunistic},
			MaxConns: 2,
		})
		if err != nil {
			return err
		}
		err = runtime.ForEach(ctx, 10, func(ctx context.Context, i int) error {
			_, err := pool.Send(ctx, &smtp.Mail{
				From:    "me@example.com",
				To:      []string{fmt.Sprintf("reader%d@example.com", i)},
				Message: strings.NewReader("Subject: News\n\nNone.\n"),
			})
			return err
		})
		err = errors.Join(err, pool.Close(ctx))
		fmt.Println(pool.Stats().Accepted, "mails on", pool.Stats().Dialed, "connections")
		return err
	}, runtime.WithLoops(1))
	if err != nil {
		fmt.Println(err)
	}
	// Output: 10 mails on 2 connections
}

// Credentials are only sent over TLS.
func ExamplePassword() {
	address, stop := exampleServer()
	defer stop()
	err := runtime.Run(func(ctx context.Context) error {
		_, err := smtp.Dial(ctx, address, smtp.Config{
			Security: smtp.Opportunistic,
			Auth:     smtp.Password("me", "secret"),
		})
		fmt.Println(errors.Is(err, smtp.ErrAuthNeedsTLS))
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: true
}
