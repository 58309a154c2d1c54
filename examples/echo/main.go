// Echo sends back each line that it gets, in either of the two styles of package server, in
// plaintext or over TLS.
//
//	go run ./examples/echo
//
// starts the server, talks to it with three clients at once, and ends:
//
//	Echo on 127.0.0.1:40127, with a coroutine per connection.
//	Client 1: "hello from client 1", "and goodbye from client 1"
//	Client 2: "hello from client 2", "and goodbye from client 2"
//	Client 3: "hello from client 3", "and goodbye from client 3"
//	Connections served: 3, over TLS: 0. Lines in: 6, out: 6.
//
// With -style callback no connection has a coroutine; with -tls they begin with TLS. With -listen
// it serves until it is told to end (SIGINT or SIGTERM):
//
//	go run ./examples/echo -listen 127.0.0.1:7007 -tls -ca ca.pem
//	openssl s_client -connect 127.0.0.1:7007 -CAfile ca.pem -verify_return_error
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// useHandle serves with a coroutine per connection, straight on. While a client doesn't read its
// lines Send waits, and nothing more is received from it.
func useHandle(port *server.Port) {
	port.Handle = func(ctx context.Context, c *server.Conn) {
		for {
			line, err := c.Recv(ctx)
			if err != nil {
				return // the client has gone, or the server shuts down
			}
			if _, err := c.Send(ctx, line); err != nil {
				return
			}
		}
	}
}

// useCallbacks serves with a callback for each line, which must not wait. What a client doesn't
// read is queued, and while there is much of that, nothing more is received from the client.
func useCallbacks(port *server.Port) {
	port.OnReceive = func(ctx context.Context, c *server.Conn, line []byte) {
		if _, err := c.Send(ctx, line); err != nil {
			c.Close()
		}
	}
	port.OnBufferFull = func(_ context.Context, c *server.Conn) { c.Pause() }
	port.OnBufferEmpty = func(_ context.Context, c *server.Conn) { c.Resume() }
}

func main() { program.Main("echo", run) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	style := flags.String("style", "handle", "how connections are served: handle or callback")
	secure := flags.Bool("tls", false, "begin with TLS, with a certificate for development")
	caFile := flags.String(
		"ca",
		"",
		"`file` to write the certificate of the development authority to, which clients have to trust",
	)
	listen := serving.ListenFlag(flags, 7007)
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	if *caFile != "" && !*secure {
		return program.Usage("-ca is for -tls")
	}

	e := echo{network: "tcp", address: *listen, port: server.Port{
		EOF:         "\n", // a packet is a line
		MaxPacket:   64 << 10,
		IdleTimeout: 5 * time.Minute,
	}}
	switch *style {
	case "handle":
		useHandle(&e.port)
		e.description = "with a coroutine per connection"
	case "callback":
		useCallbacks(&e.port)
		e.description = "with callbacks"
	default:
		return program.Usage("-style %q: must be handle or callback", *style)
	}
	if *secure {
		if err := e.secure(*caFile); err != nil {
			return err
		}
	}
	return e.run(ctx, stdout)
}

// echo is what the flags ask for.
type echo struct {
	network, address string // no address: a demonstration
	port             server.Port
	description      string
	clientTLS        *tls.Config
}

// secure makes an authority that lives as long as the process, and a certificate for this machine.
func (e *echo) secure(caFile string) error {
	ca, err := devca.New("Whorl example CA")
	if err != nil {
		return err
	}
	cert, err := ca.Issue("localhost", "127.0.0.1", "::1")
	if err != nil {
		return err
	}
	e.network, e.description = "tls", e.description+", over TLS"
	e.port.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	e.clientTLS = &tls.Config{RootCAs: ca.Pool()}
	if caFile == "" {
		return nil
	}
	return os.WriteFile(caFile, ca.PEM(), 0o644)
}

func (e *echo) run(ctx context.Context, stdout io.Writer) error {
	s := server.New(server.Config{Port: e.port})
	example := serving.Example[*server.Listener]{
		Listen: e.address, Network: e.network, Server: s,
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintf("Echo on %v, %s.\n", l.Addr(), e.description), nil
		},
		Demonstrate: e.demonstrate,
		Summary: func(show io.Writer) {
			st := s.Stats()
			fmt.Fprintf(show, "Connections served: %d, over TLS: %d. Lines in: %d, out: %d.\n",
				st.Opened, st.Handshakes["ok"], st.PacketsIn, st.PacketsOut)
		},
	}
	return example.Run(ctx, stdout)
}

// demonstrate has three clients talk to the server at once.
func (e *echo) demonstrate(co context.Context, show io.Writer, address string, _ func()) error {
	lines := [3][2]string{}
	err := runtime.ForEach(co, len(lines), func(co context.Context, i int) error {
		c := client.New(client.Config{EOF: "\n", TLS: e.clientTLS})
		defer c.Close()
		if err := c.Connect(co, e.network, address); err != nil {
			return err
		}
		for j, text := range []string{"hello from", "and goodbye from"} {
			if _, err := c.Send(co, fmt.Appendf(nil, "%s client %d\n", text, i+1)); err != nil {
				return err
			}
			line, err := c.Recv(co)
			if err != nil {
				return err
			}
			lines[i][j] = string(line[:len(line)-1])
		}
		return nil
	})
	for i, got := range lines {
		fmt.Fprintf(show, "Client %d: %q, %q\n", i+1, got[0], got[1])
	}
	return err
}
