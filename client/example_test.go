//go:build linux

package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// mailServer is a server for one client that knows two commands. What it says behind its agreement
// to STARTTLS is tail.
func mailServer(cert tls.Certificate, tail string) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
		for {
			line, err := bufio.NewReader(conn).ReadString('\n') // the client waits for each answer, so there is never more than a line
			switch {
			case err != nil:
				return
			case line == "STARTTLS\r\n":
				io.WriteString(conn, "220 go ahead\r\n"+tail)
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			case line == "EHLO client.example\r\n":
				io.WriteString(conn, "250-mail.example.com\r\n250 SIZE 1000000\r\n")
			}
		}
	}()
	return l
}

// Recv returns one packet, however the network has cut the stream. This server sends two lines at
// once.
func ExampleClient_Recv() {
	server := mailServer(tls.Certificate{}, "")
	defer server.Close()

	err := runtime.Run(func(ctx context.Context) error {
		c := client.New(client.Config{EOF: "\r\n", MaxPacket: 2 << 20})
		defer c.Close()
		if err := c.Connect(ctx, "tcp", server.Addr().String()); err != nil {
			return err
		}
		greeting, err := c.Recv(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%q\n", greeting)
		if _, err := c.Send(ctx, []byte("EHLO client.example\r\n")); err != nil {
			return err
		}
		for range 2 {
			line, err := c.Recv(ctx)
			if err != nil {
				return err
			}
			fmt.Printf("%q\n", line)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// "220 mail.example.com ESMTP\r\n"
	// "250-mail.example.com\r\n"
	// "250 SIZE 1000000\r\n"
	// <nil>
}

// A connection begins in plaintext and becomes TLS.
func ExampleClient_EnableSSL() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("127.0.0.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	upgrade := func(server net.Listener) error {
		defer server.Close()
		return runtime.Run(func(ctx context.Context) error {
			c := client.New(client.Config{EOF: "\r\n", TLS: &tls.Config{RootCAs: ca.Pool()}})
			defer c.Close()
			if err := c.Connect(ctx, "tcp", server.Addr().String()); err != nil {
				return err
			}
			if _, err := c.Recv(ctx); err != nil { // the greeting
				return err
			}
			if _, err := c.Send(ctx, []byte("STARTTLS\r\n")); err != nil {
				return err
			}
			answer, err := c.Recv(ctx)
			if err != nil {
				return err
			}
			if string(answer) != "220 go ahead\r\n" {
				return fmt.Errorf("refused: %q", answer)
			}
			if err := c.EnableSSL(ctx); err != nil {
				return err
			}
			if _, err := c.Send(ctx, []byte("EHLO client.example\r\n")); err != nil { // again, as TLS asks for
				return err
			}
			line, err := c.Recv(ctx)
			if err != nil {
				return err
			}
			state, _ := c.ConnectionState()
			fmt.Printf("%s: %q\n", tlsconfig.Describe(state).Protocol, line)
			return nil
		})
	}
	fmt.Println(upgrade(mailServer(cert, "")))

	// Somebody on the wire appends what looks like an answer over TLS.
	err = upgrade(mailServer(cert, "250 AUTH LOGIN\r\n"))
	fmt.Println(errors.Is(err, socket.ErrPlaintextPending))
	// Output:
	// TLS 1.3: "250-mail.example.com\r\n"
	// <nil>
	// true
}

// Packets with a length in front, to a server that sends back what comes, from a plain goroutine.
func ExampleConfig() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go func() {
		if conn, err := server.Accept(); err == nil {
			defer conn.Close()
			io.Copy(conn, conn)
		}
	}()

	rt, err := runtime.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := rt.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Shutdown(context.Background())
	c := client.New(client.Config{Length: packet.LengthField{Type: 'n', BodyOffset: 2}})
	defer c.Close()
	if err := c.Connect(rt.Context(), "tcp", server.Addr().String()); err != nil {
		fmt.Println(err)
		return
	}
	c.Send(rt.Context(), []byte("\x00\x05hello\x00\x05world"))
	for range 2 {
		p, err := c.Recv(rt.Context())
		fmt.Printf("%q %v\n", p, err)
	}
	// Output:
	// "\x00\x05hello" <nil>
	// "\x00\x05world" <nil>
}

// The Clients of a Dialer share its configuration, so that each of very many takes little memory.
func ExampleDialer() {
	server := mailServer(tls.Certificate{}, "")
	defer server.Close()

	err := runtime.Run(func(ctx context.Context) error {
		d, err := client.NewDialer(client.Config{EOF: "\r\n"})
		if err != nil {
			return err
		}
		c, err := d.Dial(ctx, "tcp", server.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		line, err := c.Recv(ctx)
		fmt.Printf("%q\n", line)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: "220 mail.example.com ESMTP\r\n"
}
