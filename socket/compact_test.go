//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// These tests are here, and use clients and servers, as these ask for compact connections.

var compactTLS = sync.OnceValues(func() (*tls.Config, *tls.Config) {
	ca, err := devca.New("Whorl test CA")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		panic(err)
	}
	return &tls.Config{ServerName: "mail.test", RootCAs: ca.Pool(), NextProtos: []string{"a"}},
		&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"a"}}
})

// compactServer is an echo server whose connections become compact.
func compactServer(ctx context.Context, t *testing.T, compact socket.CompactTLS) *server.Listener {
	t.Helper()
	_, config := compactTLS()
	s := server.New(server.Config{Port: server.Port{
		TLS: config, CompactTLS: compact,
		OnReceive: func(ctx context.Context, c *server.Conn, p []byte) { c.Send(ctx, p) },
	}})
	l, err := s.Listen(ctx, "tls", "127.0.0.1:0")
	leaktest.Check(t, err)
	over := make(chan error, 1)
	go func() { over <- s.Serve(ctx) }()
	t.Cleanup(func() {
		s.Shutdown(ctx)
		<-over
	})
	return l
}

func trip(ctx context.Context, t *testing.T, c *client.Client, text string) {
	t.Helper()
	if _, err := c.Send(ctx, []byte(text)); err != nil {
		t.Fatal(err)
	}
	for got := ""; got != text; {
		p, err := c.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got += string(p); !strings.HasPrefix(text, got) {
			t.Fatalf("received %.50q, want %.50q", got, text)
		}
	}
}

// Connections of clients and servers become compact when they are quiet, go on, and what the
// handshake has agreed on stays known.
func TestCompactTLS(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	defer cancel()
	for _, keep := range []bool{false, true} {
		compact := socket.CompactTLS{After: 50 * time.Millisecond, KeepCertificates: keep}
		l := compactServer(ctx, t, compact)
		clientTLS, _ := compactTLS()
		before, _ := socket.Compact()
		c := client.New(client.Config{TLS: clientTLS, CompactTLS: compact})
		leaktest.Check(t, c.Connect(ctx, "tls", l.Addr().String()))
		trip(ctx, t, c, "first")
		was, _ := c.Socket().ConnectionState()
		identity, _ := c.Socket().PeerIdentity()
		both := func() bool { now, _ := socket.Compact(); return now == before+2 }
		leaktest.Until(t, "both ends are compact", both)
		for _, text := range []string{"second", strings.Repeat("x", 100_000), "third"} {
			trip(ctx, t, c, text)
		}
		is, ok := c.Socket().ConnectionState()
		if !ok || is.Version != was.Version || is.CipherSuite != was.CipherSuite || is.CurveID != was.CurveID ||
			is.NegotiatedProtocol != "a" || is.ServerName != was.ServerName || len(is.PeerCertificates) > 0 != keep {
			t.Errorf("%+v\nwas %+v", is, was)
		}
		if id, ok := c.Socket().PeerIdentity(); !ok || id.SHA256 != identity.SHA256 || !id.Verified {
			t.Errorf("%+v", id)
		}
		// Again, with somebody in Recv.
		received := make(chan string, 1)
		runtime.Go(ctx, func(ctx context.Context) {
			p, err := c.Recv(ctx)
			if err != nil {
				t.Error(err)
			}
			received <- string(p)
		})
		time.Sleep(3 * compact.After) // the test holds if it isn't at rest yet
		if _, err := c.Send(ctx, []byte("fourth")); err != nil {
			t.Fatal(err)
		}
		if got := <-received; got != "fourth" {
			t.Errorf("%q", got)
		}
		c.Close()
		leaktest.Until(t, "both have ended", func() bool { now, _ := socket.Compact(); return now == before })
	}
}

// Connections that are never quiet become compact, too, wherever in a stream of records that is.
func TestBusyBecomesCompact(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	defer cancel()
	compact := socket.CompactTLS{After: 20 * time.Millisecond}
	l := compactServer(ctx, t, compact)
	clientTLS, _ := compactTLS()
	before, _ := socket.Compact()
	c := client.New(client.Config{TLS: clientTLS, CompactTLS: compact})
	defer c.Abort()
	leaktest.Check(t, c.Connect(ctx, "tls", l.Addr().String()))
	sent := make(chan error, 1)
	var enough atomic.Bool
	runtime.Go(ctx, func(ctx context.Context) { // never waits for what comes back
		p := make([]byte, 50_000)
		for i := byte(0); !enough.Load(); i++ {
			for j := range p {
				p[j] = i
			}
			if _, err := c.Send(ctx, p); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	})
	var got int
	for more := 10; more > 0; {
		p, err := c.Recv(ctx)
		leaktest.Check(t, err)
		for _, b := range p {
			if b != byte(got/50_000) {
				t.Fatalf("byte %d is %d", got, b)
			}
			got++
		}
		if now, _ := socket.Compact(); now == before+2 {
			more-- // goes on for a while
		}
	}
	enough.Store(true)
	for len(sent) == 0 {
		_, err := c.Recv(ctx) // the server takes what it has sent back
		leaktest.Check(t, err)
	}
	leaktest.Check(t, <-sent)
}

// A client whose connection has become compact resumes its session with the next one.
func TestCompactResumption(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	defer cancel()
	compact := socket.CompactTLS{After: 20 * time.Millisecond}
	l := compactServer(ctx, t, compact)
	config, _ := compactTLS()
	config = config.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 3 {
		before, _ := socket.Compact()
		c := client.New(client.Config{TLS: config, CompactTLS: compact})
		leaktest.Check(t, c.Connect(ctx, "tls", l.Addr().String()))
		for _, text := range []string{"first", "second"} {
			trip(ctx, t, c, text)
			leaktest.Until(t, "both ends are compact", func() bool {
				now, _ := socket.Compact()
				return now == before+2
			})
		}
		cs, _ := c.Socket().ConnectionState()
		if id, ok := c.Socket().PeerIdentity(); cs.DidResume != (i > 0) || !ok || !id.Verified {
			t.Errorf("connection %d: resumed is %v, %+v", i, cs.DidResume, id)
		}
		c.Close()
		leaktest.Until(t, "both have ended", func() bool {
			now, _ := socket.Compact()
			return now == before
		})
	}
}

// The ends of crypto/tls and of a compact connection see each other's ends, in order and not.
func TestCompactEnds(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	ctx, cancel := context.WithTimeout(rt.Context(), leaktest.Patience)
	defer cancel()
	clientTLS, serverTLS := compactTLS()
	for name, c := range map[string]struct {
		end  func(conn *tls.Conn)
		want error
	}{
		"close_notify": {func(conn *tls.Conn) { conn.Close() }, io.EOF},
		"truncated":    {func(conn *tls.Conn) { conn.NetConn().(*net.TCPConn).CloseWrite() }, socket.ErrTruncated},
		"forged": {func(conn *tls.Conn) {
			conn.NetConn().Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
		}, tls.AlertError(20)},
		"not a record": {func(conn *tls.Conn) { conn.NetConn().Write([]byte("HTTP/1.1 400")) }, tls.AlertError(10)},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			leaktest.Check(t, err)
			defer l.Close()
			alerts := make(chan error, 1)
			go func() {
				conn, err := tls.NewListener(l, serverTLS).Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				buf := make([]byte, 100)
				conn.Read(buf)
				conn.Write([]byte("welcome"))
				conn.Read(buf)
				c.end(conn.(*tls.Conn))
				_, err = conn.Read(buf)
				alerts <- err
			}()
			before, _ := socket.Compact()
			cl := client.New(client.Config{TLS: clientTLS, CompactTLS: socket.CompactTLS{After: 20 * time.Millisecond}})
			leaktest.Check(t, cl.Connect(ctx, "tls", l.Addr().String()))
			cl.Send(ctx, []byte("hello"))
			_, err = cl.Recv(ctx)
			leaktest.Check(t, err)
			leaktest.Until(t, "it is compact", func() bool { now, _ := socket.Compact(); return now == before+1 })
			cl.Send(ctx, []byte("go"))
			if _, err := cl.Recv(ctx); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			cl.Close()
			if alert, ok := errors.AsType[tls.AlertError](c.want); ok {
				if err := <-alerts; err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(alert.Error(), "tls: ")) {
					t.Errorf("the peer was told %v, want %v", err, alert)
				}
			}
		})
	}
}
