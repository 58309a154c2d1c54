//go:build linux

package starttls_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var (
	check     = leaktest.Check
	wantError = leaktest.WantError
	quiet     = runtimetest.Quiet(nil)
)

// both runs a test in a coroutine and again on a plain goroutine.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Both(t, runtimetest.Quiet, test)
}

// coroutine runs a test in a coroutine.
func coroutine(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Coroutine(t, runtimetest.Quiet, test)
}

var authority = sync.OnceValue(func() *devca.CA {
	ca, err := devca.New("Whorl Test CA")
	if err != nil {
		panic(err)
	}
	return ca
})

// serverTLS is a server's configuration with a certificate for localhost and 127.0.0.1, unless
// there are other names.
func serverTLS(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1"}
	}
	certificate, err := authority().Issue(names...)
	check(t, err)
	return &tls.Config{Certificates: []tls.Certificate{certificate}}
}

// config is the clients'.
func config() client.Config {
	return client.Config{EOF: "\r\n", TLS: &tls.Config{RootCAs: authority().Pool()}}
}

// A script is one connection of a server that does what a test says.
type script struct {
	t testing.TB
	net.Conn
	raw    *tap
	single bool // each byte is written by itself
}

// A tap keeps what the client sends, encrypted or not, and may write byte by byte.
type tap struct {
	net.Conn
	single bool

	mu    sync.Mutex
	heard []byte
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, p[:n]...)
	return n, err
}

func (c *tap) Write(p []byte) (int, error) {
	if !c.single {
		return c.Conn.Write(p)
	}
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A server runs a script for one connection.
type server struct {
	address string
	wire    *tap
	over    chan struct{} // closed when the client has gone
}

// plaintext returns what the client has sent before TLS, when it has gone: its loop has to run.
func (s *server) plaintext(ctx context.Context) string {
	runtime.Await(ctx, func() (struct{}, error) { <-s.over; return struct{}{}, nil })
	heard, _, _ := strings.Cut(string(s.wire.heard), "\x16\x03\x01")
	return heard
}

// serve starts a server on the loopback. After the script it listens until the client closes.
func serve(t testing.TB, single bool, play func(s *script)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &server{address: l.Addr().String(), over: make(chan struct{}), wire: &tap{single: single}}
	go func() {
		defer close(s.over)
		conn, err := l.Accept()
		l.Close()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(leaktest.Patience))
		s.wire.Conn = conn
		defer io.Copy(io.Discard, s.wire)
		play(&script{t: t, Conn: s.wire, raw: s.wire, single: single})
	}()
	t.Cleanup(func() { l.Close(); <-s.over })
	return s
}

// say ends the script if the client has gone.
func (s *script) say(text string) {
	if _, err := io.WriteString(s.Conn, text); err != nil {
		goruntime.Goexit()
	}
}

// hear waits for as many bytes as text has, which must be those.
func (s *script) hear(text string) {
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s.Conn, got); err != nil {
		goruntime.Goexit()
	}
	if string(got) != text {
		s.t.Errorf("the client said %q, want %q", got, text)
		goruntime.Goexit()
	}
}

// dialogue says an answer before each of the client's commands, and one behind the last.
func (s *script) dialogue(commands []string, answers ...string) {
	for i, answer := range answers {
		s.say(answer)
		if i < len(commands) {
			s.hear(commands[i])
		}
	}
}

// secure makes a handshake. What follows is said and heard over TLS.
func (s *script) secure(config *tls.Config) {
	conn := tls.Server(s.raw, config)
	if err := conn.Handshake(); err != nil {
		s.halfClose() // so that the client gets the alert
		io.Copy(io.Discard, s.raw)
		goruntime.Goexit()
	}
	s.Conn = conn
}

func (s *script) halfClose() { s.raw.Conn.(*net.TCPConn).CloseWrite() }

// dial connects a client, which is closed at the end of the test.
func dial(ctx context.Context, t testing.TB, config client.Config, address string) *client.Client {
	t.Helper()
	c := client.New(config)
	check(t, c.Connect(ctx, "tcp", address))
	t.Cleanup(func() { c.Abort() })
	return c
}

// wantFailure checks the error of an upgrade, and that the connection is closed.
func wantFailure(ctx context.Context, t testing.TB, c *client.Client, err error,
	phase starttls.Phase, causes ...error) *starttls.Error {
	t.Helper()
	failure, ok := errors.AsType[*starttls.Error](err)
	if !ok {
		t.Fatalf("error: %v, want a *starttls.Error", err)
	}
	if failure.Phase != phase || !strings.HasPrefix(err.Error(),
		"starttls: "+string(failure.Protocol)+": "+string(phase)+": ") {
		t.Errorf("it failed in %s (%v), want %s", failure.Phase, err, phase)
	}
	for _, cause := range causes {
		wantError(t, "Upgrade", err, cause)
	}
	_, sent := c.Send(ctx, []byte("AUTH PLAIN c2VjcmV0\r\n"))
	_, received := c.Recv(ctx)
	if !errors.Is(sent, net.ErrClosed) || !errors.Is(received, net.ErrClosed) || c.Connected() {
		t.Errorf("the connection is open: %v, %v", sent, received)
	}
	return failure
}

// exampleServer serves one connection, to which it gives this answer to STARTTLS.
func exampleServer(answer string) (address string, roots *x509.CertPool) {
	certificate, err := authority().Issue("127.0.0.1")
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		conn, err := l.Accept()
		l.Close()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "220 mail.test\r\n")
		commands := bufio.NewReader(conn)
		commands.ReadString('\n')
		io.WriteString(conn, "250-mail.test\r\n250 STARTTLS\r\n")
		commands.ReadString('\n')
		io.WriteString(conn, answer)
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		commands = bufio.NewReader(secure)
		commands.ReadString('\n')
		io.WriteString(secure, "250-mail.test\r\n250 AUTH PLAIN\r\n")
		io.Copy(io.Discard, commands)
	}()
	return l.Addr().String(), authority().Pool()
}
