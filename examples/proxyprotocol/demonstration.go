package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/whorl-go/whorl/client"
)

// demonstrate shows what becomes of connections with one header or another.
func demonstrate(co context.Context, show io.Writer, address string, _ func()) error {
	client4, server4 := netip.MustParseAddrPort(
		"192.0.2.1:51234",
	), netip.MustParseAddrPort(
		"198.51.100.7:443",
	)
	client6, server6 := netip.MustParseAddrPort(
		"[2001:db8::1]:51234",
	), netip.MustParseAddrPort(
		"[2001:db8::7]:443",
	)
	const balancer, somebody = "127.0.0.1:0", "127.0.0.2:0"
	for _, connection := range []struct {
		name, from string
		header     []byte
	}{
		{"Version 1:", balancer, headerV1(client4, server4)},
		{"Version 2:", balancer, headerV2(client6, server6, "TLSv1.3", "shop.example")},
		{"Health check:", balancer, localV2()},
		{"No header:", balancer, nil},
		{"By somebody else:", somebody, headerV1(client4, server4)},
	} {
		answer, err := ask(co, address, connection.from, connection.header)
		if connection.header == nil && err != nil {
			answer, err = "the server closes the connection\n", nil
		}
		if err != nil {
			return fmt.Errorf("%s %w", connection.name, err)
		}
		fmt.Fprintf(show, "%-19s %s", connection.name, answer)
	}
	return nil
}

// ask connects from an address, sends a header and says hello.
func ask(co context.Context, to, from string, header []byte) (string, error) {
	c := client.New(client.Config{EOF: "\n", LocalAddress: from})
	defer c.Close()
	if err := c.Connect(co, "tcp", to); err != nil {
		return "", err
	}
	if _, err := c.Send(co, append(header, "hello\n"...)); err != nil {
		return "", err
	}
	answer, err := c.Recv(co)
	return string(answer), err
}
