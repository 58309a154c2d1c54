//go:build linux

package client_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/proxy"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// The proxies are scripts; behind the tunnel is the same script. The target's address is never
// dialled: the proxy is the target as well.
const (
	behindName = "\x05\x01\x00\x03\x0bmail.behind\x02\x4b" // CONNECT mail.behind:587
	opened     = "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"

	connectRequest = "CONNECT mail.behind:587 HTTP/1.1\r\nHost: mail.behind:587\r\n"
	established    = "HTTP/1.1 200 Connection established\r\nServer: test\r\n\r\n"
)

// proxies are the two kinds, each with what a proxy hears and says until the tunnel stands.
var proxies = []struct {
	kind           string
	user, password string
	dialog         []string // heard and said in turn
}{
	{"socks5", "", "", []string{"\x05\x01\x00", "\x05\x00", behindName, opened}},
	{"socks5", "alice", "secret", []string{"\x05\x02\x00\x02", "\x05\x02", "\x01\x05alice\x06secret", "\x01\x00", behindName, opened}},
	{"http", "", "", []string{connectRequest + "\r\n", established}},
	{"http", "alice", "secret", []string{
		connectRequest + "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:secret")) + "\r\n\r\n",
		established,
	}},
}

// tunnel plays the dialog, and says the greeting in one segment with its end.
func (s *script) tunnel(dialog []string, greeting string) {
	for i := 0; i < len(dialog); i += 2 {
		s.hear(dialog[i])
		if i+2 == len(dialog) {
			s.say(dialog[i+1] + greeting)
		} else {
			s.say(dialog[i+1])
		}
	}
}

func TestProxy(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.kind+" "+p.user, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.tunnel(p.dialog, "220 mail.behind ESMTP\r\n")
					s.hear("STARTTLS\r\n")
					s.say("220 go ahead\r\n")
					s.secure(issue(t, devca.Request{Names: []string{"mail.behind"}}))
					s.echoLines()
				})
				config := mail()
				config.Proxy = &client.Proxy{Type: p.kind, Address: address, User: p.user, Password: p.password}
				c := connect(ctx, t, config, "tcp", "mail.behind:587")
				if c.RemoteAddr().String() != address {
					t.Errorf("remote address is %v", c.RemoteAddr())
				}
				recv(ctx, t, c, "220 mail.behind ESMTP\r\n")
				send(ctx, t, c, "STARTTLS\r\n")
				recv(ctx, t, c, "220 go ahead\r\n")
				check(t, c.EnableSSL(ctx)) // for mail.behind, not for the proxy
				send(ctx, t, c, "EHLO client\r\n")
				recv(ctx, t, c, "EHLO client\r\n")
				check(t, c.Close())
			})
		})
	}
}

// The proxy's answers come byte by byte.
func TestProxyByteByByte(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.kind+" "+p.user, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					for i := 0; i < len(p.dialog); i += 2 {
						s.hear(p.dialog[i])
						feed(s, p.dialog[i+1], 1)
					}
					s.say("220 mail.behind ESMTP\r\n")
					s.rest()
				})
				config := mail()
				config.Proxy = &client.Proxy{Type: p.kind, Address: address, User: p.user, Password: p.password}
				recv(ctx, t, connect(ctx, t, config, "tcp", "mail.behind:587"), "220 mail.behind ESMTP\r\n")
			})
		})
	}
}

func TestTLSThroughProxy(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.kind+" "+p.user, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.tunnel(p.dialog, "")
					s.secure(issue(t, devca.Request{Names: []string{"mail.behind"}}))
					s.say("220 secure\r\n")
					s.rest()
				})
				config := mail()
				config.Proxy = &client.Proxy{Type: p.kind, Address: address, User: p.user, Password: p.password}
				recv(ctx, t, connect(ctx, t, config, "tls", "mail.behind:587"), "220 secure\r\n")
			})
		})
	}
}

func TestProxyRefuses(t *testing.T) {
	for _, tc := range []struct {
		kind   string
		dialog []string
		is     []error
		says   string
	}{
		{"socks5", []string{"\x05\x01\x00", "\x05\x00", behindName, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"},
			[]error{proxy.ErrRefused, syscall.ECONNREFUSED}, "connection refused"},
		{"socks5", []string{"\x05\x01\x00", "\x05\xff"}, []error{proxy.ErrAuth}, "no acceptable method"},
		{"socks5", []string{"\x05\x01\x00", "HTTP/1.1 400 Bad Request\r\n"}, []error{proxy.ErrProtocol}, "version"},
		{"http", []string{connectRequest + "\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"}, []error{proxy.ErrRefused}, "Forbidden"},
		{"http", []string{connectRequest + "\r\n", "HTTP/1.1 407 Who are you?\r\n\r\n"}, []error{proxy.ErrAuth}, "407"},
		{"http", []string{connectRequest + "\r\n", "220 mail.test ESMTP\r\n"}, []error{proxy.ErrProtocol}, "HTTP/1"},
		{"http", []string{connectRequest + "\r\n", "HTTP/1.1 200 O"}, []error{io.ErrUnexpectedEOF}, ""},
		{"socks5", []string{"\x05\x01\x00", ""}, []error{io.ErrUnexpectedEOF}, ""},
	} {
		both(t, func(ctx context.Context, t *testing.T) {
			address := serve(t, func(s *script) {
				s.tunnel(tc.dialog, "")
				s.halfClose()
				if rest := s.rest(); len(rest) > 0 {
					s.ok(fmt.Errorf("the client goes on: %q", rest))
				}
			})
			c := client.New(client.Config{Proxy: &client.Proxy{Type: tc.kind, Address: address}})
			err := c.Connect(ctx, "tcp", "mail.behind:587")
			for _, want := range tc.is {
				wantError(t, fmt.Sprintf("%s %q", tc.kind, tc.dialog), err, want)
			}
			// It says what was wanted, and through whom.
			for _, part := range []string{tc.says, "mail.behind:587", tc.kind, address} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error is %v, want one that says %q", err, part)
				}
			}
			if c.Connected() || c.Socket() != nil {
				t.Error("the client is connected")
			}
		})
	}
}

func TestProxyErrors(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		nobody := refusing(t)
		for _, tc := range []struct {
			proxy            client.Proxy
			network, address string
			is               error
			says             string
		}{
			{client.Proxy{Type: "socks5", Address: nobody}, "tcp", "mail.behind:587", syscall.ECONNREFUSED, nobody},
			{client.Proxy{Type: "http", Address: nobody}, "tls", "mail.behind:587", syscall.ECONNREFUSED, nobody},
			{client.Proxy{Type: "http", Address: "127.0.0.1"}, "tcp", "mail.behind:587", nil, "missing port"},
			{client.Proxy{Type: "http", Address: nobody}, "udp", "mail.behind:587", nil, "can't carry"},
			{client.Proxy{Type: "http", Address: nobody}, "unix", "/tmp/socket", nil, "can't carry"},
			{client.Proxy{Type: "http", Address: nobody, User: "a:b"}, "tcp", "mail.behind:587", nil, "colon"},
			{client.Proxy{Type: "socks5", Address: nobody, User: "alice"}, "tcp", "mail.behind:587", nil, "1 to 255"},
			{client.Proxy{Type: "http", Address: nobody}, "tcp", "mail behind\r\n:587", nil, "not a host name"},
		} {
			err := client.New(client.Config{Proxy: &tc.proxy}).Connect(ctx, tc.network, tc.address)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v: error is %v", tc, err)
			}
		}
	})
}

// ConnectTimeout covers the proxy's part. The error tells that it was the proxy that took its time.
func TestProxyStalls(t *testing.T) {
	for _, p := range proxies {
		for steps := 0; steps < len(p.dialog); steps += 2 {
			t.Run(fmt.Sprintf("%s %s after %d", p.kind, p.user, steps), func(t *testing.T) {
				both(t, func(ctx context.Context, t *testing.T) {
					address := serve(t, func(s *script) {
						s.hasty = true
						s.tunnel(p.dialog[:steps], "")
						s.hear(p.dialog[steps])
						drip(s, []byte(p.dialog[steps+1][:1]))
						s.rest()
					})
					c := client.New(client.Config{
						ConnectTimeout: soon,
						Proxy:          &client.Proxy{Type: p.kind, Address: address, User: p.user, Password: p.password},
					})
					err := c.Connect(ctx, "tcp", "mail.behind:587")
					wantError(t, "Connect", err, runtime.ErrTimeout)
					if socket.Code(err) != int(syscall.ETIMEDOUT) || !strings.Contains(err.Error(), p.kind+" proxy "+address) {
						t.Errorf("code %d, error %v", socket.Code(err), err)
					}
				})
			})
		}
	}
}

// One deadline holds for all steps: a proxy that lets its answers drip doesn't extend it.
func TestProxyTimeoutIsForTheWhole(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			s.hasty = true
			s.hear(connectRequest)
			drip(s.raw, []byte("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 5000)+"\r\n\r\n"))
		})
		c := client.New(client.Config{ConnectTimeout: 5 * drop, Proxy: &client.Proxy{Type: "http", Address: address}})
		wantError(t, "Connect", c.Connect(ctx, "tcp", "mail.behind:587"), runtime.ErrTimeout)
	})
}

func TestCancelProxy(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("closes=%v", closes), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				heard := make(chan struct{})
				address := serve(t, func(s *script) {
					s.hear(connectRequest)
					close(heard)
					s.rest()
				})
				c := client.New(client.Config{Proxy: &client.Proxy{Type: "http", Address: address}})
				cancelable, cancel := context.WithCancel(ctx)
				defer cancel()
				wait := start(ctx, t, func(context.Context) error { return c.Connect(cancelable, "tcp", "mail.behind:587") })
				receive(ctx, t, heard)
				if c.Connected() {
					t.Error("connected before the tunnel stands")
				}
				_, err := c.Send(ctx, []byte("to the proxy"))
				wantError(t, "Send", err, socket.ErrNotConnected)
				want := context.Canceled
				if closes {
					check(t, c.Close())
					want = net.ErrClosed
				} else {
					cancel()
				}
				wantError(t, "Connect", wait(), want)
				if c.Connected() || c.Socket() != nil {
					t.Error("the client is connected")
				}
			})
		})
	}
}
