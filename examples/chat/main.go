// Chat is a room where everybody hears everybody else, a line at a time. It is served by callbacks,
// so that very many can sit in it in silence.
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
	"flag"
	"fmt"
	"io"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("chat", run) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 7007)
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	r := &room{members: make(map[string]server.ID)}
	s := server.New(server.Config{Port: r.port()})
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: s,
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintf("Chat on %v\n", l.Addr()), nil
		},
		Demonstrate: demonstrate,
		Farewell:    func() { s.Broadcast([]byte("* The server ends\n"), nil) },
	}
	return example.Run(ctx, stdout)
}
