// Chat is a room where everybody hears everybody else, a line at a time. It is served by callbacks, so that very many can sit in it in silence.
//
//	go run ./examples/chat
//
// starts the server, has some people come and talk, and ends:
//
//	Chat on 127.0.0.1:34235
//	alice reads: * Welcome, guest1. /nick NAME, /who, /to NAME TEXT, /quit
//	alice says:  /nick alice
//	alice reads: * You are alice now
//	bob   reads: * Welcome, guest2. /nick NAME, /who, /to NAME TEXT, /quit
//	alice reads: * guest2 has come
//	bob   says:  /nick alice
//	bob   reads: ! Somebody is alice already
//	bob   says:  /nick bob
//	bob   reads: * You are bob now
//	alice reads: * guest2 is bob now
//	alice says:  hello
//	bob   reads: alice: hello
//	bob   says:  /to alice good evening
//	alice reads: bob, to you: good evening
//	A third one comes, who never reads, and alice goes on talking.
//	bob   reads: * guest3 was dropped, for reading too slowly
//	bob   says:  /who
//	bob   reads: * Here are alice, bob
//	bob   says:  /quit
//	alice reads: * bob has gone
//	alice reads: * The server ends
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM):
//
//	go run ./examples/chat -listen 127.0.0.1:7007
//	nc 127.0.0.1 7007
//
// room.go is the chat, demonstration.go the talk above.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.SetOutput(stdout)
	listen := flags.String("listen", "", "`address` to serve on, such as 127.0.0.1:7007; without it there is a demonstration")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	address := *listen
	if address == "" {
		address = "127.0.0.1:0"
	}
	show := new(strings.Builder) // printed at the end: standard output may block, which a loop must not
	defer func() { io.WriteString(stdout, show.String()) }()
	return runtime.Run(func(co context.Context) error { // co is the context of the coroutine; ctx knows of signals
		r := &room{members: make(map[string]server.ID)}
		s := server.New(server.Config{Port: r.port()})
		l, err := s.Listen(co, "tcp", address)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Chat on %v\n", l.Addr()) // nothing is served yet that this could hold up

		var failed error
		if *listen != "" {
			defer context.AfterFunc(ctx, func() { shutdown(co, s) })()
		} else if _, err := runtime.Go(co, func(co context.Context) {
			failed = demonstrate(co, show, l.Addr().String(), func() { shutdown(co, s) })
		}); err != nil {
			return err
		}
		if err := s.Serve(co); err != nil {
			return err
		}
		return failed
	})
}

// shutdown tells everybody and waits until they have heard it, but not for ever.
func shutdown(co context.Context, s *server.Server) {
	co, cancel := context.WithTimeout(co, 10*time.Second)
	defer cancel()
	s.Broadcast([]byte("* The server ends\n"), nil)
	s.Shutdown(co)
}
