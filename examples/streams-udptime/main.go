// Streams-udptime is the UDP time server of PHP's stream_socket_server page, ported: it answers
// each datagram with the time.
//
//	go run ./examples/streams-udptime
//
// starts the server, asks it twice, and ends:
//
//	The time is Tue Feb  3 12:00:01 2026.
//	The time is Tue Feb  3 12:00:02 2026.
//	The server has answered 2 times.
//
// Datagrams may get lost, so the client asks again when its time-out has passed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

// serve answers until the stream is closed. One buffer is enough: a datagram that is longer is cut,
// and what it says doesn't matter.
func serve(ctx context.Context, s *stream.Stream, now func() time.Time) (answered int) {
	p := make([]byte, 64)
	for {
		_, from, err := s.RecvFrom(ctx, p, 0)
		if errors.Is(err, runtime.ErrTimeout) {
			continue // a quiet minute
		}
		if err != nil {
			return answered
		}
		// A client that can't be reached is no reason to stop.
		if _, err := s.SendTo(ctx, []byte(now().Format("Mon Jan _2 15:04:05 2006")+"\r\n"), 0, from); err == nil {
			answered++
		}
	}
}

func main() {
	program.Main(
		"streams-udptime",
		program.WithoutFlags("streams-udptime", func(stdout io.Writer) error {
			return run(stdout, time.Now)
		}),
	)
}

func run(stdout io.Writer, now func() time.Time) error {
	var show strings.Builder
	err := runtime.Run(func(ctx context.Context) error {
		s, err := stream.SocketServer(ctx, "udp://127.0.0.1:0")
		if err != nil {
			return err
		}
		answered := runtime.NewChannel[int](1)
		_, err = runtime.Go(
			ctx,
			func(ctx context.Context) { answered.Push(ctx, serve(ctx, s, now)) },
		)
		if err != nil {
			return err
		}
		err = ask(ctx, &show, "udp://"+s.GetName(false))
		s.Close()
		n, popErr := answered.Pop(ctx)
		fmt.Fprintf(&show, "The server has answered %d times.\n", n)
		return errors.Join(err, popErr)
	})
	fmt.Fprint(stdout, show.String())
	return err
}

// ask asks twice. A datagram may get lost, on other networks than this machine's, so an answer that
// doesn't come in time is asked for again.
func ask(ctx context.Context, show io.Writer, url string) error {
	s, err := stream.SocketClient(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetTimeout(10 * time.Second); err != nil {
		return err
	}
	for try, heard := 0, 0; heard < 2; try++ {
		if _, err := s.Write(ctx, []byte("what time is it?")); err != nil {
			return err
		}
		p := make([]byte, 64)
		n, err := s.Read(ctx, p)
		switch {
		case err == nil:
			heard++
			fmt.Fprintf(show, "The time is %s.\n", strings.TrimSpace(string(p[:n])))
		case !s.GetMetaData().TimedOut || try == 5:
			return err
		}
	}
	return nil
}
