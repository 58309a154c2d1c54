//go:build linux

package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A server and its client, on one loop.
func Example() {
	err := runtime.Run(func(ctx context.Context) error {
		l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		runtime.Go(ctx, func(ctx context.Context) {
			for {
				conn, err := l.Accept(ctx)
				if err != nil {
					return // closed
				}
				runtime.Go(ctx, func(ctx context.Context) {
					defer conn.Close()
					conn.SendAll(ctx, []byte("220 mail.example.com\r\n"))
					line, err := conn.RecvLine(ctx, 512)
					for ; err == nil; line, err = conn.RecvLine(ctx, 512) {
						fmt.Printf("server: %q\n", line)
						conn.SendAll(ctx, []byte("250 OK\r\n"))
					}
				})
			}
		})

		s, err := socket.New("tcp")
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
			return err
		}
		greeting, err := s.RecvLine(ctx, 512)
		if err != nil {
			return err
		}
		fmt.Printf("client: %q\n", greeting)
		if _, err := s.SendAll(ctx, []byte("EHLO client.example\r\n")); err != nil {
			return err
		}
		answer, err := s.RecvLine(ctx, 512)
		if err != nil {
			return err
		}
		fmt.Printf("client: %q\n", answer)
		return l.Close()
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// client: "220 mail.example.com\r\n"
	// server: "EHLO client.example\r\n"
	// client: "250 OK\r\n"
}

// Errors say what has failed, and errors.Is finds what a caller decides by. Code gives the number
// that ported code knows.
func ExampleCode() {
	runtime.Run(func(ctx context.Context) error {
		s, _ := socket.New("unix")
		err := s.Connect(ctx, "@nobody-listens-here")
		fmt.Println(err)
		fmt.Println(errors.Is(err, syscall.ECONNREFUSED), socket.Code(err))

		err = s.Close()
		fmt.Println(err, socket.Code(err))
		err = s.Close()
		fmt.Println(err)
		fmt.Println(errors.Is(err, net.ErrClosed), socket.Code(err))
		return nil
	})
	// Output:
	// connect unix @nobody-listens-here: connect: connection refused
	// true 111
	// <nil> 0
	// close unix: use of closed network connection
	// true 9
}

// A time-out is for the whole operation. What came in before it is not lost.
func ExampleSocket_SetTimeouts() {
	runtime.Run(func(ctx context.Context) error {
		a, b, err := socket.Pair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		a.SetTimeouts(socket.Timeouts{Read: 10 * time.Millisecond})
		b.SendAll(ctx, []byte("half of"))
		_, err = a.RecvLine(ctx, 100)
		fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))

		b.SendAll(ctx, []byte(" a line\n"))
		line, err := a.RecvLine(ctx, 100)
		fmt.Printf("%q %v\n", line, err)
		return nil
	})
	// Output:
	// true
	// "half of a line\n" <nil>
}

// Cancel ends an operation that waits, from wherever it is called; the socket stays usable.
func ExampleSocket_Cancel() {
	runtime.Run(func(ctx context.Context) error {
		a, b, err := socket.Pair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		reader, _ := runtime.Go(ctx, func(ctx context.Context) {
			_, err := a.Recv(ctx, make([]byte, 10))
			fmt.Println(errors.Is(err, socket.ErrCanceled))
		})
		fmt.Println(a.Cancel(socket.ReadEvent)) // switches to the reader, which is a coroutine of this loop
		reader.Join(ctx)
		fmt.Println(a.Cancel(socket.ReadEvent))
		return nil
	})
	// Output:
	// true
	// true
	// false
}

// Shutdown ends one direction: the peer sees the end of the stream, and can still answer.
func ExampleSocket_Shutdown() {
	runtime.Run(func(ctx context.Context) error {
		a, b, err := socket.Pair(ctx, "unix")
		if err != nil {
			return err
		}
		defer a.Close()
		defer b.Close()
		a.SendAll(ctx, []byte("question"))
		a.Shutdown(ctx, socket.ShutdownWrite)

		buf := make([]byte, 100)
		n, err := b.RecvAll(ctx, buf)
		fmt.Printf("%q, %v\n", buf[:n], errors.Is(err, io.ErrUnexpectedEOF))
		b.SendAll(ctx, []byte("answer"))
		n, err = a.Recv(ctx, buf)
		fmt.Printf("%q, %v\n", buf[:n], err)
		return nil
	})
	// Output:
	// "question", true
	// "answer", <nil>
}
