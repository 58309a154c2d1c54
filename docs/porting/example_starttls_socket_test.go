//go:build linux

package porting_test

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_starttlsSocket() {
	server := startMailServer()
	defer server.stop()
	err := runtime.Run(func(ctx context.Context) error {
		for _, name := range []string{"mail.example.test", "other.example.test"} {
			fmt.Println("== verify,", name)
			config := &tls.Config{RootCAs: server.roots, ServerName: name}
			if err := starttlsSocket(ctx, server.address, config); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// == verify, mail.example.test
	// "220 mail.example.test ESMTP Postfix\r\n" <nil>
	// "220 2.0.0 Ready to start TLS\r\n" <nil>
	// SSLHandshake: code=0
	// again: code=106
	// SendAll: 6 code=0
	// "250 2.0.0 Ok\r\n" <nil>
	// "221 2.0.0 Bye\r\n" <nil>
	// == verify, other.example.test
	// "220 mail.example.test ESMTP Postfix\r\n" <nil>
	// "220 2.0.0 Ready to start TLS\r\n" <nil>
	// SSLHandshake: code=1014
	// again: code=9
	// SendAll: 0 code=9
	// <nil>
}

func starttlsSocket(ctx context.Context, address string, config *tls.Config) error {
	s, err := socket.New("tcp")
	if err != nil {
		return err
	}
	defer s.Close()
	lines, err := packet.NewEOF("\r\n", packet.DefaultMax)
	if err != nil {
		return err
	}
	if err := s.SetProtocol(lines); err != nil {
		return err
	}
	if err := s.Connect(ctx, address); err != nil {
		return err
	}
	recv := func() {
		line, err := s.RecvPacket(ctx)
		fmt.Printf("%q %v\n", line, err)
	}
	recv()
	s.SendAll(ctx, []byte("STARTTLS\r\n"))
	recv()

	err = s.SSLHandshake(ctx, config) // as the client, since the socket was connected
	fmt.Printf("SSLHandshake: code=%d\n", socket.Code(err))
	fmt.Printf("again: code=%d\n", socket.Code(s.SSLHandshake(ctx, config)))
	n, err := s.SendAll(ctx, []byte("NOOP\r\n"))
	fmt.Printf("SendAll: %d code=%d\n", n, socket.Code(err))
	if err != nil {
		return nil
	}
	recv()
	s.SendAll(ctx, []byte("QUIT\r\n"))
	recv()
	return nil
}
