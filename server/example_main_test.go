//go:build linux

package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// The way that main is written: serve is its first coroutine, and it returns when the server has
// ended in order.
func ExampleServer_Shutdown() {
	if err := runtime.Run(serveUntilSignal); err != nil {
		fmt.Println(err) // in a main: log.Fatal
	}
	// Unordered output:
	// "220 ready\n" <nil>
	// "421 shutting down\n" <nil>
	// the server has ended: <nil>
}

func serveUntilSignal(ctx context.Context) error {
	s := server.New(server.Config{Port: server.Port{EOF: "\n", Handle: greet}})
	l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := runtime.Go(ctx, func(ctx context.Context) {
		if _, err := runtime.WaitSignal(ctx, os.Interrupt, syscall.SIGTERM); err != nil {
			return // Serve has failed, and with it main
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		// No new connections; those that wait for a packet are told; what was sent is delivered.
		fmt.Println("the server has ended:", s.Shutdown(ctx))
	}); err != nil {
		return err
	}
	if _, err := runtime.Go(ctx, func(ctx context.Context) {
		visit(ctx, l.Addr().String())
	}); err != nil {
		return err
	}
	return s.Serve(ctx)
}

// greet is told by Recv that the server shuts down, when it has nothing left to serve, and has a
// last word. Its context isn't cancelled by that.
func greet(ctx context.Context, c *server.Conn) {
	c.Send(ctx, []byte("220 ready\n"))
	for {
		line, err := c.Recv(ctx)
		if errors.Is(err, server.ErrShutdown) {
			c.Send(ctx, []byte("421 shutting down\n"))
		}
		if err != nil {
			return
		}
		c.Send(ctx, line)
	}
}

// visit is a client that is connected when the signal comes.
func visit(ctx context.Context, address string) {
	c := client.New(client.Config{EOF: "\n"})
	defer c.Close()
	if err := c.Connect(ctx, "tcp", address); err != nil {
		fmt.Println(err)
		return
	}
	line, err := c.Recv(ctx)
	fmt.Printf("%q %v\n", line, err)
	syscall.Kill(os.Getpid(), syscall.SIGTERM) // as an operator would, or systemd
	line, err = c.Recv(ctx)
	fmt.Printf("%q %v\n", line, err)
}
