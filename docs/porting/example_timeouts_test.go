//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// A time-out in the middle of a packet loses nothing.
func Example_framedTimeout() {
	framings := []struct {
		name   string
		config client.Config
		halves [2]string
	}{
		{"end mark", client.Config{EOF: "\r\n"}, [2]string{"first ha", "lf\r\nsecond\r\n"}},
		{"length, half of the header",
			client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 4}},
			[2]string{"\x00\x00", "\x00\x05hello\x00\x00\x00\x03you"}},
		{"length, half of the body",
			client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 4}},
			[2]string{"\x00\x00\x00\x05he", "llo\x00\x00\x00\x03you"}},
	}
	err := runtime.Run(func(ctx context.Context) error {
		for _, f := range framings {
			fmt.Println("==", f.name)
			goOn := runtime.NewChannel[bool](1)
			address, end, err := startServer(ctx, func(ctx context.Context, c *server.Conn) {
				c.Send(ctx, []byte(f.halves[0]))
				goOn.Pop(ctx)
				c.Send(ctx, []byte(f.halves[1]))
				c.Recv(ctx) // until the client has gone
			})
			if err != nil {
				return err
			}
			c := client.New(f.config)
			if err := c.Connect(ctx, "tcp", address); err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			_, err = c.Recv(short)
			cancel()
			fmt.Println("Recv, 0.05 s: code", socket.Code(err))
			goOn.Push(ctx, true)
			for range 2 {
				line, err := c.Recv(ctx)
				fmt.Printf("Recv: %q %v\n", line, err)
			}
			c.Close()
			end()
		}
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// == end mark
	// Recv, 0.05 s: code 110
	// Recv: "first half\r\n" <nil>
	// Recv: "second\r\n" <nil>
	// == length, half of the header
	// Recv, 0.05 s: code 110
	// Recv: "\x00\x00\x00\x05hello" <nil>
	// Recv: "\x00\x00\x00\x03you" <nil>
	// == length, half of the body
	// Recv, 0.05 s: code 110
	// Recv: "\x00\x00\x00\x05hello" <nil>
	// Recv: "\x00\x00\x00\x03you" <nil>
	// <nil>
}

// Which time-out counts: that of the configuration, or the context's if it comes first.
func Example_whichTimeout() {
	err := runtime.Run(func(ctx context.Context) error {
		address, end, err := startServer(ctx, func(ctx context.Context, c *server.Conn) {
			c.Recv(ctx) // says nothing
		})
		if err != nil {
			return err
		}
		defer end()
		for _, row := range []struct {
			connect, read, call time.Duration // call: of the context, 0 for none
		}{
			{5 * time.Second, 60 * time.Millisecond, 0},
			{5 * time.Second, time.Hour, 40 * time.Millisecond},
			{5 * time.Second, 60 * time.Millisecond, time.Hour},
			{5 * time.Second, -1, 80 * time.Millisecond},
		} {
			c := client.New(client.Config{ConnectTimeout: row.connect, ReadTimeout: row.read})
			if err := c.Connect(ctx, "tcp", address); err != nil {
				return err
			}
			ctx, cancel := ctx, func() {}
			if row.call > 0 {
				ctx, cancel = context.WithTimeout(ctx, row.call)
			}
			begin := time.Now()
			_, err := c.Recv(ctx)
			spent := time.Since(begin)
			cancel()
			want, which := row.read, "ReadTimeout"
			if errors.Is(err, context.DeadlineExceeded) {
				want, which = row.call, "the context"
			}
			fmt.Printf("connect %v, read %v, call %v: code %d, by %s, not before its time: %t\n",
				row.connect, row.read, row.call, socket.Code(err), which, spent >= want)
			c.Close()
		}
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// connect 5s, read 60ms, call 0s: code 110, by ReadTimeout, not before its time: true
	// connect 5s, read 1h0m0s, call 40ms: code 110, by the context, not before its time: true
	// connect 5s, read 60ms, call 1h0m0s: code 110, by ReadTimeout, not before its time: true
	// connect 5s, read -1ns, call 80ms: code 110, by the context, not before its time: true
	// <nil>
}

// startServer serves each connection with handle, until end is called.
func startServer(
	ctx context.Context, handle func(ctx context.Context, c *server.Conn),
) (address string, end func(), err error) {
	s := server.New(server.Config{Port: server.Port{Handle: handle}})
	l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	_, err = runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) })
	return l.Addr().String(), func() { s.Close() }, err
}
