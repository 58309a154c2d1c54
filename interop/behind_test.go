//go:build interop

package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Whorl's server behind real load balancers knows the client, whichever of them tells it in
// whichever version, and whichever style serves the connection.
func TestServerBehindBalancers(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, backend string) *balancer{
		"HAProxy v1": func(t *testing.T, backend string) *balancer { return startHAProxy(t, "", backend, "send-proxy") },
		"HAProxy v2": func(t *testing.T, backend string) *balancer {
			return startHAProxy(t, "", backend, "send-proxy-v2 proxy-v2-options crc32c,unique-id")
		},
		"HAProxy v2 with health checks": func(t *testing.T, backend string) *balancer {
			return startHAProxy(t, "", backend, "send-proxy-v2 check inter 100ms")
		},
		"nginx": func(t *testing.T, backend string) *balancer { return startNginx(t, "", backend) },
	} {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, "tcp", server.Port{ProxyProtocol: []string{"127.0.0.1"}}, func(t *testing.T, backend string) {
				b := start(t, backend)
				conn := b.dial("tcp", b.addr)
				if got := ask(t, conn, "where"); got != conn.LocalAddr().String() {
					t.Errorf("the server takes the client for %s, it is %s", got, conn.LocalAddr())
				}
				if got := ask(t, conn, "destination"); got != b.addr {
					t.Errorf("the server takes the balancer for %s, it is %s", got, b.addr)
				}
			})
		})
	}
}

// The header comes before the handshake when the balancer passes TLS through.
func TestServerWithTLSBehindHAProxy(t *testing.T) {
	ca := servers.NewCA(t)
	certificate := servers.Sign(t, ca, devca.Request{Names: []string{"localhost"}})
	certificates, err := tlsconfig.NewServer(tlsconfig.ServerOptions{Certificates: []tlsconfig.ServerCertificate{{Certificate: &certificate}}})
	if err != nil {
		t.Fatal(err)
	}
	eachStyle(t, "tls", server.Port{ProxyProtocol: []string{"127.0.0.1"}, Certificates: certificates}, func(t *testing.T, backend string) {
		b := startHAProxy(t, "", backend, "send-proxy-v2")
		conn := b.dial("tcp", b.addr)
		client := tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
		if got := ask(t, client, "where"); got != conn.LocalAddr().String() {
			t.Errorf("the server takes the client for %s, it is %s", got, conn.LocalAddr())
		}
	})
}

// eachStyle starts a line server in each style that answers questions about its connection.
func eachStyle(t *testing.T, network string, port server.Port, test func(t *testing.T, address string)) {
	answer := func(ctx context.Context, c *server.Conn, question []byte) {
		reply := "what?"
		switch strings.TrimSpace(string(question)) {
		case "where":
			reply = c.RemoteAddr().String()
		case "destination":
			reply = c.LocalAddr().String()
		}
		c.Send(ctx, []byte(reply+"\n"))
	}
	port.EOF = "\n"
	callbacks, handler := port, port
	callbacks.OnReceive = answer
	handler.Handle = func(ctx context.Context, c *server.Conn) {
		for {
			line, err := c.Recv(ctx)
			if err != nil {
				return
			}
			answer(ctx, c, line)
		}
	}
	for style, port := range map[string]server.Port{"callbacks": callbacks, "coroutine": handler} {
		t.Run(style, func(t *testing.T) {
			s := server.New(server.Config{Port: port})
			addr, done := make(chan net.Addr, 1), make(chan error, 1)
			go func() {
				done <- runtime.Run(func(ctx context.Context) error {
					l, err := s.Listen(ctx, network, "127.0.0.1:0")
					if err != nil {
						return err
					}
					addr <- l.Addr()
					return s.Serve(ctx)
				})
			}()
			t.Cleanup(func() {
				s.Close()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			select {
			case a := <-addr:
				test(t, a.String())
			case err := <-done:
				t.Fatal(err)
			}
		})
	}
}

func ask(t *testing.T, conn net.Conn, question string) string {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "%s\n", question); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
