package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
	"github.com/whorl-go/whorl/websocket"
)

// A sight is what a fault looks like: at the server's start, to the client, and in the server's
// log. nil: there is nothing to see there.
type sight struct{ start, client, log error }

// demonstrate shows what faults look like. One is shown in full.
func demonstrate(stdout io.Writer, shown []fault) error {
	quiet := runtime.WithLogger(zap.NewNop()) // what it would say is shown
	return runtime.Run(func(ctx context.Context) error {
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		defer table.Flush()
		if len(shown) > 1 {
			fmt.Fprintln(table, "fault\tserver, at its start\tclient\tserver, in its log")
		}
		for _, f := range shown {
			s, err := f.try(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if len(shown) > 1 {
				fmt.Fprintf(
					table, "%s\t%s\t%s\t%s\n", f.name, class(s.start), class(s.client), class(s.log),
				)
				continue
			}
			fmt.Fprintf(table, "%s: %s.\n", f.name, f.means)
			tell := func(who string, err error) {
				if err != nil {
					fmt.Fprintf(table, "\n%s:\n%v\n", who, err)
				}
			}
			tell("The server, at its start", s.start)
			tell("The client", s.client)
			tell("The server, in its log", s.log)
		}
		return nil
	}, quiet)
}

// class says in a few words what an error is about.
func class(err error) string {
	if err == nil {
		return "–"
	}
	if e, ok := errors.AsType[*tlsconfig.CertificateError](err); ok {
		return string(e.Reason)
	}
	if e, ok := errors.AsType[*explain.HandshakeError](err); ok {
		return string(e.Reason)
	}
	if e, ok := errors.AsType[*websocket.DialError](err); ok && e.Status != 0 {
		return fmt.Sprintf("%s status %d", e.Layer, e.Status)
	}
	if e, ok := errors.AsType[*tlsconfig.OptionError](err); ok {
		return "option " + e.Option
	}
	if errors.Is(err, server.ErrPlaintext) {
		return "plaintext client"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+len(": "):]
}

// try has a client connect to a server with the fault.
func (f fault) try(ctx context.Context) (seen sight, err error) {
	folder, err := os.MkdirTemp("", "whorl-wss-")
	if err != nil {
		return seen, err
	}
	defer os.RemoveAll(folder)
	s, err := newSetup(folder)
	if err == nil {
		err = f.bring(s)
	}
	if err != nil {
		return seen, err
	}
	trusting, err := s.client.Config()
	if err != nil {
		return seen, err
	}
	config := echo()
	config.Server.TLS = s.anyway
	checked, err := tlsconfig.NewServer(s.server)
	if err != nil {
		seen.start = err
		if s.anyway == nil {
			return seen, nil // it doesn't start
		}
	} else {
		config.Server.Certificates = checked
		for _, warning := range checked.Warnings() {
			seen.start = warning
		}
	}
	seen.client, seen.log, err = meet(ctx, config, s.network, s.scheme, trusting)
	return seen, err
}

// meet has a client connect, which has to fail, and returns what both sides say.
func meet(
	ctx context.Context, config websocket.Config, network, scheme string, trusting *tls.Config,
) (dialled, logged, err error) {
	reasons := runtime.NewChannel[error](1)
	config.Server.OnReject = func(ctx context.Context, _ *server.Conn, reason error) {
		reasons.Push(ctx, reason)
	}
	config.OnDisconnect = func(ctx context.Context, _ *websocket.Conn, reason error) {
		reasons.Push(ctx, reason)
	}
	s := websocket.NewServer(config)
	l, err := s.Listen(ctx, network, "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	if _, err := runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) }); err != nil {
		return nil, nil, err
	}
	url := fmt.Sprintf("%s://localhost:%d/", scheme, l.Addr().(*net.TCPAddr).Port)
	c, dialled := websocket.Dial(ctx, url, websocket.ClientConfig{
		Client: client.Config{TLS: trusting},
	})
	if dialled == nil {
		c.Abort()
		return nil, nil, errors.New("nothing fails")
	}
	logged, err = reasons.Pop(ctx)
	return dialled, logged, err
}
