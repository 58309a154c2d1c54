// Streams-selfsigned is the development server of PHP's streams, ported: it makes itself a
// self-signed certificate and serves a page over tls://.
//
//	go run ./examples/streams-selfsigned
//
// starts the server, shows how clients with four kinds of context get on with it, and ends:
//
//	nothing said: refused: self-signed
//	allow_self_signed: you asked "GET / HTTP/1.1" by TLSv1.3
//	allow_self_signed, another name: refused: name mismatch
//	peer_fingerprint: you asked "GET / HTTP/1.1" by TLSv1.3
//
// A certificate that nobody else has signed proves nothing: allow_self_signed is for development,
// and peer_fingerprint says which certificate is meant.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

const maxLine = 4096

// serve accepts until the listener is closed. Accepting takes no time: a client's handshake runs
// beside it, and what reads from the client waits for that.
func serve(ctx context.Context, listener *stream.Stream) {
	for {
		s, err := stream.Accept(ctx, listener, -1)
		if err != nil {
			return
		}
		_, err = runtime.Go(ctx, func(ctx context.Context) {
			defer s.Close()
			answer(ctx, s) // one that fails is the client's loss
		})
		if err != nil {
			s.Close()
		}
	}
}

// answer reads a request and answers it.
func answer(ctx context.Context, s *stream.Stream) error {
	if err := s.SetTimeout(10 * time.Second); err != nil {
		return err
	}
	request, err := s.GetLine(ctx, maxLine, "\r\n")
	if err != nil {
		return err
	}
	for header := request; header != ""; {
		if header, err = s.GetLine(ctx, maxLine, "\r\n"); err != nil {
			return err
		}
	}
	body := fmt.Sprintf("you asked %q by %s\n", request, s.GetMetaData().Crypto.Protocol)
	_, err = s.Write(
		ctx,
		fmt.Appendf(
			nil,
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			len(body),
			body,
		),
	)
	return err
}

func main() { program.Main("streams-selfsigned", program.WithoutFlags("streams-selfsigned", run)) }

func run(stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "whorl-selfsigned")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"localhost"}})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "localhost.pem") // certificate and key, as local_cert has them
	if err := devca.WritePEM(cert, file, file); err != nil {
		return err
	}
	hash := sha256.Sum256(cert.Certificate[0])

	var show strings.Builder
	err = runtime.Run(func(ctx context.Context) error {
		serverContext, err := stream.ContextCreate(
			map[string]map[string]any{"ssl": {"local_cert": file}},
		)
		if err != nil {
			return err
		}
		listener, err := stream.SocketServer(
			ctx,
			"tls://127.0.0.1:0",
			stream.WithContext(serverContext),
		)
		if err != nil {
			return err
		}
		defer listener.Close()
		if _, err := runtime.Go(ctx, func(ctx context.Context) { serve(ctx, listener) }); err != nil {
			return err
		}
		for _, client := range []struct {
			name string
			ssl  map[string]any
		}{
			{"nothing said", map[string]any{"peer_name": "localhost"}},
			{"allow_self_signed", map[string]any{"peer_name": "localhost", "allow_self_signed": true}},
			{"allow_self_signed, another name", map[string]any{"peer_name": "example.com", "allow_self_signed": true}},
			{"peer_fingerprint", map[string]any{"peer_name": "localhost", "allow_self_signed": true, "peer_fingerprint": hex.EncodeToString(hash[:])}},
		} {
			body, err := fetch(ctx, "tls://"+listener.GetName(false), client.ssl)
			if failed, ok := errors.AsType[*explain.HandshakeError](err); ok {
				body, err = "refused: "+string(failed.Reason)+"\n", nil
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(&show, "%s: %s", client.name, body)
		}
		return nil
	})
	fmt.Fprint(stdout, show.String())
	return err
}

// fetch gets the page and returns its body.
func fetch(ctx context.Context, url string, ssl map[string]any) (string, error) {
	c, err := stream.ContextCreate(map[string]map[string]any{"ssl": ssl})
	if err != nil {
		return "", err
	}
	s, err := stream.SocketClient(
		ctx,
		url,
		stream.WithContext(c),
		stream.WithTimeout(10*time.Second),
	)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if _, err := s.Write(ctx, []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		return "", err
	}
	for {
		header, err := s.GetLine(ctx, maxLine, "\r\n")
		if err != nil {
			return "", err
		}
		if header == "" {
			return s.Gets(ctx, maxLine)
		}
	}
}
