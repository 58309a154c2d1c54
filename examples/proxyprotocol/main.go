// Proxyprotocol is a server behind a load balancer, such as HAProxy, nginx, or that of a cloud,
// which still knows who its clients are: the balancer says so in a header at the beginning of each
// connection (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
//	go run ./examples/proxyprotocol
//
// starts the server, plays the balancer, and somebody who would like to be one, and ends:
//
//	Server on 127.0.0.1:46193, behind 127.0.0.1
//	Version 1:          client 192.0.2.1:51234, connected to 198.51.100.7:443, says "hello"
//	Version 2:          client [2001:db8::1]:51234, connected to [2001:db8::7]:443, over TLSv1.3, which asked for "shop.example", says "hello"
//	Health check:       the balancer itself, says "hello"
//	No header:          the server closes the connection
//	By somebody else:   client 127.0.0.2:41002, without a balancer, says "PROXY TCP4 192.0.2.1 198.51.100.7 51234 443"
//
// A header is all that it takes to be somebody else. So it is taken from the addresses in -trust
// only, and not believed, but served as what it is, from others. With -listen the example serves
// until it is told to end (SIGINT or SIGTERM):
//
//	go run ./examples/proxyprotocol -listen 127.0.0.1:7007 -trust 127.0.0.1,10.0.0.0/8
//
// and HAProxy sends it headers with "server one 127.0.0.1:7007 send-proxy-v2". header.go writes
// them, as balancers do.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("proxyprotocol", run) }

// answer tells a client who it is.
func answer(ctx context.Context, c *server.Conn, line []byte) {
	_, err := c.Send(
		ctx,
		fmt.Appendf(nil, "%s, says %q\n", describe(c), strings.TrimRight(string(line), "\r\n")),
	)
	if err != nil {
		c.Close()
	}
}

// describe says who a client is. What comes from a header is the client's word as much as the
// balancer's, so it is quoted.
func describe(c *server.Conn) string {
	p := c.Proxied()
	switch {
	case p == nil:
		return fmt.Sprintf("client %v, without a balancer", c.RemoteAddr())
	case p.Local:
		return "the balancer itself"
	case !p.Source.IsValid():
		return "a client whose address the balancer doesn't know"
	}
	// Of the client's end of the way.
	text := fmt.Sprintf("client %v, connected to %v", c.RemoteAddr(), c.LocalAddr())
	if p.SSL {
		text += ", over " + clean(p.SSLVersion)
	}
	if p.Authority != "" {
		text += fmt.Sprintf(", which asked for %q", p.Authority)
	}
	return text
}

// clean quotes what isn't a plain word.
func clean(s string) string { return strings.Trim(fmt.Sprintf("%q", s), `"`) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("proxyprotocol", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 7007)
	trust := flags.String("trust", "", "`addresses` of the balancers, such as 127.0.0.1,10.0.0.0/8")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	if (*listen == "") != (*trust == "") {
		return program.Usage("-listen and -trust belong together")
	}
	if *listen == "" {
		*trust = "127.0.0.1"
	}
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp",
		Server: server.New(server.Config{Port: server.Port{
			EOF:       "\n",
			MaxPacket: 4096,
			OnReceive: answer,

			ProxyProtocol:    strings.Split(*trust, ","),
			HandshakeTimeout: 5 * time.Second, // for the header
			IdleTimeout:      time.Minute,
		}}),
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintf("Server on %v, behind %s\n", l.Addr(), *trust), nil
		},
		Demonstrate: demonstrate,
	}
	return example.Run(ctx, stdout)
}
