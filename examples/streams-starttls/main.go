// Streams-starttls is the TLS server of PHP's streams, ported: it accepts on tcp:// and switches
// TLS on later, on the live connection, when the client asks for it.
//
//	go run ./examples/streams-starttls
//
// starts the server, shows a client that upgrades its connection and one that tries to smuggle a
// command past the upgrade, and ends:
//
//	server: 220 hello
//	client: "SECRET"
//	server: 530 not in the clear: STARTTLS first
//	client: "STARTTLS"
//	server: 220 go ahead
//	-- TLSv1.3, 128 bits, with ["localhost"]
//	client: "SECRET"
//	server: 250 it is 42, by TLSv1.3
//	client: "QUIT"
//	server: 221 bye
//	server: 220 hello
//	client: "STARTTLS\r\nSECRET"
//	server: 220 go ahead
//	-- connection closed
//	server refuses: plaintext is still unread; TLS must not start behind it
//
// The second client is the attack that STARTTLS is known for (CVE-2011-0411): what it has sent in
// the clear is not taken for something that came over TLS.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

const maxLine = 512

// serve accepts until the listener is closed. Each connection has a coroutine, so that nobody waits
// for another one's handshake.
func serve(ctx context.Context, listener *stream.Stream, report func(error)) {
	for {
		s, err := stream.Accept(ctx, listener, -1)
		if err != nil {
			return
		}
		_, err = runtime.Go(ctx, func(ctx context.Context) {
			defer s.Close()
			if err := converse(ctx, s); err != nil && err != io.EOF {
				report(err)
			}
		})
		if err != nil {
			s.Close()
		}
	}
}

// converse is the server's side of a connection.
func converse(ctx context.Context, s *stream.Stream) error {
	if err := s.SetTimeout(10 * time.Second); err != nil {
		return err
	}
	say := func(text string) error {
		_, err := s.Write(ctx, []byte(text+"\r\n"))
		return err
	}
	if err := say("220 hello"); err != nil {
		return err
	}
	for {
		command, err := s.GetLine(ctx, maxLine, "\r\n")
		if err != nil {
			return err
		}
		meta := s.GetMetaData()
		switch strings.ToUpper(command) {
		case "STARTTLS":
			if meta.Crypto != nil {
				err = say("503 TLS is on already")
				break
			}
			if err = say("220 go ahead"); err == nil {
				_, err = s.EnableCrypto(ctx, true, stream.CryptoTLSServer)
			}
		case "SECRET":
			if meta.Crypto == nil {
				err = say("530 not in the clear: STARTTLS first")
			} else {
				err = say("250 it is 42, by " + meta.Crypto.Protocol)
			}
		case "QUIT":
			return say("221 bye")
		default:
			err = say("500 what?")
		}
		if err != nil {
			return err
		}
	}
}

func main() { program.Main("streams-starttls", program.WithoutFlags("streams-starttls", run)) }

func run(stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "whorl-starttls")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certFile, caFile := filepath.Join(dir, "server.pem"), filepath.Join(dir, "ca.pem")
	if err := certify(certFile, caFile); err != nil {
		return err
	}
	var show strings.Builder
	err = runtime.Run(func(ctx context.Context) error {
		serverContext, err := stream.ContextCreate(
			map[string]map[string]any{"ssl": {"local_cert": certFile}},
		)
		if err != nil {
			return err
		}
		listener, err := stream.SocketServer(
			ctx,
			"tcp://127.0.0.1:0",
			stream.WithContext(serverContext),
		)
		if err != nil {
			return err
		}
		defer listener.Close()
		reported := runtime.NewChannel[error](1)
		_, err = runtime.Go(ctx, func(ctx context.Context) {
			serve(ctx, listener, func(err error) { reported.Push(ctx, err) })
		})
		if err != nil {
			return err
		}
		clientContext, err := stream.ContextCreate(
			map[string]map[string]any{"ssl": {"cafile": caFile, "peer_name": "localhost"}},
		)
		if err != nil {
			return err
		}
		url := "tcp://" + listener.GetName(false)
		if err := upgrade(ctx, &show, url, clientContext); err != nil {
			return err
		}
		if err := smuggle(ctx, &show, url); err != nil {
			return err
		}
		why, err := reported.Pop(ctx)
		if err != nil {
			return err
		}
		if !errors.Is(why, socket.ErrPlaintextPending) {
			return fmt.Errorf("the server has seen something else: %w", why)
		}
		fmt.Fprintln(&show, "server refuses:", socket.ErrPlaintextPending)
		return nil
	})
	fmt.Fprint(stdout, show.String())
	return err
}

// certify makes an authority for the length of the run, and a certificate for this machine.
func certify(certFile, caFile string) error {
	ca, err := devca.New("Whorl example CA")
	if err != nil {
		return err
	}
	cert, err := ca.Issue("localhost")
	if err != nil {
		return err
	}
	if err := devca.WritePEM(cert, certFile, certFile); err != nil {
		return err
	}
	return os.WriteFile(caFile, ca.PEM(), 0o600)
}

// upgrade talks in plaintext first, and then over TLS.
func upgrade(ctx context.Context, show io.Writer, url string, c *stream.Context) error {
	s, err := stream.SocketClient(ctx, url, stream.WithContext(c))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := hear(ctx, show, s); err != nil {
		return err
	}
	for _, command := range []string{"SECRET", "STARTTLS", "SECRET", "QUIT"} {
		if err := ask(ctx, show, s, command); err != nil {
			return err
		}
		if command != "STARTTLS" {
			continue
		}
		if _, err := s.EnableCrypto(ctx, true, stream.CryptoTLSClient); err != nil {
			return err
		}
		crypto := s.GetMetaData().Crypto
		state, _ := s.ConnectionState()
		fmt.Fprintf(
			show,
			"-- %s, %d bits, with %q\n",
			crypto.Protocol,
			crypto.CipherBits,
			state.PeerCertificates[0].DNSNames,
		)
	}
	return nil
}

// smuggle sends a command in the clear behind STARTTLS, for the server to take it for one that came
// over TLS.
func smuggle(ctx context.Context, show io.Writer, url string) error {
	s, err := stream.SocketClient(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := hear(ctx, show, s); err != nil {
		return err
	}
	if err := ask(ctx, show, s, "STARTTLS\r\nSECRET"); err != nil {
		return err
	}
	if line, err := s.GetLine(ctx, maxLine, "\r\n"); err == nil {
		return fmt.Errorf("the server has answered: %q", line)
	}
	fmt.Fprintln(show, "-- connection closed")
	return nil
}

// ask sends a command and shows the answer.
func ask(ctx context.Context, show io.Writer, s *stream.Stream, command string) error {
	if _, err := s.Write(ctx, []byte(command+"\r\n")); err != nil {
		return err
	}
	fmt.Fprintf(show, "client: %q\n", command)
	return hear(ctx, show, s)
}

func hear(ctx context.Context, show io.Writer, s *stream.Stream) error {
	line, err := s.GetLine(ctx, maxLine, "\r\n")
	if err == nil {
		fmt.Fprintln(show, "server:", line)
	}
	return err
}
