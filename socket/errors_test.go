//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

type codedError struct{}

func (codedError) Error() string { return "an error with a code" }
func (codedError) Code() int     { return 1203 }

func TestCode(t *testing.T) {
	table, err := os.ReadFile("../docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("any"), -1},
		{io.EOF, -1},
		{socket.ErrBusy, 10002},
		{socket.ErrPlaintextPending, 509},
		{socket.ErrSSLActive, 106},
		{socket.ErrConnected, 106},
		{socket.ErrNotConnected, 5001},
		{syscall.ENOTCONN, 107},
		{socket.ErrWouldBlock, 11},
		{syscall.EAGAIN, 11},
		{socket.ErrQueueFull, 1009},
		{socket.ErrTruncated, 1017},
		{socket.ErrPathTooLong, 504},
		{runtime.ErrOnLoop, 10001},
		{runtime.ErrNoRuntime, 10001},
		{runtime.ErrChannelTimeout, -1},
		{runtime.ErrChannelClosed, -2},
		{net.UnknownNetworkError("sctp"), 724},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, 1014},
		{x509.UnknownAuthorityError{}, 1014},
		{x509.HostnameError{Host: "mail.test", Certificate: new(x509.Certificate)}, 1014},
		{x509.CertificateInvalidError{Reason: x509.Expired}, 1014},
		{&net.OpError{Op: "handshake", Err: io.EOF}, 1018},
		{&net.OpError{Op: "handshake", Err: syscall.ECONNRESET}, 1018},
		{&net.OpError{Op: "handshake", Err: errors.New("tls: any")}, 1018},
		{&net.OpError{Op: "handshake", Err: &net.OpError{Op: "remote error", Err: tls.AlertError(40)}}, 1018},
		{&net.OpError{Op: "handshake", Err: x509.UnknownAuthorityError{}}, 1014},
		{&net.OpError{Op: "handshake", Err: runtime.ErrTimeout}, 110},
		{&net.OpError{Op: "handshake", Err: socket.ErrPlaintextPending}, 509},
		{&net.OpError{Op: "handshake", Err: syscall.ESOCKTNOSUPPORT}, 94},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, 1016},
		{&net.OpError{Op: "local error", Err: tls.AlertError(40)}, 1016},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, 1016},
		{socket.ErrCanceled, 125},
		{context.Canceled, 125},
		{runtime.ErrShutdown, 125},
		{runtime.ErrTimeout, 110},
		{os.ErrDeadlineExceeded, 110},
		{context.DeadlineExceeded, 110},
		{net.ErrClosed, 9},
		{syscall.ECONNREFUSED, 111},
		{os.NewSyscallError("read", syscall.ECONNRESET), 104},
		{&net.DNSError{Err: "no such host", Name: "nosuch.invalid", IsNotFound: true}, 711},
		{&net.DNSError{Err: "server misbehaving", Name: "mail.test", IsTemporary: true}, 711},
		{&net.DNSError{Err: "i/o timeout", Name: "mail.test", IsTimeout: true}, 712},
		{codedError{}, 1203},
	} {
		row := fmt.Sprintf("\n| %d |", c.want)
		_, own := c.err.(codedError)
		_, system := errors.AsType[syscall.Errno](c.err) // most have no row
		if !own && !system && c.want != 0 && c.want != -1 && !strings.Contains(string(table), row) {
			t.Errorf("docs/codes.md has no row for %d", c.want)
		}
		for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), &net.OpError{Op: "connect", Err: c.err}} {
			if c.err == nil {
				err = nil
			}
			if got := socket.Code(err); got != c.want {
				t.Errorf("Code(%v) = %d, want %d", err, got, c.want)
			}
		}
	}
}

// What is wrong with an address has a number, too, and stays an error of package net.
func TestCodesOfAddresses(t *testing.T) {
	resolves(t, always("192.0.2.1"))
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct {
			network, address string
			want             int
		}{
			{"tcp6", "mail.test:25", 711},
			{"tcp6", "192.0.2.1:25", 720},
			{"tcp6", "[fe80::1%nosuchdevice]:25", 720},
			{"tcp4", "[2001:db8::1]:25", 722},
			{"tcp", "mail.test", 723},
			{"tcp", "mail.test:65536", 723},
			{"tcp", "mail.test:0", 723},
			{"tcp", "mail.test:nosuchservice", 723},
		} {
			err := fresh(t, c.network).Connect(ctx, c.address)
			wantOp(t, err, "connect", c.network, c.address)
			if socket.Code(err) != c.want {
				t.Errorf("%v has code %d, want %d", err, socket.Code(err), c.want)
			}
			if _, ok := errors.AsType[*net.AddrError](err); !ok && c.address != "mail.test:nosuchservice" {
				t.Errorf("%s %s: no *net.AddrError: %v", c.network, c.address, err)
			}
		}
		for _, c := range []struct {
			network, address string
			want             int
		}{
			{"tcp", "mail.test:25", 722},
			{"tcp4", "[::1]:25", 722},
			{"tcp", "127.0.0.1", 723},
			{"unix", strings.Repeat("x", 108), 504},
		} {
			if err := fresh(t, c.network).Bind(ctx, c.address); socket.Code(err) != c.want {
				t.Errorf("bind: %v has code %d, want %d", err, socket.Code(err), c.want)
			}
		}
		if _, err := socket.New("sctp"); socket.Code(err) != 724 {
			t.Errorf("%v has code %d", err, socket.Code(err))
		}
	})
}

// Each side of a handshake has numbers of its own.
func TestCodesOfHandshakes(t *testing.T) {
	client, server := certified()
	stranger := client.Clone()
	stranger.RootCAs = x509.NewCertPool()
	old := server.Clone()
	old.MaxVersion = tls.VersionTLS12
	young := client.Clone()
	young.MinVersion = tls.VersionTLS13
	strict := server.Clone()
	strict.ClientAuth, strict.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, c := range []struct {
			name                   string
			client, server         *tls.Config
			wantClient, wantServer int
		}{
			{"unknown authority", stranger, server, 1014, 1015},
			{"no common version", young, old, 1018, 1015},
			{"no certificate of the client's", client, strict, 1018, 1015},
		} {
			clientErr, serverErr := shakeBoth(ctx, t, c.client, c.server)
			if got := socket.Code(clientErr); got != c.wantClient {
				t.Errorf("%s: client: %v has code %d, want %d", c.name, clientErr, got, c.wantClient)
			}
			if got := socket.Code(serverErr); got != c.wantServer {
				t.Errorf("%s: server: %v has code %d, want %d", c.name, serverErr, got, c.wantServer)
			}
		}
		a, b := connected(ctx, t, "pair")
		defer a.Abort()
		b.SetTimeouts(socket.Timeouts{Handshake: soon})
		err := b.SSLHandshake(ctx, server)
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() || socket.Code(err) != 110 {
			t.Errorf("%v has code %d", err, socket.Code(err))
		}
	})
}

// wantOp checks that an error says which operation has failed, and on what.
func wantOp(t testing.TB, err error, op, network, address string) {
	t.Helper()
	var got *net.OpError
	if !errors.As(err, &got) {
		t.Errorf("%s: error is %#v", op, err)
		return
	}
	if got.Op != op || got.Net != network || got.Addr == nil || got.Addr.String() != address {
		t.Errorf("error says %s %s %v, want %s %s %s", got.Op, got.Net, got.Addr, op, network, address)
	}
	if _, twice := got.Err.(*net.OpError); twice {
		t.Errorf("wrapped twice: %v", err)
	}
	if text := err.Error(); !strings.HasPrefix(text, op+" "+network+" ") || !strings.Contains(text, address) {
		t.Errorf("reads %q", text)
	}
}

func TestErrorsSayWhatFailed(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		l := listening(ctx, t, "tcp")
		at := l.LocalAddr().String()
		client := fresh(t, "tcp")
		_, port, _ := net.SplitHostPort(at)
		named := "localhost:" + port
		if err := client.Connect(ctx, named); err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*socket.Socket{client, server, l} {
			s.SetTimeouts(socket.Timeouts{Read: soon, Write: soon})
		}

		_, err = client.Recv(ctx, make([]byte, 1))
		wantOp(t, err, "recv", "tcp", named) // as it was asked for
		wantError(t, "Recv", err, os.ErrDeadlineExceeded)
		wantError(t, "Recv", err, runtime.ErrTimeout)
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			t.Errorf("%v isn't a time-out to package net", err)
		}

		_, err = server.Recv(ctx, make([]byte, 1))
		wantOp(t, err, "recv", "tcp", client.LocalAddr().String())
		err = waitsToSend(ctx, server)
		wantOp(t, err, "send", "tcp", client.LocalAddr().String())
		_, err = l.Accept(ctx)
		if op := new(net.OpError); !errors.As(err, &op) || op.Op != "accept" || op.Source == nil || op.Source.String() != at {
			t.Errorf("Accept: %v", err)
		}

		server.Abort()
		client.SetTimeouts(socket.Timeouts{Read: patience})
		for err = nil; err == nil; {
			_, err = client.Recv(ctx, make([]byte, 1<<20))
		}
		wantOp(t, err, "recv", "tcp", named)
		wantError(t, "Recv after a reset", err, syscall.ECONNRESET)
		if timeout, ok := err.(net.Error); !ok || timeout.Timeout() {
			t.Errorf("%v is a time-out to package net", err)
		}

		client.Close()
		l.Close()
		_, err = client.Recv(ctx, make([]byte, 1))
		wantOp(t, err, "recv", "tcp", named)

		name := unixName()
		wantOp(t, fresh(t, "unix").Connect(ctx, name), "connect", "unix", name)
		_, err = socket.New("sctp")
		if op := new(net.OpError); !errors.As(err, &op) || op.Op != "socket" || op.Net != "sctp" {
			t.Errorf("New: %v", err)
		}
		wantError(t, "New", err, net.UnknownNetworkError("sctp"))
		_, _, err = socket.Pair(ctx, "tcp")
		if op := new(net.OpError); !errors.As(err, &op) || op.Op != "socketpair" || op.Net != "tcp" {
			t.Errorf("Pair: %v", err)
		}
		wantError(t, "Pair", err, syscall.EAFNOSUPPORT)
	})
}

// The end of the stream comes bare, as readers of Go expect.
func TestEOFComesBare(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			l := listening(ctx, t, network)
			client := fresh(t, network)
			if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			server, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			talk(ctx, t, server, client)
			server.Close()
			for _, v := range readVerbs() {
				if v.name == "Accept" {
					continue
				}
				err := v.call(ctx, client)
				for errors.Is(err, socket.ErrWouldBlock) { // it is on its way
					runtime.Yield(ctx)
					err = v.call(ctx, client)
				}
				if err != io.EOF {
					t.Errorf("%s, %s: %v", network, v.name, err)
				}
			}
			if client.Alive() {
				t.Errorf("%s is alive", network)
			}
			client.Close()
			l.Close()
		}
	})
}

// A function of an event loop must not wait: it gets an error and the loop goes on. What needn't
// wait works there.
func TestCallsOnALoopOutsideACoroutine(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		rt, _ := runtime.From(ctx)
		silent, stop := full(t, "127.0.0.1:0")
		defer stop()
		a, b := connected(ctx, t, "pair")
		l := listening(ctx, t, "tcp")
		for i, loop := range rt.Loops() {
			here := loop == a.Loop()
			on(ctx, t, loop, func() {
				for _, v := range readVerbs() {
					switch v.name {
					case "Peek", "Accept":
					default:
						wantError(t, v.name, v.call(ctx, a), runtime.ErrOnLoop)
					}
				}
				_, err := l.Accept(ctx)
				wantError(t, "Accept", err, runtime.ErrOnLoop)
				wantError(t, "Connect", fresh(t, "tcp").Connect(ctx, silent), runtime.ErrOnLoop)
				wantError(t, "Connect to a name", fresh(t, "tcp").Connect(ctx, "localhost:25"), runtime.ErrOnLoop)
				wantError(t, "Connect to two addresses", fresh(t, "tcp").Connect(ctx, ":25"), runtime.ErrOnLoop)
				if here {
					if n, err := a.Send(ctx, []byte("message")); n != 7 || err != nil {
						t.Error(n, err)
					}
					buf := make([]byte, 7)
					if n, err := b.Recv(ctx, buf); string(buf[:n]) != "message" || err != nil {
						t.Errorf("%q, %v", buf[:n], err)
					}
				}
			})
			if i == 0 {
				continue
			}
			// Those who have come here in coroutines and goroutines have made it a shared socket.
			// Now filling it up:
			onGoroutine(ctx, func(ctx context.Context) { talk(ctx, t, b, a) })
			on(ctx, t, loop, func() { wantError(t, "SendAll", waitsToSend(ctx, a), runtime.ErrOnLoop) })
		}
		// Closing works anywhere.
		for i, s := range []*socket.Socket{a, b, l} {
			on(ctx, t, rt.Loops()[i%2], func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}, runtime.WithLoops(2))
}

// on has a loop run fn, and waits for it.
func on(ctx context.Context, t testing.TB, loop runtime.Loop, fn func()) {
	t.Helper()
	var done runtime.WaitGroup
	done.Add(1)
	if err := loop.Post(func() { defer done.Done(); fn() }); err != nil {
		t.Fatal(err)
	}
	done.Wait(ctx)
}

// The names of the errors can be told apart.
func TestErrorsAreDistinct(t *testing.T) {
	all := []error{socket.ErrBusy, socket.ErrCanceled, socket.ErrWouldBlock, socket.ErrNotConnected, socket.ErrConnected,
		socket.ErrPlaintextPending, socket.ErrSSLActive, socket.ErrTruncated, socket.ErrPathTooLong, socket.ErrLineTooLong,
		runtime.ErrTimeout, runtime.ErrShutdown, net.ErrClosed}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("errors.Is(%q, %q) is %v", a, b, i != j)
			}
		}
	}
	for _, c := range [][2]error{
		{socket.ErrCanceled, context.Canceled}, {socket.ErrNotConnected, syscall.ENOTCONN}, {socket.ErrConnected, syscall.EISCONN},
		{socket.ErrTruncated, io.EOF}, {socket.ErrTruncated, io.ErrUnexpectedEOF}, {runtime.ErrTimeout, os.ErrDeadlineExceeded},
	} {
		if !errors.Is(c[0], c[1]) {
			t.Errorf("%q isn't %q", c[0], c[1])
		}
	}
	if slices.ContainsFunc(all, func(err error) bool { return err.Error() == "" }) {
		t.Error("an error without text")
	}
}
