// Package serving is the frame of the examples that serve: with -listen until they are told to end,
// without it for as long as they show themselves.
package serving

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// ListenFlag defines the flag -listen. port is for its explanation.
func ListenFlag(flags *flag.FlagSet, port int) *string {
	return flags.String("listen", "", fmt.Sprintf(
		"`address` to serve on, such as 127.0.0.1:%d; without it there is a demonstration", port))
}

// A Server is a *server.Server, one that is built on it, or any other.
type Server[L Listener] interface {
	Listen(co context.Context, network, address string) (L, error)
	Serve(co context.Context) error
	Shutdown(co context.Context) error
}

// A Listener is what a Server makes of an address: a *server.Listener, a net.Listener.
type Listener interface{ Addr() net.Addr }

// Example is a server and how it is shown.
type Example[L Listener] struct {
	Listen  string // the address of -listen
	Network string // as for Server.Listen
	Server  Server[L]

	// Begin is called when the server listens, before it serves, and returns what is printed then.
	Begin func(co context.Context, l L) (string, error)

	// Demonstrate shows the server, whose end follows; or comes before, if end is called. What it
	// writes is printed at the end of the program.
	Demonstrate func(co context.Context, show io.Writer, address string, end func()) error

	Farewell func()               // is called when the end begins; may be nil
	Summary  func(show io.Writer) // is called at the end; may be nil
}

// patience is how long connections that are at work have at the end.
const patience = 10 * time.Second

// Run serves on Listen until ctx is done, or SIGINT or SIGTERM comes; a second one ends the process
// at once. Without Listen it has the server shown.
func (e *Example[L]) Run(ctx context.Context, stdout io.Writer) error {
	address := e.Listen
	if address == "" {
		address = "127.0.0.1:0"
	} else {
		told, stop := program.Interrupted(ctx)
		defer stop()
		ctx = told
	}
	// Printed at the end: standard output may block, which a loop must not.
	show := new(strings.Builder)
	defer func() { io.WriteString(stdout, show.String()) }()
	return runtime.Run(func(co context.Context) error { // co is the coroutine's, ctx the process's
		l, err := e.Server.Listen(co, e.Network, address)
		if err != nil {
			return err
		}
		first, err := e.Begin(co, l)
		if err != nil {
			return err
		}
		io.WriteString(stdout, first) // nothing is served yet that this could hold up

		var failed error
		end := func() { e.end(co) }
		if e.Listen != "" {
			defer context.AfterFunc(ctx, end)()
		} else if _, err := runtime.Go(co, func(co context.Context) {
			failed = e.Demonstrate(co, show, l.Addr().String(), end)
			end()
		}); err != nil {
			return err
		}
		// Told before it began.
		if err := e.Server.Serve(co); err != nil && !errors.Is(err, server.ErrShutdown) {
			return err
		}
		if e.Summary != nil {
			e.Summary(show)
		}
		return failed
	})
}

// end lets connections that are at work finish, but not for ever.
func (e *Example[L]) end(co context.Context) {
	co, cancel := context.WithTimeout(co, patience)
	defer cancel()
	if e.Farewell != nil {
		e.Farewell()
	}
	e.Server.Shutdown(co)
}
