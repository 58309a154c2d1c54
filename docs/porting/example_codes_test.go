//go:build linux

package porting_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

func Example_errorCodes() {
	show := func(what string, err error) { fmt.Printf("%s: %d\n", what, socket.Code(err)) }
	err := runtime.Run(func(ctx context.Context) error {
		address, end, err := startServer(ctx, echoOnce)
		if err != nil {
			return err
		}
		defer end()
		open := func(say string, config client.Config) *client.Client {
			c := client.New(config)
			c.Connect(ctx, "tcp", address)
			c.Send(ctx, []byte(say))
			return c
		}

		c := client.New(client.Config{})
		_, err = c.Send(ctx, []byte("x"))
		show("Send before Connect", err)
		show("EnableSSL before Connect", c.EnableSSL(ctx))
		show("refused", c.Connect(ctx, "tcp", "127.0.0.1:1"))
		show("no name", c.Connect(ctx, "tcp", "no-such-host..invalid:80"))
		show("port 70000", c.Connect(ctx, "tcp", "127.0.0.1:70000"))

		c = open("close", client.Config{})
		_, err = c.Recv(ctx)
		show("Recv, peer closed", err)
		c.Close()

		c = open("hello", client.Config{ReadTimeout: 50 * time.Millisecond})
		data, err := c.Recv(ctx)
		show(fmt.Sprintf("Recv of %q", data), err)
		_, err = c.Peek(make([]byte, 10))
		show("Peek, nothing there", err)
		_, err = c.Recv(ctx)
		show("Recv, time-out", err)
		show("Connect while connected", c.Connect(ctx, "tcp", address))
		_, err = c.Send(ctx, nil)
		show("Send of nothing", err)
		show("Close", c.Close())
		show("Close again", c.Close())
		_, err = c.Recv(ctx)
		show("Recv after Close", err)

		c = open("\x00\x00\x13\x88body", client.Config{ // 5000
			Length: packet.LengthField{Type: 'N', BodyOffset: 4}, MaxPacket: 1000,
		})
		for range 2 {
			_, err = c.Recv(ctx)
			show("length above MaxPacket", err)
		}
		c.Close()

		c = open("", client.Config{})
		show("EnableSSL against plain text", c.EnableSSL(ctx))
		_, err = c.Send(ctx, []byte("x"))
		show("Send after it", err)
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// Send before Connect: 5001
	// EnableSSL before Connect: 5001
	// refused: 111
	// no name: 711
	// port 70000: 723
	// Recv, peer closed: -1
	// Recv of "hello": 0
	// Peek, nothing there: 11
	// Recv, time-out: 110
	// Connect while connected: 106
	// Send of nothing: 0
	// Close: 0
	// Close again: 9
	// Recv after Close: 9
	// length above MaxPacket: 1201
	// length above MaxPacket: 1201
	// EnableSSL against plain text: 1018
	// Send after it: 9
	// <nil>
}

// echoOnce closes at once if it is told to. It takes a ClientHello for text, too.
func echoOnce(ctx context.Context, c *server.Conn) {
	said, err := c.Recv(ctx)
	if err != nil || string(said) == "close" {
		return
	}
	if strings.HasPrefix(string(said), "\x16\x03") {
		said = []byte("220 not TLS at all\r\n")
	}
	c.Send(ctx, said)
	c.Recv(ctx)
}
