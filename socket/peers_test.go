//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// withPeers runs main as run does, waits for the goroutines that it has started as peers, and
// checks that all sockets are closed again.
func withPeers(t *testing.T, main func(ctx context.Context, peers *sync.WaitGroup), options ...runtime.Option) {
	t.Helper()
	wakeNetpoll(t)
	before := descriptors(t)
	withPeersBeside(t, main, options...)
	if after := descriptors(t); len(after) != len(before) {
		t.Errorf("descriptors before: %v, after: %v", before, after)
	}
}

// withPeersBeside is withPeers beside other tests, whose descriptors can't be told apart.
func withPeersBeside(
	t *testing.T, main func(ctx context.Context, peers *sync.WaitGroup), options ...runtime.Option,
) {
	t.Helper()
	var peers sync.WaitGroup
	run(t, func(ctx context.Context) { main(ctx, &peers) }, options...)
	peers.Wait()
}

// wakeNetpoll has package net make the descriptors that it keeps for good.
func wakeNetpoll(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// descriptors lists the open sockets of the process.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			list = append(list, e.Name()+" "+to)
		}
	}
	return list
}

// certified is the configuration of a client and of a server that trust each other.
var certified = sync.OnceValues(func() (client, server *tls.Config) {
	ca, err := devca.New("socket test")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		panic(err)
	}
	return &tls.Config{ServerName: "mail.test", RootCAs: ca.Pool()}, &tls.Config{Certificates: []tls.Certificate{cert}}
})

// configs returns copies of the two configurations, for one version of TLS; 0 for any.
func configs(version uint16) (client, server *tls.Config) {
	c, s := certified()
	client, server = c.Clone(), s.Clone()
	client.MinVersion, client.MaxVersion = version, version
	server.MinVersion, server.MaxVersion = version, version
	return client, server
}

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

var unixNames atomic.Int64

// unixName returns a name in the abstract namespace.
func unixName() string { return fmt.Sprintf("@whorl-socket-test-%d-%d", os.Getpid(), unixNames.Add(1)) }

// listenAddress is where a listener of the network is put.
func listenAddress(network string) string {
	if network == "unix" {
		return unixName()
	}
	return "127.0.0.1:0"
}

// connected makes two Sockets that are connected to each other: by "tcp" or "unix" through a
// listener, by "pair" through Pair.
func connected(ctx context.Context, t testing.TB, network string) (client, server *socket.Socket) {
	t.Helper()
	if network == "pair" {
		client, server, err := socket.Pair(ctx, "unix")
		if err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	l, err := socket.Listen(ctx, network, listenAddress(network))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Abort()
	if client, err = socket.New(network); err != nil {
		t.Fatal(err)
	}
	if err := client.Connect(ctx, l.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// dialed connects a Socket, as the client, to a connection of package net.
func dialed(ctx context.Context, t testing.TB, network string) (*socket.Socket, net.Conn) {
	t.Helper()
	l, err := net.Listen(network, listenAddress(network))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := socket.New(network)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(ctx, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept() // doesn't block: the kernel has completed the connection
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// accepted connects a Socket, as the server, to a connection of package net.
func accepted(ctx context.Context, t testing.TB, network string) (*socket.Socket, net.Conn) {
	t.Helper()
	l, err := socket.Listen(ctx, network, listenAddress(network))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Abort()
	c, err := net.Dial(network, l.LocalAddr().String()) // doesn't wait for Accept
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// joined makes two connections of package net that are connected to each other.
func joined(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", unixName())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// await waits in a coroutine for something that blocks.
func await(ctx context.Context, fn func()) {
	runtime.Await(ctx, func() (struct{}, error) { fn(); return struct{}{}, nil })
}

// until yields to the loop until the condition holds.
func until(ctx context.Context, condition func() bool) {
	for !condition() {
		runtime.Yield(ctx)
	}
}

// pattern returns n bytes, 32 MiB at most, that look random and are the same each time. They must
// not be changed.
func pattern(n int) []byte { return random()[:n:n] }

var random = sync.OnceValue(func() []byte {
	p := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{'w'}).Read(p)
	return p
})

// mustBe compares what came with what was sent.
func mustBe(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) > 100 || len(want) > 100 {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		t.Errorf("got %d bytes, want %d, different from byte %d on", len(got), len(want), i)
		return
	}
	t.Errorf("got %q, want %q", got, want)
}

// waiting reports whether somebody waits in the runtime for what state says, such as "socket recv".
// It must not be called on a loop.
func waiting(rt *runtime.Runtime, state string) bool {
	for _, co := range rt.List() {
		if co.State == state {
			return true
		}
	}
	return false
}

// unread returns how many bytes wait in the kernel's receive queue of a Socket.
func unread(s *socket.Socket) int {
	n, err := unix.IoctlGetInt(s.FD(), unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// trickle forwards src to dst byte by byte. If to is not nil it is the Socket at the other end of
// dst, and each byte is sent only when the one before has been read, so that each read gets one. It
// ends, and half-closes dst, when src does.
func trickle(dst, src net.Conn, to *socket.Socket) {
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		for i := range n {
			if _, err := dst.Write(buf[i : i+1]); err != nil {
				return
			}
			for to != nil && to.Connected() && unread(to) > 0 {
				goruntime.Gosched()
			}
		}
		if err != nil {
			if half, ok := dst.(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			}
			return
		}
	}
}

// tape is a net.Conn that keeps what is written to it, so that a test can deliver it as it likes.
type tape struct {
	net.Conn
	bytes.Buffer
}

func (t *tape) Write(p []byte) (int, error) { return t.Buffer.Write(p) }
func (t *tape) Read(p []byte) (int, error)  { return t.Conn.Read(p) }

// The deadlines that crypto/tls sets around its alerts are for writes that happen later here.
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// deliver writes what is on the tape to the connection.
func (t *tape) deliver() error {
	_, err := t.Buffer.WriteTo(t.Conn)
	return err
}

// corked is a net.Conn that writes when it is read from, or told to: what is written in between
// arrives together.
type corked struct{ tape }

func (c *corked) Read(p []byte) (int, error) {
	if err := c.deliver(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// read reads n bytes, in a peer.
func read(t testing.TB, r io.Reader, n int) []byte {
	p := make([]byte, n)
	if n, err := io.ReadFull(r, p); err != nil {
		t.Errorf("peer: read %d of %d bytes: %v", n, len(p), err)
		return p[:n]
	}
	return p
}
