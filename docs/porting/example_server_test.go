//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

func Example_tcpServer() {
	err := runtime.Run(func(ctx context.Context) error {
		closed := runtime.NewChannel[error](1)
		s := server.New(server.Config{Port: server.Port{
			EOF:         "\r\n",
			MaxPacket:   1024,
			IdleTimeout: time.Second,
			OnConnect: func(_ context.Context, c *server.Conn) {
				fmt.Println("OnConnect", c.ID())
			},
			OnReceive: func(ctx context.Context, c *server.Conn, line []byte) {
				fmt.Printf("OnReceive %d %q\n", c.ID(), line)
				c.Send(ctx, fmt.Appendf(nil, "%d\r\n", len(line)))
				if string(line) == "quit\r\n" {
					fmt.Println("close:", c.Close())
					fmt.Println("close again:", c.Close())
					_, err := c.Send(ctx, []byte("x"))
					fmt.Println("send after close:", err != nil)
					fmt.Println("exists:", c.Server().Exists(c.ID()))
				}
			},
			OnClose: func(ctx context.Context, c *server.Conn, reason error) {
				if op, ok := errors.AsType[*net.OpError](reason); ok {
					reason = op.Err // without the addresses
				}
				fmt.Printf("OnClose %d: %v\n", c.ID(), reason)
				closed.Push(ctx, reason)
			},
		}})
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			for _, parts := range [][]string{
				{"one\r\ntwo\r\n", "thr", "ee\r\n", "quit\r\n"},
				{strings.Repeat("x", 2000)}, // too long for a packet
				nil,                         // silent for longer than IdleTimeout
			} {
				got := sayInParts(ctx, l.Addr().String(), parts)
				closed.Pop(ctx)
				fmt.Printf("client read: %q\n", got)
			}
		})
		return s.Serve(ctx)
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// OnConnect 1
	// OnReceive 1 "one\r\n"
	// OnReceive 1 "two\r\n"
	// OnReceive 1 "three\r\n"
	// OnReceive 1 "quit\r\n"
	// close: <nil>
	// close again: use of closed network connection
	// send after close: true
	// exists: false
	// OnClose 1: <nil>
	// client read: ["5\r\n" "5\r\n" "7\r\n" "6\r\n"]
	// OnConnect 2
	// OnClose 2: packet too large: no delimiter "\r\n" in 1024 bytes, the limit
	// client read: []
	// OnConnect 3
	// OnClose 3: server: idle for too long
	// client read: []
	// <nil>
}

// sayInParts is a client, and returns what it gets until the server closes.
func sayInParts(ctx context.Context, address string, parts []string) (got []string) {
	c := client.New(client.Config{EOF: "\r\n"})
	defer c.Close()
	if err := c.Connect(ctx, "tcp", address); err != nil {
		return []string{err.Error()}
	}
	for _, part := range parts {
		c.Send(ctx, []byte(part))
		runtime.Sleep(ctx, 20*time.Millisecond) // the parts arrive one by one
	}
	for {
		line, err := c.Recv(ctx)
		if err != nil {
			return got
		}
		got = append(got, string(line))
	}
}
