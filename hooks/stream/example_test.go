//go:build linux

package stream_test

import (
	"context"
	"fmt"
	"io"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
)

// A server and a client, as PHP code has them.
func ExampleSocketServer() {
	err := runtime.Run(func(ctx context.Context) error {
		server, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
		if err != nil {
			return err
		}
		defer server.Close()
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				conn, err := stream.Accept(ctx, server, -1)
				if err != nil {
					return
				}
				conn.Write(ctx, []byte("The local time is noon.\n"))
				conn.Close()
			}
		})

		client, err := stream.SocketClient(ctx, "tcp://"+server.GetName(false))
		if err != nil {
			return err
		}
		defer client.Close()
		for !client.EOF() {
			line, err := client.Gets(ctx, 1024)
			if err != nil && err != io.EOF {
				return err
			}
			fmt.Print(line)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// The local time is noon.
	// <nil>
}

// Select returns what is ready under the keys that it was given.
func ExampleSelect() {
	err := runtime.Run(func(ctx context.Context) error {
		a, b, err := stream.SocketPair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		if _, err := a.Write(ctx, []byte("hello")); err != nil {
			return err
		}
		ready, err := stream.Select(ctx, map[string]*stream.Stream{"a": a, "b": b}, nil, nil, -1)
		if err != nil {
			return err
		}
		for key, s := range ready.Read {
			p := make([]byte, 100)
			n, err := s.Read(ctx, p)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", key, p[:n])
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// b: hello
	// <nil>
}
