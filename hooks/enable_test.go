//go:build linux

package hooks_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// function identifies a function value.
func function(f any) uintptr { return reflect.ValueOf(f).Pointer() }

func TestEnableAndDisable(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		transport := http.DefaultTransport.(*http.Transport)
		resolver, dialHTTP := net.DefaultResolver, function(transport.DialContext)
		hooks.Disable() // without Enable: nothing
		check(t, hooks.Enable())
		check(t, hooks.Enable())
		hooks.Disable()
		if function(transport.DialContext) == dialHTTP || net.DefaultResolver.Dial == nil || !net.DefaultResolver.PreferGo {
			t.Error("the first of two calls of Disable has undone Enable")
		}

		base, stop := serve(ctx, t, false)
		var used net.Conn
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { used = info.Conn }})
		got, err := post(traced, http.DefaultClient, base, 3)
		if err != nil || got != "HTTP/1.1 POST / 3 xxx" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, ok := used.(*hooks.Conn); !ok {
			t.Errorf("the connection is a %T", used)
		}

		hooks.Disable()
		if function(transport.DialContext) != dialHTTP || net.DefaultResolver != resolver || resolver.Dial != nil || resolver.PreferGo {
			t.Error("Disable hasn't given back what Enable found")
		}
		hooks.Disable()
		if _, err := post(traced, http.DefaultClient, base, 3); err != nil {
			t.Error(err)
		}
		if _, ok := used.(*net.TCPConn); !ok {
			t.Errorf("after Disable the connection is a %T", used)
		}
		transport.CloseIdleConnections()
		stop()
	})
}

// otherTransport is an http.RoundTripper that isn't an *http.Transport.
type otherTransport struct{ http.RoundTripper }

func TestEnableWithAnotherTransport(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	http.DefaultTransport = otherTransport{before}
	if err := hooks.Enable(); err == nil {
		t.Error("Enable succeeded")
		hooks.Disable()
	}
	if net.DefaultResolver.Dial != nil {
		t.Error("Enable has failed, and changed the resolver")
	}
}

// Go's own resolver asks its questions over the Dialer.
func TestResolverOverTheDialer(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, network := range []string{"udp", "tcp"} {
			server := nameServer(ctx, t, network)
			var dials atomic.Int64
			resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				dials.Add(1)
				return new(hooks.Dialer).DialContext(ctx, network, server)
			}}
			ips, err := runtime.Await(ctx, func() ([]string, error) { return resolver.LookupHost(ctx, "some.test.") })
			if err != nil || len(ips) != 1 || ips[0] != "192.0.2.7" {
				t.Errorf("%s: got %q, %v", network, ips, err)
			}
			if dials.Load() == 0 {
				t.Errorf("%s: nothing was dialled", network)
			}
		}
	})
}

// nameServer answers each question for an address of IPv4 with 192.0.2.7, and others with nothing.
// It ends with the test's runtime.
func nameServer(ctx context.Context, t testing.TB, network string) (address string) {
	t.Helper()
	if network == "udp" {
		conn, err := hooks.ListenPacket(ctx, "udp", "127.0.0.1:0")
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				conn.WriteTo(dnsAnswer(buf[:n]), from)
			}
		}()
		return conn.LocalAddr().String()
	}
	l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 512)
				for { // a message is behind its length: RFC 1035, section 4.2.2
					n, err := conn.Read(buf)
					if err != nil || n < 14 {
						return
					}
					answer := dnsAnswer(buf[2:n])
					conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
				}
			}()
		}
	}()
	return l.Addr().String()
}

// dnsAnswer answers a question (RFC 1035, section 4).
func dnsAnswer(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the root, type and class
	answer := append([]byte(nil), question[:end]...)
	answer[2], answer[3] = 0x81, 0x80                 // an answer, with recursion
	copy(answer[6:12], make([]byte, 6))               // no records, not even the question's additional one
	if question[end-4] == 0 && question[end-3] == 1 { // type A
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
	}
	return answer
}
