//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A thousand connections, and no coroutine for any of them. Run returns when the last one is
// closed.
func ExampleAsyncDialer() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go func() { // sends back what comes
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()

	echoed, closed := 0, 0
	dialer, err := client.NewAsyncDialer(client.AsyncConfig{
		Config:    client.Config{EOF: "\n"},
		OnConnect: func(_ context.Context, a *client.Async) { a.Send([]byte("hello\n")) },
		OnReceive: func(_ context.Context, a *client.Async, line []byte) {
			echoed++ // without a lock: there is one loop here
			a.Close()
		},
		OnClose: func(_ context.Context, _ *client.Async, reason error) { closed++ },
		OnError: func(_ context.Context, _ *client.Async, err error) { fmt.Println(err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = runtime.Run(func(ctx context.Context) error {
		for range 1000 {
			if _, err := dialer.Dial(ctx, "tcp", server.Addr().String()); err != nil {
				return err
			}
		}
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(echoed, closed, err)
	// Output: 1000 1000 <nil>
}

// STARTTLS: the server is asked, agrees, and the same connection goes on over TLS.
func ExampleAsync_EnableSSL() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("127.0.0.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := mailServer(cert, "")
	defer server.Close()

	a := client.NewAsync(client.AsyncConfig{
		Config: client.Config{EOF: "\r\n", TLS: &tls.Config{RootCAs: ca.Pool()}},
		OnReceive: func(ctx context.Context, a *client.Async, line []byte) {
			fmt.Printf("%q\n", line)
			switch string(line) {
			case "220 mail.example.com ESMTP\r\n":
				a.Send([]byte("STARTTLS\r\n"))
			case "220 go ahead\r\n":
				err := a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) {
					if err == nil { // else OnClose follows
						state, _ := a.ConnectionState()
						fmt.Println(tlsconfig.Describe(state).Protocol)
						a.Send([]byte("EHLO client.example\r\n"))
					}
				})
				if err != nil {
					fmt.Println(err)
				}
			case "250 SIZE 1000000\r\n":
				a.Close()
			}
		},
		OnError: func(_ context.Context, _ *client.Async, err error) { fmt.Println("can't connect:", err) },
		OnClose: func(_ context.Context, _ *client.Async, reason error) { fmt.Println("closed:", reason) },
	})
	err = runtime.Run(func(ctx context.Context) error { return a.Connect(ctx, "tcp", server.Addr().String()) })
	fmt.Println(err)
	// Output:
	// "220 mail.example.com ESMTP\r\n"
	// "220 go ahead\r\n"
	// TLS 1.3
	// "250-mail.example.com\r\n"
	// "250 SIZE 1000000\r\n"
	// closed: <nil>
	// <nil>
}

// Nobody listens: three more attempts, with growing delays, then it gives up.
func ExampleBackoff() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	address := l.Addr().String()
	l.Close()

	a := client.NewAsync(client.AsyncConfig{
		Reconnect: client.Backoff{
			First: 10 * time.Millisecond, MaxAttempts: 3,
			Random: func(n int64) int64 { return n - 1 }, // for this example: always the longest delay
		},
		OnReceive: func(context.Context, *client.Async, []byte) {},
		OnError: func(_ context.Context, a *client.Async, err error) {
			in, again := a.Retry()
			fmt.Println(errors.Is(err, syscall.ECONNREFUSED), again, in)
		},
	})
	err = runtime.Run(func(ctx context.Context) error { return a.Connect(ctx, "tcp", address) })
	fmt.Println(err)
	// Output:
	// true true 10ms
	// true true 20ms
	// true true 40ms
	// true false 0s
	// <nil>
}
