//go:build linux

package porting_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
	"github.com/whorl-go/whorl/websocket"
)

func Example_wss() {
	ca := newAuthority()
	defer ca.remove()
	withRoot := func(name string) *tls.Config {
		return &tls.Config{RootCAs: ca.roots, ServerName: name}
	}
	rows := []struct {
		title  string
		shown  tls.Certificate // by the server
		config *tls.Config     // of the client
	}{
		{"self-signed, no verify", ca.self, &tls.Config{InsecureSkipVerify: true}},
		{"self-signed, verify", ca.self, nil},
		{"incomplete chain, verify with root", ca.leaf, withRoot("")},
		{"full chain, verify with root", ca.chain, withRoot("")},
		{"full chain, verify, system CAs", ca.chain, nil},
		{"full chain, right name", ca.chain, withRoot("mail.example.test")},
		{"full chain, wildcard name", ca.chain, withRoot("a.chat.example.test")},
		{"full chain, wrong name", ca.chain, withRoot("other.example.test")},
		{"full chain, IP as name (in the SAN)", ca.chain, withRoot("127.0.0.1")},
	}
	err := runtime.Run(func(ctx context.Context) error {
		for _, row := range rows {
			err := dialWSS(ctx, row.shown, row.config)
			fmt.Printf("%s: code=%d", row.title, socket.Code(err))
			if failed, ok := errors.AsType[*explain.HandshakeError](err); ok {
				fmt.Print(" ", failed.ID)
			}
			fmt.Println()
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// self-signed, no verify: code=0
	// self-signed, verify: code=1014 TLS-CERT-SELF-SIGNED
	// incomplete chain, verify with root: code=1014 TLS-CHAIN-UNKNOWN-ISSUER
	// full chain, verify with root: code=0
	// full chain, verify, system CAs: code=1014 TLS-CHAIN-PRIVATE-ROOT
	// full chain, right name: code=0
	// full chain, wildcard name: code=0
	// full chain, wrong name: code=1014 TLS-NAME-MISMATCH
	// full chain, IP as name (in the SAN): code=0
	// <nil>
}

// dialWSS connects to a server that shows a certificate, and has it echo a message.
func dialWSS(ctx context.Context, shown tls.Certificate, config *tls.Config) error {
	s := websocket.NewServer(websocket.Config{
		Server: server.Config{Port: server.Port{
			TLS: &tls.Config{Certificates: []tls.Certificate{shown}},
		}},
		Options: websocket.Options{
			OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
				c.Push(m.Data, m.Opcode)
			},
		},
	})
	l, err := s.Listen(ctx, "tls", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.Close()
	runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) })
	c, err := websocket.Dial(ctx, "wss://"+l.Addr().String(), websocket.ClientConfig{
		Client: client.Config{TLS: config},
	})
	if err != nil {
		return err
	}
	defer c.Close(websocket.StatusNormal, "")
	if _, err := c.Push([]byte("ping"), websocket.Text); err != nil {
		return err
	}
	_, err = c.Recv(ctx)
	return err
}
