//go:build linux

package client_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// script is one connection of a server that does what the test says. A failure ends the script, and
// the test has failed.
type script struct {
	t testing.TB
	net.Conn
	raw   net.Conn      // below TLS
	hasty bool          // the client may leave at any time
	over  chan struct{} // closed when the test is over
}

// serve starts a server on the loopback that runs play for each connection, and returns its
// address. At the end of the test the connections that are still open are closed, and the scripts
// have to end.
func serve(t testing.TB, play func(s *script)) (address string) {
	t.Helper()
	return serveOn(t, "tcp", "127.0.0.1:0", play)
}

func serveOn(t testing.TB, network, address string, play func(s *script)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	check(t, err)
	var mu sync.Mutex
	var open []net.Conn
	var scripts sync.WaitGroup
	over := make(chan struct{})
	scripts.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			conn.SetDeadline(time.Now().Add(patience))
			scripts.Go(func() {
				defer conn.Close()
				play(&script{t: t, Conn: conn, raw: conn, over: over})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		scripts.Wait()
	})
	return l.Addr().String()
}

// socketPath returns a path for a Unix socket.
func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "s") }

// ok ends the script if err is an error. That is a failure of the test, unless the test is over or
// the client may leave at any time.
func (s *script) ok(err error) {
	s.t.Helper()
	if err == nil {
		return
	}
	if !s.hasty && !errors.Is(err, net.ErrClosed) {
		s.t.Errorf("script: %v", err)
	}
	goruntime.Goexit()
}

func (s *script) say(text string) {
	s.t.Helper()
	_, err := io.WriteString(s.Conn, text)
	s.ok(err)
}

// hear expects the client to say this.
func (s *script) hear(text string) {
	s.t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(s.Conn, got)
	s.ok(err)
	if string(got) != text {
		s.ok(errors.New("heard " + string(got) + ", want " + text))
	}
}

// idle neither reads nor says anything until the test is over.
func (s *script) idle() { <-s.over }

// rest returns all that the client still says until it leaves.
func (s *script) rest() []byte {
	got, _ := io.ReadAll(s.Conn) // a reset is a way of leaving
	return got
}

// secure makes a TLS handshake that has to succeed. What follows is said and heard over TLS.
func (s *script) secure(config *tls.Config) {
	s.t.Helper()
	s.ok(s.handshake(s.raw, config))
}

// handshake makes a TLS handshake over conn, which is s.raw or something in front of it. If it
// fails, it sees to it that the client gets the alert: to close with something unread would reset
// the connection.
func (s *script) handshake(conn net.Conn, config *tls.Config) error {
	secured := tls.Server(conn, config)
	err := secured.Handshake()
	if err != nil {
		s.halfClose()
		io.Copy(io.Discard, s.raw)
		return err
	}
	s.Conn = secured
	return nil
}

// halfClose ends what the server says, below TLS.
func (s *script) halfClose() { s.raw.(interface{ CloseWrite() error }).CloseWrite() }

// reset resets the connection.
func (s *script) reset() {
	s.ok(s.raw.(*net.TCPConn).SetLinger(0))
	s.ok(s.raw.Close())
}

// authority has issued the certificates of the tests.
var authority = sync.OnceValue(func() *devca.CA {
	ca, err := devca.New("Whorl Test CA")
	if err != nil {
		panic(err)
	}
	return ca
})

// certificate is the servers', for localhost, 127.0.0.1 and mail.test.
var certificate = sync.OnceValue(func() tls.Certificate {
	cert, err := authority().Issue("localhost", "127.0.0.1", "mail.test")
	if err != nil {
		panic(err)
	}
	return cert
})

// serverTLS returns a configuration for servers, of its own for each.
func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certificate()}} }

// trusting returns a configuration for clients.
func trusting() *tls.Config { return &tls.Config{RootCAs: authority().Pool()} }

// tapped is a connection whose reads and writes go by the test first.
type tapped struct {
	net.Conn
	onRead  func(p []byte) error        // sees what was read
	onWrite func(p []byte) (int, error) // writes, in place of Conn.Write
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.onRead != nil {
		err = c.onRead(p[:n])
	}
	return n, err
}

func (c *tapped) Write(p []byte) (int, error) {
	if c.onWrite != nil {
		return c.onWrite(p)
	}
	return c.Conn.Write(p)
}
