// Http is a server of HTTP/1.1 and HTTP/2 on Whorl's loops, with net/http's handlers: what Swoole's
// Http\Server does, and then all that is written for net/http.
//
//	go run ./examples/http
//
// starts it, asks it some things, and ends:
//
//	Server on http://127.0.0.1:39455/ and https://127.0.0.1:41717/
//	HTTP/1.1, GET /hello/Ada: 200 hello, Ada
//	HTTP/1.1, GET /nowhere: 404 404 page not found
//	HTTP/1.1, POST /form: 200 {"name":"Ada","year":1815}
//	HTTP/1.1, POST /upload: 200 1048576 bytes, SHA-256 30e14955ebf1352266dc2ff8…
//	HTTP/1.1, POST /upload: 413 too large
//	HTTP/1.1, GET /visits: 200 visit 1
//	HTTP/1.1, GET /visits: 200 visit 2
//	HTTP/1.1, GET /events: 200 event 1, event 2, event 3
//	HTTP/1.1, GET /files/readme.txt: 200 a file
//	HTTP/2.0, GET /hello/Ada: 200 hello, Ada
//	HTTP/2.0 over TLS 1.3, GET /hello/Ada: 200 hello, Ada
//	WebSocket at /ws: hello
//	At the end it is told 1001
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM):
//
//	go run ./examples/http -listen 127.0.0.1:8080 -secure 127.0.0.1:8443 -ca ~/.whorl-ca
//	curl --http2-prior-knowledge http://127.0.0.1:8080/hello/Ada
//	curl --cacert ~/.whorl-ca/ca.pem https://127.0.0.1:8443/events
//
// server.go is the server, handlers.go what it answers, demonstration.go who asks.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/internal/examples/development"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
)

func main() { program.Main("http", run) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 8080)
	secure := development.DefineFlags(flags, "https", 8443, "clients")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	certificate, roots, err := secure.Certificate(*listen)
	if err != nil {
		return err
	}
	s := newServer(&tls.Config{Certificates: []tls.Certificate{certificate}})
	example := serving.Example[net.Listener]{
		Listen: *listen, Network: "tcp", Server: s,
		Begin: func(co context.Context, l net.Listener) (string, error) {
			if secure.Secure == "" {
				return fmt.Sprintf("Server on http://%v/\n", l.Addr()), nil
			}
			if err := s.listenTLS(co, secure.Secure); err != nil {
				return "", err
			}
			text := fmt.Sprintf("Server on http://%v/ and https://%v/\n", l.Addr(), s.secure.Addr())
			return text, nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, end func()) error {
			return demonstrate(co, show, address, s.secure.Addr().String(), roots, end)
		},
	}
	return example.Run(ctx, stdout)
}
