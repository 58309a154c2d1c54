package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/bench"
	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/runtime"

	"strings"
)

// server is the command whorl bench serve, with its flags.
type server struct {
	config   farside.Config
	identity farside.Identity
	versions versions
	tls      bool
	startTLS string
	framing  string
	loops    int
	duration time.Duration
}

func serveCommand() *cobra.Command {
	s := new(server)
	command := &cobra.Command{
		Use: "serve",
		Short: "the other side: echo, sink or source, in plaintext, over TLS, after STARTTLS, " +
			"or over WebSocket",
		Args: cobra.NoArgs,
		Long: `Serves until it gets a signal. The first line on standard output says where it listens.

Over TLS its certificate is for localhost and is issued by a development CA that is made for this
run; --ca-out writes that CA's certificate, for the --ca of the other modes.`,
		RunE: func(command *cobra.Command, _ []string) error { return s.run(command) },
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVar(&s.config.Listen, "listen", "127.0.0.1:4433",
		"address and port; port 0 is any that is free")
	f.StringVar((*string)(&s.config.Role), "role", string(farside.Echo),
		"what it does: "+strings.Join(farside.Roles, ", "))
	f.BoolVar(&s.tls, "tls", false, "TLS from the start (default plaintext)")
	f.StringVar(&s.startTLS, "starttls", "",
		"TLS after the dialogue of a protocol: "+strings.Join(dialogue.ServerNames(), ", "))
	f.StringVar(&s.identity.CAOut, "ca-out", "",
		"write the development CA's certificate to FILE (PEM)")
	f.StringSliceVar(&s.identity.Names, "name", farside.DefaultNames,
		"names and addresses that the certificate is for")
	f.StringVar(&s.identity.CertFile, "cert", "",
		"certificate, PEM FILE with its chain (default: of the development CA)")
	f.StringVar(&s.identity.KeyFile, "key", "", "its key, PEM FILE")
	s.versions.flags(command)
	f.BoolVar(&s.identity.ClientAuth, "client-auth", false, "clients have to show a certificate")
	f.StringVar(&s.identity.ClientCA, "client-ca", "",
		"of which authority, PEM FILE (default: the development CA)")
	f.StringVar(&s.identity.ClientOut, "client-out", "",
		"write a client certificate of the development CA, with its key, to FILE (PEM)")
	f.IntVar(&s.config.Size, "size", 16<<10, "of a source's messages, in bytes")
	f.StringVar(&s.framing, "framing", string(message.None),
		"of a source's messages: "+strings.Join(message.Framings, ", "))
	f.DurationVar(&s.config.Timeout, "timeout", 60*time.Second,
		"of each step up to the end of the TLS handshake")
	f.IntVar(&s.loops, "loops", 0, "event loops (default one for each processor)")
	f.DurationVarP(&s.duration, "duration", "d", 0,
		"end after so long (default: serve until a signal)")
	return command
}

// complete makes of the flags what a server needs. It writes the files only when all the rest is
// right.
func (s *server) complete() (err error) {
	if s.startTLS != "" {
		if s.config.StartTLS, err = dialogue.LookupServer(s.startTLS); err != nil {
			return fmt.Errorf("--starttls: %w", err)
		}
		if s.tls {
			return errors.New("--tls and --starttls exclude each other: TLS begins with the " +
				"connection, or after the dialogue")
		}
	}
	secure := s.tls || s.config.StartTLS != nil
	if !secure && (s.identity.CAOut != "" || s.identity.CertFile != "" ||
		s.identity.KeyFile != "" || s.identity.ClientAuth || s.identity.ClientCA != "" ||
		s.identity.ClientOut != "" || s.versions != (versions{})) {
		return errors.New("flags for TLS without --tls or --starttls: the server would speak " +
			"plaintext")
	}
	if s.loops < 0 || s.duration < 0 {
		return errors.New("--loops and --duration want more than 0")
	}
	if s.config.Framing, err = message.ParseFraming(s.framing); err != nil {
		return err
	}
	lowest, highest, err := s.versions.parse()
	if err != nil {
		return err
	}
	if secure {
		s.config.TLS = &tls.Config{}
	}
	if err := s.config.Check(); err != nil || !secure {
		return err
	}
	if s.config.TLS, err = s.identity.Config(); err != nil {
		return err
	}
	s.config.TLS.MinVersion, s.config.TLS.MaxVersion = lowest, highest
	return nil
}

func (s *server) run(command *cobra.Command) error {
	if err := s.complete(); err != nil {
		return err
	}
	bench.RaiseDescriptors()
	options := []runtime.Option{
		runtime.WithName("serve"), runtime.WithMaxCoroutines(bench.MaxConnections + 1000),
		runtime.WithWatchdog(0), runtime.WithLogger(zap.NewNop()),
	}
	if s.loops > 0 {
		options = append(options, runtime.WithLoops(s.loops))
	}
	rt, err := runtime.New(options...)
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		return failed(err)
	}
	ctx := command.Context()
	if s.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.duration)
		defer cancel()
	}
	listening, err := farside.Start(rt, s.config)
	if err == nil {
		fmt.Fprintf(command.OutOrStdout(), "listening on %s (%s)\n", listening.Addr(), s.describe())
		<-ctx.Done()
	}
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err = errors.Join(err, rt.Shutdown(patience)); err != nil {
		return failed(err)
	}
	stats := listening.Stats()
	fmt.Fprintf(command.OutOrStdout(),
		"%d connections, %d TLS handshakes, %d failed before their end\n", stats.Accepted,
		stats.Handshakes, stats.Failed)
	if stats.Shortage {
		fmt.Fprintln(command.ErrOrStderr(),
			"descriptors ran out: some connections had to wait (ulimit -n)")
	}
	return nil
}

// describe says what the server does.
func (s *server) describe() string {
	text := string(s.config.Role)
	switch {
	case s.config.StartTLS != nil:
		text += ", STARTTLS " + s.config.StartTLS.Name
	case s.tls:
		text += ", TLS"
	}
	return text
}
