//go:build linux

package hooks_test

import (
	"context"
	"fmt"
	"io"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// A server and a client, as PHP code has them.
func ExampleStreamSocketServer() {
	err := runtime.Run(func(ctx context.Context) error {
		server, err := hooks.StreamSocketServer(ctx, "tcp://127.0.0.1:0")
		if err != nil {
			return err
		}
		defer server.Close()
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				conn, err := hooks.StreamSocketAccept(ctx, server, -1)
				if err != nil {
					return
				}
				conn.Write(ctx, []byte("The local time is noon.\n"))
				conn.Close()
			}
		})

		client, err := hooks.StreamSocketClient(ctx, "tcp://"+server.GetName(false))
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

// StreamSelect returns what is ready under the keys that it was given.
func ExampleStreamSelect() {
	err := runtime.Run(func(ctx context.Context) error {
		a, b, err := hooks.StreamSocketPair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		if _, err := a.Write(ctx, []byte("hello")); err != nil {
			return err
		}
		ready, err := hooks.StreamSelect(ctx, map[string]*hooks.Stream{"a": a, "b": b}, nil, nil, -1)
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
