//go:build linux

package porting_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_starttlsClient() {
	server := startMailServer()
	defer server.stop()
	err := runtime.Run(func(ctx context.Context) error {
		for _, name := range []string{"mail.example.test", "other.example.test"} {
			fmt.Println("== verify,", name)
			config := &tls.Config{RootCAs: server.roots, ServerName: name}
			if err := starttlsClient(ctx, server.address, config); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// == verify, mail.example.test
	// 220 mail.example.test ESMTP Postfix
	// 220 2.0.0 Ready to start TLS
	// EnableSSL: code=0 connected=true
	// 250-mail.example.test
	// 250-AUTH LOGIN
	// 250 8BITMIME
	// second EnableSSL: code=106
	// 221 2.0.0 Bye
	// Recv after QUIT: EOF
	// == verify, other.example.test
	// 220 mail.example.test ESMTP Postfix
	// 220 2.0.0 Ready to start TLS
	// EnableSSL: code=1014 connected=false
	// Send: 0 bytes, code=9
	// <nil>
}

func starttlsClient(ctx context.Context, address string, config *tls.Config) error {
	c := client.New(client.Config{EOF: "\r\n", ReadTimeout: 3 * time.Second, TLS: config})
	defer c.Close()
	if err := c.Connect(ctx, "tcp", address); err != nil {
		return err
	}
	fmt.Print(reply(ctx, c))
	c.Send(ctx, []byte("EHLO client.example.test\r\n"))
	reply(ctx, c)
	c.Send(ctx, []byte("STARTTLS\r\n"))
	fmt.Print(reply(ctx, c))

	err := c.EnableSSL(ctx) // says in its text what is wrong, and what mends it
	fmt.Printf("EnableSSL: code=%d connected=%t\n", socket.Code(err), c.Connected())
	n, err := c.Send(ctx, []byte("EHLO client.example.test\r\n"))
	if err != nil {
		fmt.Printf("Send: %d bytes, code=%d\n", n, socket.Code(err))
		return nil
	}
	fmt.Print(reply(ctx, c))
	fmt.Printf("second EnableSSL: code=%d\n", socket.Code(c.EnableSSL(ctx)))
	c.Send(ctx, []byte("QUIT\r\n"))
	fmt.Print(reply(ctx, c))
	_, err = c.Recv(ctx)
	fmt.Println("Recv after QUIT:", err)
	return nil
}

// reply receives a reply of one or several lines.
func reply(ctx context.Context, c *client.Client) string {
	var text strings.Builder
	for {
		line, err := c.Recv(ctx)
		if err != nil {
			return fmt.Sprintf("%s%v\n", text.String(), err)
		}
		text.Write(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.ReplaceAll(text.String(), "\r\n", "\n")
		}
	}
}
