// Echo sends back each line that it gets, in either of the two styles of package server, in plaintext or over TLS.
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
// With -style callback no connection has a coroutine; with -tls they begin with TLS. With -listen it serves until it is told to end
// (SIGINT or SIGTERM):
//
//	go run ./examples/echo -listen 127.0.0.1:7007 -tls -ca ca.pem
//	openssl s_client -connect 127.0.0.1:7007 -CAfile ca.pem -verify_return_error
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// useHandle serves with a coroutine per connection, straight on. While a client doesn't read its lines Send waits, and nothing more is received from it.
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

// useCallbacks serves with a callback for each line, which must not wait. What a client doesn't read is queued, and while there is much of that,
// nothing more is received from the client.
func useCallbacks(port *server.Port) {
	port.OnReceive = func(ctx context.Context, c *server.Conn, line []byte) {
		if _, err := c.Send(ctx, line); err != nil {
			c.Close()
		}
	}
	port.OnBufferFull = func(_ context.Context, c *server.Conn) { c.Pause() }
	port.OnBufferEmpty = func(_ context.Context, c *server.Conn) { c.Resume() }
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(stdout)
	style := flags.String("style", "handle", "how connections are served: handle or callback")
	secure := flags.Bool("tls", false, "begin with TLS, with a certificate for development")
	caFile := flags.String("ca", "", "`file` to write the certificate of the development authority to, which clients have to trust")
	listen := flags.String("listen", "", "`address` to serve on, such as 127.0.0.1:7007; without it there is a demonstration")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *caFile != "" && !*secure {
		return errors.New("-ca is for -tls")
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
		return fmt.Errorf("-style %q: must be handle or callback", *style)
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
	address := e.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	show := new(strings.Builder) // printed at the end: standard output may block, which a loop must not
	defer func() { io.WriteString(stdout, show.String()) }()
	return runtime.Run(func(co context.Context) error { // co is the context of the coroutine; ctx knows of signals
		s := server.New(server.Config{Port: e.port})
		l, err := s.Listen(co, e.network, address)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Echo on %v, %s.\n", l.Addr(), e.description) // nothing is served yet that this could hold up

		var failed error
		if e.address != "" {
			defer context.AfterFunc(ctx, func() { shutdown(co, s) })()
		} else if _, err := runtime.Go(co, func(co context.Context) {
			failed = e.demonstrate(co, show, l.Addr().String())
			shutdown(co, s)
		}); err != nil {
			return err
		}
		if err := s.Serve(co); err != nil {
			return err
		}
		st := s.Stats()
		fmt.Fprintf(show, "Connections served: %d, over TLS: %d. Lines in: %d, out: %d.\n", st.Opened, st.Handshakes["ok"], st.PacketsIn, st.PacketsOut)
		return failed
	})
}

// shutdown lets connections that are at work finish, but not for ever.
func shutdown(co context.Context, s *server.Server) {
	co, cancel := context.WithTimeout(co, 10*time.Second)
	defer cancel()
	s.Shutdown(co)
}

// demonstrate has three clients talk to the server at once.
func (e *echo) demonstrate(co context.Context, show io.Writer, address string) error {
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
