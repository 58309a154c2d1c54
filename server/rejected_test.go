//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// Whoever is turned away is told so, if there are words for it, and OnReject is told why.
func TestRejections(t *testing.T) {
	const word = "421 not now\r\n"
	for name, c := range map[string]struct {
		network string
		config  server.Config
		others  int // connections that are served before
		say     string
		want    error
		hears   string
	}{
		"plaintext":                 {"tls", server.Config{}, 0, "EHLO me\r\n", server.ErrPlaintext, word},
		"silence":                   {"tls", server.Config{}, 0, "", server.ErrSilent, ""},
		"half a hello":              {"tls", server.Config{}, 0, "\x16\x03\x01", server.ErrSilent, ""},
		"a hello and nothing more":  {"tls", server.Config{}, 0, hello(t), server.ErrSilent, "any"},
		"MaxConnections":            {"tcp", server.Config{MaxConnections: 2}, 2, "", server.ErrMaxConnections, word},
		"MaxConnections, impatient": {"tcp", server.Config{MaxConnections: 2}, 2, "EHLO me\r\n", server.ErrMaxConnections, word},
		"MaxConnections, TLS":       {"tls", server.Config{MaxConnections: 2}, 2, "", server.ErrMaxConnections, ""},
		"MaxPerAddress":             {"tcp", server.Config{MaxPerAddress: 2}, 2, "", server.ErrMaxPerAddress, word},
	} {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				reasons := make(chan error, 10)
				port.TLS, port.HandshakeTimeout = serverTLS(), 500*time.Millisecond
				port.OnReject = func(_ context.Context, c *server.Conn, reason error) {
					if c.ID() != 0 || !c.RemoteAddrPort().IsValid() {
						t.Errorf("ID %d, address %v", c.ID(), c.RemoteAddr())
					}
					reasons <- reason
				}
				want := c.want
				port.LastWord = func(_ *server.Conn, reason error) string {
					wantError(t, "the reason of the last word", reason, want)
					return word
				}
				c.config.Port = port
				h, l := start(t, c.network, c.config)
				for range c.others {
					trip(t, dialAs(t, l, c.network == "tls"), "hello")
				}
				var heard []byte
				if conn, err := net.Dial("tcp", l.Addr().String()); err == nil { // else it is reset already
					defer conn.Close()
					conn.Write([]byte(c.say))
					heard, err = io.ReadAll(conn)
					// A reset may take the word away. One behind it is for what was said too late.
					late := c.others > 0 && c.say != "" && errors.Is(err, syscall.ECONNRESET)
					if c.hears == word && err != nil && !late {
						t.Errorf("the client reads %v", err)
					}
				}
				if string(heard) != c.hears && c.hears != "any" {
					t.Errorf("the client was told %q", heard)
				}
				reason := receive(t, reasons)
				wantError(t, "OnReject", reason, c.want)
				if c.want == server.ErrSilent {
					wantError(t, "silence", reason, os.ErrDeadlineExceeded)
				}
				until(t, "it is gone", func() bool { return h.Stats().Connections == c.others && h.Stats().Opening == 0 })
				if len(reasons) > 0 {
					t.Error("OnReject was called again")
				}
			})
		})
	}
}

// A last word is no reset's forerunner, which may take it away before it is read: what the client
// had said by then is taken in.
func TestNoResetFollowsTheLastWord(t *testing.T) {
	word := func(*server.Conn, error) string { return "421 no\r\n" }
	port := server.Port{TLS: serverTLS(), LastWord: word}
	eachStyle(t, func(t *testing.T, style server.Port) {
		port.Handle, port.OnReceive = style.Handle, style.OnReceive
		h, l := start(t, "tls", server.Config{Port: port})
		conn := dial(t, l)
		write(t, conn, strings.Repeat("EHLO me\r\n", 1000))
		expect(t, conn, "421 no\r\n")
		expectEnd(t, conn)
		until(t, "it is gone", func() bool { return h.Stats().Connections == 0 })
		if state := tcpState(t, conn); state != unix.BPF_TCP_CLOSE_WAIT {
			t.Errorf("the connection's state is %d", state)
		}
	})
}

// tcpState returns the state of a connection, as tcp(7) numbers them.
func tcpState(t *testing.T, conn net.Conn) (state uint8) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		check(t, err)
		state = info.State
	}))
	return state
}

// A flood beyond MaxConnections is not told, but a part of it, and costs no more than that.
func TestFloodBeyondMaxConnections(t *testing.T) {
	port := server.Port{Handle: echo, LastWord: func(*server.Conn, error) string { return strings.Repeat("no ", 1000) }}
	h, l := start(t, "tcp", server.Config{Port: port, MaxConnections: 1})
	trip(t, dial(t, l), "hello")
	for range 500 {
		if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
			defer conn.Close()
			conn.Write([]byte("hello"))
		}
	}
	until(t, "all are refused", func() bool { return h.Stats().Refused == 500 })
	until(t, "all are gone", func() bool { return h.Stats().Connections == 1 })
}

// A client that has ended its side in the middle of its first words will never say them whole: it is
// turned away at once, with TLS and behind a proxy.
func TestHalfAWordAndTheEnd(t *testing.T) {
	for name, c := range map[string]struct{ network, say string }{
		"hello": {"tls", hello(t)}, "proxy": {"tcp", header(t, 2, "192.0.2.1:1")},
	} {
		t.Run(name, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				reasons := make(chan error, 1)
				port.TLS, port.HandshakeTimeout = serverTLS(), time.Hour
				port.ProxyProtocol = []string{"127.0.0.1"}
				if name == "hello" {
					port.ProxyProtocol = nil
				}
				port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { reasons <- reason }
				h, l := start(t, c.network, server.Config{Port: port})
				conn := dial(t, l)
				write(t, conn, c.say[:len(c.say)/2])
				check(t, conn.(*net.TCPConn).CloseWrite())
				wantError(t, "OnReject", receive(t, reasons), io.ErrUnexpectedEOF)
				h.settled()
			})
		})
	}
}

// However many are turned away and take nothing of their last word, a bound holds for those that
// are told at a time.
func TestThoseWhoAreToldAreBounded(t *testing.T) {
	const flood, told = 200, 64
	port := server.Port{Handle: echo, SendBuffer: 16 << 10, Linger: time.Hour}
	port.LastWord = func(*server.Conn, error) string { return strings.Repeat("no ", 1<<18) }
	h, l := start(t, "tcp", server.Config{Port: port, MaxConnections: 1, MaxLingering: flood * loops})
	trip(t, dial(t, l), "hello")
	for range flood {
		dialNarrow(t, l)
	}
	until(t, "all are refused", func() bool { return h.Stats().Refused == flood })
	until(t, "some are told", func() bool { return h.Stats().Lingering == told })
	if st := h.Stats(); st.Connections != 1+told {
		t.Errorf("%+v", st)
	}
}

// A TLS port without a certificate would turn everybody away.
func TestListenWithoutACertificate(t *testing.T) {
	for name, config := range map[string]*tls.Config{"no configuration": nil, "an empty one": {}} {
		t.Run(name, func(t *testing.T) {
			h := open(t, server.Config{Port: server.Port{Handle: echo, TLS: config}})
			if _, err := h.Listen(h.ctx(), "tls", "127.0.0.1:0"); err == nil {
				t.Error("no error")
			}
		})
	}
}

// A callback of the TLS configuration that panics, or never returns, is not the client's fault: the
// log has it, and OnReject gets what it is.
func TestFaultsOfTheTLSConfiguration(t *testing.T) {
	for name, fault := range breakers {
		t.Run(name, func(t *testing.T) {
			reasons := make(chan error, 1)
			port := server.Port{Handle: echo, TLS: brokenTLS(fault)}
			port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { reasons <- reason }
			h, l := start(t, "tls", server.Config{Port: port})
			write(t, dial(t, l), hello(t))
			reason := receive(t, reasons)
			_, panicked := errors.AsType[*runtime.PanicError](reason)
			if panicked != (name == "panic") || errors.Is(reason, runtime.ErrGoexit) == panicked {
				t.Errorf("%v", reason)
			}
			st := h.Stats()
			if !h.logged("brokenTLS") || st.Handshakes["local fault"] != 1 || len(st.Handshakes) != 1 {
				t.Errorf("logged, with its stack: %v; %v", h.logged("brokenTLS"), st.Handshakes)
			}
		})
	}
}

// MaxPerAddress takes the addresses of IPv6 by their prefix, and zones say nothing.
func TestAddressesThatCountTogether(t *testing.T) {
	for _, c := range []struct {
		bits int
		a, b string
		want bool
	}{
		{0, "192.0.2.1:1", "192.0.2.1:2", true},
		{0, "192.0.2.1:1", "192.0.2.2:1", false},
		{0, "[::ffff:192.0.2.1]:1", "192.0.2.1:2", true},
		{0, "[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:1", true},
		{0, "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false},
		{48, "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", true},
		{128, "[2001:db8:0:1::1]:1", "[2001:db8:0:1::2]:1", false},
		{0, "[fe80::1%a]:1", "[fe80::1%b]:1", true},
		{0, "[fe80::1%a]:1", "[fe80::2%a]:1", false},
	} {
		h := open(t, server.Config{Port: server.Port{Handle: echo}, AddressPrefix: c.bits})
		h.listen("tcp")
		if got := server.CountedTogether(h.Server, c.a, c.b); got != c.want {
			t.Errorf("/%d: %s and %s: %v", c.bits, c.a, c.b, got)
		}
	}
	h := open(t, server.Config{Port: server.Port{Handle: echo}, AddressPrefix: 129})
	if _, err := h.Listen(h.ctx(), "tcp", "127.0.0.1:0"); err == nil {
		t.Error("a prefix of 129 bits is no error")
	}
}

// MaxPerAddress holds on IPv6, too.
func TestMaxPerAddressOfIPv6(t *testing.T) {
	h, l := start(t, "tcp6", server.Config{Port: server.Port{Handle: echo}, MaxPerAddress: 1})
	trip(t, dial(t, l), "hello")
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil { // else it is reset already
		defer conn.Close()
		conn.Write([]byte("hello"))
		expectEnd(t, conn)
	}
	until(t, "it is refused", func() bool { return h.Stats().Refused == 1 })
}
