// Http is a reverse proxy: net/http's server and client, and httputil's proxy between them, all
// over Whorl's loops. It runs until it is interrupted.
//
//	go run ./examples/http -listen localhost:8080 -to http://localhost:80
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("http", func(ctx context.Context, args []string, out io.Writer) error {
		interrupted, stop := program.Interrupted(ctx)
		defer stop()
		return run(interrupted, args, out)
	})
}

func run(until context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	address := flags.String("listen", "localhost:8080", "where to listen, host:port")
	to := flags.String("to", "", "the server to pass requests on to, a URL")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	target, err := url.Parse(*to)
	if err != nil || target.Host == "" {
		return program.Usage("-to %q: a URL such as http://localhost:80 is needed", *to)
	}
	return runtime.Run(func(ctx context.Context) error {
		l, err := hooks.Listen(ctx, "tcp", *address)
		if err != nil {
			return err
		}
		transport := &http.Transport{DialContext: new(hooks.Dialer).DialContext, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		server := &http.Server{
			Handler: &httputil.ReverseProxy{
				Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
				Transport: transport,
			},
			ReadHeaderTimeout: 10 * time.Second,
		}
		fmt.Fprintf(out, "listening on %s\n", l.Addr())
		return serve(ctx, until, server, func() error { return server.Serve(l) })
	})
}

// grace is how long requests that are under way may take when the program is interrupted.
const grace = 10 * time.Second

// serve runs the server until it is to end. Waiting on a Go channel, and Shutdown, which waits for
// goroutines, must not be done on a loop: Await does it elsewhere, and parks the coroutine.
func serve(ctx, until context.Context, server *http.Server, serve func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	_, err := runtime.Await(ctx, func() (struct{}, error) {
		select {
		case err := <-ended:
			return struct{}{}, err
		case <-until.Done():
		}
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		err := server.Shutdown(ctx)
		if ended := <-ended; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return struct{}{}, err
	})
	return err
}
