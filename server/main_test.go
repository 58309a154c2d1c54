//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = leaktest.Patience

// What other packages' tests have, too.
var (
	until     = leaktest.Until
	check     = leaktest.Check
	wantError = leaktest.WantError
)

// loops is how many event loops a test's runtime has.
const loops = 2

// house is a server with a runtime of its own. It is closed at the end of the test, and must leave
// neither goroutines nor descriptors behind.
type house struct {
	*server.Server
	t      testing.TB
	rt     *runtime.Runtime
	log    *observer.ObservedLogs
	served chan error // what Serve has returned; nil if it was not called
}

// houses counts those that are open.
var houses atomic.Int32

// open makes a server that doesn't serve yet.
func open(t testing.TB, config server.Config) *house {
	t.Helper()
	if houses.Add(1) == 1 { // the first one looks, after the others have been closed
		leaktest.GuardFor(t, 4*patience)
	}
	t.Cleanup(func() { houses.Add(-1) })
	core, log := observer.New(zapcore.WarnLevel)
	rt := runtimetest.Start(t, runtime.WithLoops(loops), runtime.WithLogger(zap.New(core)), runtime.WithWatchdog(0))
	h := &house{Server: server.New(config), t: t, rt: rt, log: log}
	t.Cleanup(func() {
		h.Close()
		if h.served != nil {
			receive(t, h.served)
		}
	})
	return h
}

// ctx carries the runtime.
func (h *house) ctx() context.Context { return h.rt.Context() }

// listen listens, on a free port of the loopback or an abstract name.
func (h *house) listen(network string) *server.Listener {
	h.t.Helper()
	l, err := h.Listen(h.ctx(), network, anyAddress(network))
	check(h.t, err)
	return l
}

func (h *house) listenPort(network string, port server.Port) *server.Listener {
	h.t.Helper()
	l, err := h.ListenPort(h.ctx(), network, anyAddress(network), port)
	check(h.t, err)
	return l
}

// serve has Serve run beside the test.
func (h *house) serve() *house {
	served := make(chan error, 1)
	h.served = served
	go func() {
		served <- h.Serve(h.ctx())
		close(served)
	}()
	return h
}

// start makes a server with one listener that serves.
func start(t testing.TB, network string, config server.Config) (*house, *server.Listener) {
	t.Helper()
	h := open(t, config)
	l := h.listen(network)
	return h.serve(), l
}

// logged reports whether a line of the log contains a text.
func (h *house) logged(text string) bool {
	for _, e := range h.log.All() {
		if strings.Contains(e.Message, text) || strings.Contains(fmt.Sprint(e.ContextMap()), text) {
			return true
		}
	}
	return false
}

// settled waits until the server has no connection any more, and checks that its figures add up.
func (h *house) settled() {
	h.t.Helper()
	until(h.t, "no connection is left", func() bool { return h.Stats().Connections == 0 })
	until(h.t, "all is counted out", func() bool {
		st := h.Stats()
		return st.Accepted == st.Closed && st.Opening == 0 && st.Waiting == 0 && st.Handshaking == 0 &&
			st.BuffersFull == 0 && st.Lingering == 0 && st.Queued == 0
	})
	if server.Addresses(h.Server) != 0 {
		h.t.Errorf("%d addresses are still counted", server.Addresses(h.Server))
	}
}

func anyAddress(network string) string {
	switch network {
	case "tcp6", "tls6", "udp6":
		return "[::1]:0"
	case "unix", "unixgram":
		return abstractName()
	}
	return "127.0.0.1:0"
}

var abstractNames struct {
	sync.Mutex
	n int
}

func abstractName() string {
	abstractNames.Lock()
	defer abstractNames.Unlock()
	abstractNames.n++
	return fmt.Sprintf("@whorl-server-test-%d-%d", os.Getpid(), abstractNames.n)
}

// socketPath returns a path for a Unix socket.
func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "s") }

// dial connects to a listener, from an address if one is given. The connection is closed at the end
// of the test.
func dial(t testing.TB, l *server.Listener, from ...string) net.Conn {
	t.Helper()
	var d net.Dialer
	if len(from) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from[0])}
	}
	return dialBy(t, d, l)
}

func dialBy(t testing.TB, d net.Dialer, l *server.Listener) net.Conn {
	t.Helper()
	d.Timeout = patience
	conn, err := d.Dial(l.Addr().Network(), l.Addr().String())
	check(t, err)
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// dialNarrow is dial with the smallest buffer for what comes.
func dialNarrow(t testing.TB, l *server.Listener) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return errors.Join(err, controlErr)
	}}
	return dialBy(t, d, l)
}

// certified is the configuration of a client and of a server that trust each other.
var certified = sync.OnceValues(func() (client, server *tls.Config) {
	ca, err := devca.New("server test")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		panic(err)
	}
	return &tls.Config{ServerName: "mail.test", RootCAs: ca.Pool()}, &tls.Config{Certificates: []tls.Certificate{cert}}
})

func clientTLS() *tls.Config { c, _ := certified(); return c.Clone() }
func serverTLS() *tls.Config { _, s := certified(); return s.Clone() }

// dialTLS is dial with a TLS handshake.
func dialTLS(t testing.TB, l *server.Listener) *tls.Conn {
	t.Helper()
	conn := tls.Client(dial(t, l), clientTLS())
	check(t, conn.Handshake())
	return conn
}

// dialAs is dial, or dialTLS if secure.
func dialAs(t testing.TB, l *server.Listener, secure bool) net.Conn {
	t.Helper()
	if secure {
		return dialTLS(t, l)
	}
	return dial(t, l)
}

func write(t testing.TB, conn io.Writer, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	check(t, err)
}

// expect reads exactly this.
func expect(t testing.TB, conn io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(conn, got)
	if err != nil || string(got) != want {
		t.Fatalf("read %.100q, %v; want %.100q", got[:n], err, want)
	}
}

// expectEnd reads to the end of the stream, and gets nothing.
func expectEnd(t testing.TB, conn io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(conn)
	if len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %.100q, %v; want the end", rest, err)
	}
}

// trip is one round trip with an echo server.
func trip(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	write(t, conn, text)
	expect(t, conn, text)
}

// reset ends a TCP connection by a reset.
func reset(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// echo is a handler that sends packets back.
func echo(ctx context.Context, c *server.Conn) {
	for {
		pkt, err := c.Recv(ctx)
		if err != nil {
			return
		}
		if _, err := c.Send(ctx, pkt); err != nil {
			return
		}
	}
}

// echoBack is echo as a callback.
func echoBack(ctx context.Context, c *server.Conn, pkt []byte) { c.Send(ctx, pkt) }

// styles are echo servers in both styles of serving.
func styles() map[string]server.Port {
	return map[string]server.Port{"handler": {Handle: echo}, "callbacks": {OnReceive: echoBack}}
}

// eachStyle runs a test with an echo server in each of the styles.
func eachStyle(t *testing.T, test func(t *testing.T, port server.Port)) {
	for name, port := range styles() {
		t.Run(name, func(t *testing.T) { test(t, port) })
	}
}

// receive takes a value from a channel.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("nothing came in time")
	}
	return v
}

// await waits in a handler for what happens elsewhere.
func await[T any](ctx context.Context, ch <-chan T) (v T) {
	v, _ = runtime.Await(ctx, func() (T, error) { return <-ch, nil })
	return v
}

// pattern returns n bytes, 16 MiB at most, that look random and are the same each time. They must
// not be changed.
func pattern(n int) []byte { return random()[:n:n] }

var random = sync.OnceValue(func() []byte {
	p := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{'w'}).Read(p)
	return p
})

// fileLimit returns how many descriptors the process may have.
func fileLimit(t testing.TB) int {
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	return int(min(limit.Cur, 1<<20))
}

// tlsOver is a client's TLS over a connection.
func tlsOver(conn net.Conn) net.Conn { return tls.Client(conn, clientTLS()) }

func addrPort(l *server.Listener) int { return l.Addr().(*net.TCPAddr).Port }
