// Starttls-server is a server of lines, in the manner of SMTP, whose connections begin in plaintext
// and become TLS in place.
//
//	go run ./examples/starttls-server
//
// starts it, shows a client's dialogue with it and what becomes of an attack on it, and ends:
//
//	Server: 127.0.0.1:43415
//
//	plain  S: 220 localhost ESMTP Whorl
//	plain  C: EHLO client.example
//	plain  S: 250-localhost
//	plain  S: 250-ENHANCEDSTATUSCODES
//	plain  S: 250 STARTTLS
//	plain  C: MAIL FROM:<alice@example.com>
//	plain  S: 530 5.7.0 STARTTLS first
//	plain  C: STARTTLS
//	plain  S: 220 2.0.0 Go ahead
//	  TLS  C: MAIL FROM:<alice@example.com>
//	  TLS  S: 503 5.5.1 EHLO first
//	  TLS  C: EHLO client.example
//	  TLS  S: 250-localhost
//	  TLS  S: 250 ENHANCEDSTATUSCODES
//	  TLS  C: STARTTLS
//	  TLS  S: 503 5.5.1 TLS is on already
//	  TLS  C: MAIL FROM:<alice@example.com>
//	  TLS  S: 250 2.1.0 Ok
//	  TLS  C: QUIT
//	  TLS  S: 221 2.0.0 Bye
//
//	Somebody puts a command behind STARTTLS, to have it taken for one over TLS:
//	plain  C: "STARTTLS\r\nMAIL FROM:<mallory@example.com>\r\n"
//	The server closes the connection.
//
//	Connections: 2
//	Handshakes, ok: 1
//	Handshakes, plaintext pending: 1
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM), which it tells its clients:
//
//	go run ./examples/starttls-server -listen 127.0.0.1:2525 -ca ca.pem
//	openssl s_client -starttls smtp -connect 127.0.0.1:2525 -CAfile ca.pem -verify_return_error
//
// session.go is the protocol, server.go serves it on connections, demonstration.go is the dialogue
// above, and this file has the flags.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func main() { program.Main("starttls-server", run) }

// options are the flags.
type options struct {
	listen            string
	certFile, keyFile string
	caFile            string
}

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("starttls-server", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 2525)
	flags.StringVar(
		&o.certFile,
		"cert",
		"",
		"`file` with the certificate and its intermediates, PEM; without it there is one for development",
	)
	flags.StringVar(
		&o.keyFile,
		"key",
		"",
		"`file` with the certificate's key; without it that of -cert",
	)
	flags.StringVar(
		&o.caFile,
		"ca",
		"",
		"`file` to write the certificate of the development authority to, which clients have to trust",
	)
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	o.listen = *listen
	switch {
	case o.certFile != "" && o.caFile != "":
		return program.Usage("-ca is for the certificate for development, -cert for another")
	case o.keyFile != "" && o.certFile == "":
		return program.Usage("-key is for -cert")
	case o.certFile != "" && o.listen == "":
		return program.Usage("-cert is for -listen")
	}
	certificates, roots, err := o.certificates()
	if err != nil {
		return err
	}
	stop, err := keepCurrent(certificates)
	if err != nil {
		return err
	}
	defer stop()
	return o.serve(ctx, stdout, certificates.Config(), &tls.Config{RootCAs: roots})
}

// certificates returns the server's certificate: that of the files, or one for development with the
// authority that has issued it.
func (o *options) certificates() (*tlsconfig.Server, *x509.CertPool, error) {
	certificate := tlsconfig.ServerCertificate{CertFile: o.certFile, KeyFile: o.keyFile}
	var roots *x509.CertPool
	if o.certFile == "" {
		ca, err := devca.New("Whorl example CA")
		if err != nil {
			return nil, nil, err
		}
		issued, err := ca.Issue("localhost", "127.0.0.1", "::1")
		if err == nil && o.caFile != "" {
			err = os.WriteFile(o.caFile, ca.PEM(), 0o644)
		}
		if err != nil {
			return nil, nil, err
		}
		certificate, roots = tlsconfig.ServerCertificate{Certificate: &issued}, ca.Pool()
	}
	certificates, err := tlsconfig.NewServer(
		tlsconfig.ServerOptions{Certificates: []tlsconfig.ServerCertificate{certificate}},
	)
	return certificates, roots, err
}

// keepCurrent has files read again when they change, and at SIGHUP, until stop is called.
// Connections notice nothing.
func keepCurrent(certificates *tlsconfig.Server) (stop func(), err error) {
	log, err := zap.NewProduction()
	if err != nil {
		return nil, err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(
		func() { certificates.Watch(ctx, tlsconfig.WatchOptions{Logger: log, Signals: hangups}) },
	)
	return func() {
		signal.Stop(hangups)
		cancel()
		watching.Wait()
	}, nil
}

func (o *options) serve(
	ctx context.Context,
	stdout io.Writer,
	serverTLS, clientTLS *tls.Config,
) error {
	s := server.New(server.Config{
		Port: server.Port{
			Handle:      handle,
			EOF:         "\r\n", // a packet is a line
			MaxPacket:   maxLine,
			TLS:         serverTLS,
			ReadTimeout: 5 * time.Minute, // RFC 5321, section 4.5.3.2.7
		},
		MaxPerAddress: 100,
	})
	example := serving.Example[*server.Listener]{
		Listen: o.listen, Network: "tcp", Server: s,
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintf("Server: %v\n", l.Addr()), nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, _ func()) error {
			return demonstrate(co, show, address, clientTLS)
		},
		Summary: func(show io.Writer) {
			st := s.Stats()
			fmt.Fprintf(show, "\nConnections: %d\n", st.Opened)
			for _, outcome := range slices.Sorted(maps.Keys(st.Handshakes)) {
				fmt.Fprintf(show, "Handshakes, %s: %d\n", outcome, st.Handshakes[outcome])
			}
		},
	}
	return example.Run(ctx, stdout)
}
