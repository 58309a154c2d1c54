//go:build linux

package starttls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/starttls"
)

func ExampleUpgrade() {
	server, roots := exampleServer("220 go ahead\r\n")
	err := runtime.Run(func(ctx context.Context) error {
		c := client.New(client.Config{EOF: "\r\n", TLS: &tls.Config{RootCAs: roots}})
		defer c.Close()
		if err := c.Connect(ctx, "tcp", server); err != nil {
			return err
		}
		session, err := starttls.Upgrade(ctx, c, starttls.SMTP,
			starttls.Options{Name: "client.example"})
		if err != nil {
			return err
		}
		fmt.Println("over TLS:", session.Capabilities)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// over TLS: [AUTH PLAIN]
}

func ExampleError() {
	server, roots := exampleServer("454 not now\r\n")
	err := runtime.Run(func(ctx context.Context) error {
		c := client.New(client.Config{EOF: "\r\n", TLS: &tls.Config{RootCAs: roots}})
		defer c.Close()
		if err := c.Connect(ctx, "tcp", server); err != nil {
			return err
		}
		_, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{Name: "client.example"})
		return err
	})
	if errors.Is(err, starttls.ErrRefused) {
		fmt.Println("there is no TLS, so nothing was sent")
	}
	if failure, ok := errors.AsType[*starttls.Error](err); ok {
		fmt.Println(failure.Phase, failure.Code)
	}
	// Output:
	// there is no TLS, so nothing was sent
	// starttls 454
}
