// Websocket is a chat with rooms and a page for it: ws and wss, a handshake that wants a token, a
// first word that is deferred behind it, presence, and a page that connects again.
//
//	go run ./examples/websocket
//
// starts the server, has some people come and talk, and ends:
//
//	Chat on http://127.0.0.1:34235/ and https://127.0.0.1:41033/
//	mallory, without a token: HTTP status 401
//	mallory, elsewhere:       HTTP status 404
//	alice, over ws,  gets: welcome, alice
//	alice joins the lobby
//	alice gets: in lobby are alice
//	bob,   over wss, gets: welcome, bob
//	bob   joins the lobby
//	bob   gets: in lobby are alice, bob
//	alice gets: bob has come to lobby
//	alice says: hello
//	alice gets: alice in lobby: hello
//	bob   gets: alice in lobby: hello
//	bob   goes
//	alice gets: bob has left lobby
//	The server ends
//	alice is told 1001, and that is clean: true
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM); then look at
// http://127.0.0.1:9501/ with a browser, in two windows:
//
//	go run ./examples/websocket -listen 127.0.0.1:9501
//
// chat.go is the chat, web.go the page and the tokens, and demonstration.go the talk above.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"

	"github.com/whorl-go/whorl/internal/examples/development"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("websocket", run) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("websocket", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 9501)
	secure := development.DefineFlags(flags, "https and wss", 9502, "browsers")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	certificate, roots, err := secure.Certificate(*listen)
	if err != nil {
		return err
	}
	ch := newChat(&tls.Config{Certificates: []tls.Certificate{certificate}})
	var secured *server.Listener
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: ch.server,
		Begin: func(co context.Context, l *server.Listener) (string, error) {
			if secure.Secure == "" {
				return fmt.Sprintf("Chat on http://%v/\n", l.Addr()), nil
			}
			var err error
			if secured, err = ch.server.Listen(co, "tls", secure.Secure); err != nil {
				return "", err
			}
			text := fmt.Sprintf("Chat on http://%v/ and https://%v/\n", l.Addr(), secured.Addr())
			return text, nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, end func()) error {
			return demonstrate(co, show, address, secured.Addr().String(), roots, end)
		},
	}
	return example.Run(ctx, stdout)
}
