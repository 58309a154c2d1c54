//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A coroutine per connection: straight-line code that receives, waits and sends.
func Example() {
	s := server.New(server.Config{Port: server.Port{
		EOF: "\n", // a packet is a line
		Handle: func(ctx context.Context, c *server.Conn) {
			for {
				line, err := c.Recv(ctx)
				if err != nil {
					return // the client has gone, or the server shuts down
				}
				if _, err := c.Send(ctx, append([]byte("you said "), line...)); err != nil {
					return
				}
			}
		},
	}})
	err := runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			fmt.Println(talk(ctx, l.Addr().String(), "hello\n"))
		}); err != nil {
			return err
		}
		return s.Serve(ctx)
	})
	fmt.Println(err)
	// Output:
	// "you said hello\n" <nil>
	// <nil>
}

// Callbacks: a connection on which nothing happens has no coroutine. They must not wait, so what a
// client doesn't take is queued, up to Port.MaxQueue; here it isn't read from meanwhile.
func Example_callbacks() {
	closed := runtime.NewChannel[error](1)
	s := server.New(server.Config{Port: server.Port{
		EOF: "\n",
		OnConnect: func(ctx context.Context, c *server.Conn) {
			c.SetValue(new(int)) // of the connection's own: callbacks of one never run at once
		},
		OnReceive: func(ctx context.Context, c *server.Conn, line []byte) {
			lines := c.Value().(*int)
			*lines++
			if _, err := c.Send(ctx, fmt.Appendf(nil, "line %d is %s", *lines, line)); err != nil {
				c.Close()
			}
		},
		OnBufferFull:  func(ctx context.Context, c *server.Conn) { c.Pause() },
		OnBufferEmpty: func(ctx context.Context, c *server.Conn) { c.Resume() },
		OnClose: func(ctx context.Context, c *server.Conn, reason error) {
			closed.Push(ctx, reason) // there is room: it doesn't wait
		},
	}})
	err := runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			fmt.Println(talk(ctx, l.Addr().String(), "hello\n"))
			reason, _ := closed.Pop(ctx)
			fmt.Println("the client has closed:", reason == io.EOF)
		}); err != nil {
			return err
		}
		return s.Serve(ctx)
	})
	fmt.Println(err)
	// Output:
	// "line 1 is hello\n" <nil>
	// the client has closed: true
	// <nil>
}

// talk is a client that says something and returns the answer, quoted.
func talk(ctx context.Context, address, text string) (answer string, err error) {
	c := client.New(client.Config{EOF: "\n"})
	defer c.Close()
	if err := c.Connect(ctx, "tcp", address); err != nil {
		return "", err
	}
	if _, err := c.Send(ctx, []byte(text)); err != nil {
		return "", err
	}
	line, err := c.Recv(ctx)
	return fmt.Sprintf("%q", line), err
}

// STARTTLS in the server's role: the answer that lets the client begin is sent in plaintext, and
// then the live connection becomes TLS. What the client has said before counts for nothing.
func ExampleConn_EnableSSL() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		fmt.Println(err)
		return
	}
	certificates, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		// Mostly with CertFile and KeyFile.
		Certificates: []tlsconfig.ServerCertificate{{Certificate: &cert}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := server.New(server.Config{Port: server.Port{
		EOF:          "\r\n",
		Certificates: certificates,
		Handle: func(ctx context.Context, c *server.Conn) {
			for {
				line, err := c.Recv(ctx)
				if err != nil {
					return
				}
				_, secure := c.ConnectionState()
				switch command := strings.TrimSpace(string(line)); {
				case command == "STARTTLS" && !secure:
					c.Send(ctx, []byte("220 go ahead\r\n"))
					if err := c.EnableSSL(ctx); err != nil {
						return // it is closed: there is no way back to plaintext
					}
				case secure:
					c.Send(ctx, []byte("250 in private\r\n"))
				default:
					c.Send(ctx, []byte("530 STARTTLS first\r\n"))
				}
			}
		},
	}})
	err = runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			c := client.New(client.Config{
				EOF: "\r\n",
				TLS: &tls.Config{RootCAs: ca.Pool(), ServerName: "mail.test"},
			})
			defer c.Close()
			err := c.Connect(ctx, "tcp", l.Addr().String())
			for _, command := range []string{"SECRET", "STARTTLS", "SECRET"} {
				if err != nil {
					break
				}
				_, sendErr := c.Send(ctx, []byte(command+"\r\n"))
				answer, recvErr := c.Recv(ctx)
				fmt.Printf("%s: %s\n", command, strings.TrimSpace(string(answer)))
				err = errors.Join(sendErr, recvErr)
				if command == "STARTTLS" && err == nil {
					err = c.EnableSSL(ctx)
				}
			}
			if err != nil {
				fmt.Println(err)
			}
		}); err != nil {
			return err
		}
		return s.Serve(ctx)
	})
	fmt.Println(err)
	// Output:
	// SECRET: 530 STARTTLS first
	// STARTTLS: 220 go ahead
	// SECRET: 250 in private
	// <nil>
}

// Several certificates, of which a client gets the one for the name that it asks for (SNI). Files
// that change are reloaded within a minute, at SIGHUP with Config.ReloadOnHangup, or by Reload.
func ExampleServer_Reload() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	// In practice somebody else writes them, such as an ACME client.
	write := func(file string, names ...string) error {
		cert, err := ca.Issue(names...)
		if err != nil {
			return err
		}
		file = filepath.Join(dir, file)
		return devca.WritePEM(cert, file, file)
	}
	if err := errors.Join(write("mail.pem", "mail.test"), write("web.pem", "www.test")); err != nil {
		fmt.Println(err)
		return
	}
	mail, web := filepath.Join(dir, "mail.pem"), filepath.Join(dir, "web.pem")
	certificates, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{
			{CertFile: mail, KeyFile: mail}, // for clients that ask for no name or another, too
			{CertFile: web, KeyFile: web},
		},
	})
	if err != nil {
		fmt.Println(err) // says what is wrong with a file, and what mends it
		return
	}
	s := server.New(server.Config{ReloadOnHangup: true, Port: server.Port{
		Certificates: certificates,
		OnReceive:    func(ctx context.Context, c *server.Conn, data []byte) {},
	}})
	err = runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tls", "127.0.0.1:0") // connections begin with the handshake
		if err != nil {
			return err
		}
		shown := func(ctx context.Context, name string) ([]string, error) {
			c := client.New(client.Config{TLS: &tls.Config{RootCAs: ca.Pool(), ServerName: name}})
			defer c.Close()
			if err := c.Connect(ctx, "tls", l.Addr().String()); err != nil {
				return nil, err
			}
			return c.PeerCertificates()[0].DNSNames, nil
		}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			defer s.Shutdown(ctx)
			fmt.Println(shown(ctx, "mail.test"))
			fmt.Println(shown(ctx, "www.test"))
			_, err := runtime.Await(ctx, func() (any, error) { // files block
				return nil, errors.Join(write("web.pem", "www.test", "shop.test"), s.Reload())
			})
			fmt.Println("reloaded:", err)
			fmt.Println(shown(ctx, "shop.test"))
		}); err != nil {
			return err
		}
		return s.Serve(ctx)
	})
	fmt.Println(err)
	// Output:
	// [mail.test] <nil>
	// [www.test] <nil>
	// reloaded: <nil>
	// [www.test shop.test] <nil>
	// <nil>
}
