//go:build linux

package hooks_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// streamOptions are context options as PHP writes them.
type streamOptions = map[string]map[string]any

func withContext(t testing.TB, options streamOptions) hooks.StreamOption {
	t.Helper()
	c, err := hooks.StreamContextCreate(options)
	check(t, err)
	return hooks.WithStreamContext(c)
}

// streamCertificate is a certificate for localhost, and the authority that has issued it.
var streamCertificate = sync.OnceValues(func() (ca *devca.CA, cert tls.Certificate) {
	ca, err := devca.New("test")
	if err == nil {
		cert, err = ca.Issue("localhost", "127.0.0.1", "::1")
	}
	if err != nil {
		panic(err)
	}
	return ca, cert
})

// certFile has the certificate with its key, as local_cert does; caFile has the authority.
func certFile(t testing.TB) string {
	_, cert := streamCertificate()
	path := filepath.Join(t.TempDir(), "server.pem")
	check(t, devca.WritePEM(cert, path, path))
	return path
}

func caFile(t testing.TB) string {
	ca, _ := streamCertificate()
	path := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(path, ca.PEM(), 0o600))
	return path
}

// serverSSL and clientSSL are contexts of two that trust each other, with more options.
func serverSSL(t testing.TB, more ...map[string]any) hooks.StreamOption {
	t.Helper()
	return sslWith(t, "local_cert", certFile(t), more)
}

func clientSSL(t testing.TB, more ...map[string]any) hooks.StreamOption {
	t.Helper()
	return sslWith(t, "cafile", caFile(t), more)
}

func sslWith(t testing.TB, name, path string, more []map[string]any) hooks.StreamOption {
	t.Helper()
	ssl := map[string]any{name: path}
	for _, m := range more {
		for name, value := range m {
			ssl[name] = value
		}
	}
	return withContext(t, streamOptions{"ssl": ssl})
}

func streamServer(ctx context.Context, t testing.TB, url string, options ...hooks.StreamOption) *hooks.Stream {
	t.Helper()
	s, err := hooks.StreamSocketServer(ctx, url, options...)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// streamPair returns two ends of a connection over a transport: "tcp", "unix", "pair" or "tls".
func streamPair(ctx context.Context, t testing.TB, transport string) (client, server *hooks.Stream) {
	t.Helper()
	defer func() {
		t.Cleanup(func() { client.Close(); server.Close() })
	}()
	var options, serverOptions []hooks.StreamOption
	url := transport + "://127.0.0.1:0"
	switch transport {
	case "pair":
		a, b, err := hooks.StreamSocketPair(ctx, "unix")
		check(t, err)
		return a, b
	case "unix":
		url = "unix://" + filepath.Join(t.TempDir(), "s")
	case "tls":
		options, serverOptions = []hooks.StreamOption{clientSSL(t)}, []hooks.StreamOption{serverSSL(t)}
	}
	listener := streamServer(ctx, t, url, serverOptions...)
	if transport != "unix" {
		url = transport + "://" + listener.GetName(false)
	}
	accepted := beside(ctx, t, func(ctx context.Context) (err error) {
		server, err = hooks.StreamSocketAccept(ctx, listener, patience)
		return err
	})
	client, err := hooks.StreamSocketClient(ctx, url, options...)
	check(t, err)
	check(t, accepted())
	return client, server
}

// connections are the kinds of connections that a test of both ends is run over.
var connections = []string{"tcp", "unix", "pair", "tls"}

// overStreams runs a test over all kinds of connections, from a coroutine and from a goroutine.
func overStreams(t *testing.T, test func(ctx context.Context, t *testing.T, client, server *hooks.Stream)) {
	for _, transport := range connections {
		t.Run(transport, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				client, server := streamPair(ctx, t, transport)
				test(ctx, t, client, server)
				client.Close()
				server.Close()
			})
		})
	}
}

func write(ctx context.Context, t testing.TB, s *hooks.Stream, text string) {
	t.Helper()
	if n, err := s.Write(ctx, []byte(text)); n != len(text) || err != nil {
		t.Fatalf("write %.20q: %d, %v", text, n, err)
	}
}

// readFull reads exactly as much as want has.
func readFull(ctx context.Context, t testing.TB, s *hooks.Stream, want string) {
	t.Helper()
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := s.Read(ctx, got[len(got):cap(got)])
		got = got[:len(got)+n]
		if err != nil {
			t.Fatalf("read %.40q, %v; want %.40q", got, err, want)
		}
	}
	if string(got) != want {
		t.Fatalf("read %.40q, want %.40q", got, want)
	}
}

func TestStreamsCarryBothWays(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		write(ctx, t, client, "ping")
		readFull(ctx, t, server, "ping")
		write(ctx, t, server, "pong")
		readFull(ctx, t, client, "pong")
		check(t, client.Close())
		if n, err := server.Read(ctx, make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("after the peer has closed: %d, %v", n, err)
		}
		if m := server.GetMetaData(); !m.EOF || !server.EOF() || m.TimedOut {
			t.Errorf("metadata %+v", m)
		}
		wantError(t, "second Close", client.Close(), net.ErrClosed)
		_, err := client.Read(ctx, make([]byte, 1))
		wantError(t, "read of a closed stream", err, net.ErrClosed)
		_, err = client.Write(ctx, []byte("x"))
		wantError(t, "write to a closed stream", err, net.ErrClosed)
	})
}

func TestReadsOfAnySize(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		text := strings.Repeat("0123456789abcdef", 150_000) // 2.4 MB: more than any buffer on the way, and than the reads below can take together
		written := beside(ctx, t, func(ctx context.Context) error {
			_, err := client.Write(ctx, []byte(text))
			return err
		})
		at := 0
		for _, size := range []int{1, 7, 1 << 20, 4096, 0, 65_537} {
			p := make([]byte, size)
			n, err := server.Read(ctx, p)
			check(t, err)
			if size > 0 && n == 0 || string(p[:n]) != text[at:at+n] {
				t.Fatalf("read of %d: %d bytes, not those of the text", size, n)
			}
			at += n
		}
		readFull(ctx, t, server, text[at:])
		check(t, written())
	})
}

func TestTimeoutLosesNothing(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		check(t, server.SetTimeout(20*time.Millisecond))
		_, err := server.Read(ctx, make([]byte, 10))
		wantError(t, "read", err, runtime.ErrTimeout)
		wantError(t, "read", err, os.ErrDeadlineExceeded)
		if m := server.GetMetaData(); !m.TimedOut || m.EOF {
			t.Errorf("metadata %+v", m)
		}
		write(ctx, t, client, "half a li")
		becomes(ctx, t, "half a line has arrived", func() bool {
			_, err := server.Gets(ctx, 100)
			wantError(t, "gets", err, runtime.ErrTimeout)
			return server.GetMetaData().UnreadBytes == 9
		})
		write(ctx, t, client, "ne\nnext")
		check(t, server.SetTimeout(patience))
		if line, err := server.Gets(ctx, 100); line != "half a line\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		if m := server.GetMetaData(); m.TimedOut {
			t.Errorf("metadata %+v", m)
		}
		readFull(ctx, t, server, "next")
	})
}

func TestWriteTimeoutCountsExactly(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		text := strings.Repeat("abcdefghijklmnopqrstuvwxyz", 1<<20)
		check(t, client.SetTimeout(50*time.Millisecond))
		n, err := client.Write(ctx, []byte(text))
		wantError(t, "write", err, runtime.ErrTimeout)
		if m := client.GetMetaData(); !m.TimedOut || n <= 0 || n >= len(text) {
			t.Fatalf("%d bytes written, metadata %+v", n, m)
		}
		check(t, client.SetTimeout(patience))
		rest := beside(ctx, t, func(ctx context.Context) error {
			_, err := client.Write(ctx, []byte(text[n:]))
			return err
		})
		readFull(ctx, t, server, text)
		check(t, rest())
	})
}

func TestStreamsThatDoNotBlock(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		client.SetBlocking(false)
		server.SetBlocking(false)
		if server.GetMetaData().Blocked {
			t.Error("metadata say that it is blocking")
		}
		for what, op := range map[string]func() error{
			"read":     func() error { _, err := server.Read(ctx, make([]byte, 9)); return err },
			"gets":     func() error { _, err := server.Gets(ctx, 9); return err },
			"peek":     func() error { _, _, err := server.RecvFrom(ctx, make([]byte, 9), hooks.StreamPeek); return err },
			"recvfrom": func() error { _, _, err := server.RecvFrom(ctx, make([]byte, 9), 0); return err },
			"copy":     func() error { _, err := server.Copy(ctx, client, -1); return err },
		} {
			err := op()
			if err != hooks.ErrWouldBlock || !errors.Is(err, socket.ErrWouldBlock) || socket.Code(err) != int(syscall.EAGAIN) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if m := server.GetMetaData(); m.EOF || m.TimedOut {
			t.Errorf("metadata %+v", m)
		}
		// What fits goes out, the rest is refused, and nothing is lost or doubled.
		chunk := bytes.Repeat([]byte("0123456789"), 10_000)
		total := 0
		for {
			n, err := client.Write(ctx, chunk[total%len(chunk):])
			total += n
			if err == hooks.ErrWouldBlock {
				break
			}
			check(t, err)
			if n == 0 || total > 1<<30 {
				t.Fatalf("%d bytes written without an error, %d in all", n, total)
			}
		}
		got := 0
		for p := make([]byte, 70_000); got < total; {
			n, err := server.Read(ctx, p)
			if err == hooks.ErrWouldBlock { // what is queued for TLS is sent by the loop
				check(t, runtime.Sleep(ctx, time.Millisecond))
				continue
			}
			check(t, err)
			for i, c := range p[:n] {
				if c != chunk[(got+i)%len(chunk)] {
					t.Fatalf("byte %d is %q", got+i, c)
				}
			}
			got += n
		}
		if _, err := server.Read(ctx, make([]byte, 1)); err != hooks.ErrWouldBlock || got != total {
			t.Errorf("%d of %d bytes, then %v", got, total, err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err := server.Read(canceled, make([]byte, 1))
		wantError(t, "read with a context that is done", err, context.Canceled)
	})
}

func TestOneReaderAndOneWriter(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tcp")
		reading := beside(ctx, t, func(ctx context.Context) error {
			_, err := server.Read(ctx, make([]byte, 1))
			return err
		})
		becomes(ctx, t, "the first one reads", server.Reading)
		_, err := server.Read(ctx, make([]byte, 1))
		wantError(t, "second reader", err, socket.ErrBusy)
		_, err = server.EnableCrypto(ctx, true, 0)
		wantError(t, "EnableCrypto", err, socket.ErrBusy)
		_, err = hooks.StreamSelect(ctx, map[string]*hooks.Stream{"a": server}, nil, nil, 0)
		wantError(t, "select", err, socket.ErrBusy)
		write(ctx, t, server, "writing is another direction")
		write(ctx, t, client, "x")
		check(t, reading())

		waiting := beside(ctx, t, func(ctx context.Context) error {
			_, err := server.Read(ctx, make([]byte, 1))
			return err
		})
		becomes(ctx, t, "somebody reads", server.Reading)
		check(t, server.Close())
		wantError(t, "read while the stream is closed", waiting(), net.ErrClosed)
		client.Close()
	})
}

func TestHalfClose(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		write(ctx, t, client, "the end")
		check(t, hooks.StreamSocketShutdown(ctx, client, socket.ShutdownWrite))
		readFull(ctx, t, server, "the end")
		if _, err := server.Read(ctx, make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		if _, err := client.Write(ctx, []byte("x")); err == nil {
			t.Error("a write after the end has no error")
		}
		write(ctx, t, server, "an answer")
		readFull(ctx, t, client, "an answer")
		check(t, hooks.StreamSocketShutdown(ctx, server, socket.ShutdownBoth))
		if _, err := client.Read(ctx, make([]byte, 1)); err != io.EOF {
			t.Errorf("after both ends: %v", err)
		}
	})
}

func TestCopy(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		from, into := streamPair(ctx, t, "tcp")
		text := strings.Repeat("copied ", 30_000)
		written := beside(ctx, t, func(ctx context.Context) error {
			if _, err := from.Write(ctx, []byte(text)); err != nil {
				return err
			}
			return from.Close()
		})
		n := int64(0)
		copied := beside(ctx, t, func(ctx context.Context) (err error) {
			if n, err = into.Copy(ctx, client, 1000); err != nil || n != 1000 {
				return fmt.Errorf("the first 1000: %d, %v", n, err)
			}
			n, err = into.Copy(ctx, client, -1)
			return err
		})
		readFull(ctx, t, server, text)
		check(t, copied())
		check(t, written())
		if n != int64(len(text)-1000) || !into.EOF() {
			t.Errorf("copied %d, end %v", n, into.EOF())
		}
		into.Close()
	})
}

func TestCopyKeepsWhatCannotBeWritten(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *hooks.Stream) {
		from, into := streamPair(ctx, t, "tcp")
		text := strings.Repeat("kept until there is room ", 1<<20)
		written := beside(ctx, t, func(ctx context.Context) error {
			if _, err := from.Write(ctx, []byte(text)); err != nil {
				return err
			}
			return from.Close()
		})
		check(t, client.SetTimeout(50*time.Millisecond))
		n, err := into.Copy(ctx, client, -1) // nobody reads there
		wantError(t, "copy", err, runtime.ErrTimeout)
		if into.EOF() {
			t.Error("a copy that couldn't write says that there is nothing more to read")
		}
		check(t, client.SetTimeout(patience))
		rest := beside(ctx, t, func(ctx context.Context) error {
			more, err := into.Copy(ctx, client, -1)
			if err == nil && n+more != int64(len(text)) {
				err = fmt.Errorf("copied %d and %d of %d bytes", n, more, len(text))
			}
			return err
		})
		readFull(ctx, t, server, text)
		check(t, rest())
		check(t, written())
		into.Close()
	})
}

func TestMetaDataOfPlaintext(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for transport, want := range map[string]string{"tcp": "tcp_socket", "unix": "unix_socket", "pair": "generic_socket"} {
			client, server := streamPair(ctx, t, transport)
			write(ctx, t, client, "one\ntwo\nthree")
			if line, err := server.Gets(ctx, 100); line != "one\n" || err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			m := server.GetMetaData()
			if m.StreamType != want || m.URI != "" || !m.Blocked || m.Crypto != nil || m.UnreadBytes != len("two\nthree") {
				t.Errorf("%s: %+v", transport, m)
			}
			if uri := client.GetMetaData().URI; transport != "pair" && !strings.HasPrefix(uri, transport+"://") {
				t.Errorf("URI %q", uri)
			}
			client.Close()
			server.Close()
		}
		u := streamServer(ctx, t, "udp://127.0.0.1:0")
		g := streamServer(ctx, t, "udg://"+filepath.Join(t.TempDir(), "g"))
		if a, b := u.GetMetaData().StreamType, g.GetMetaData().StreamType; a != "udp_socket" || b != "udg_socket" {
			t.Errorf("%q, %q", a, b)
		}
		u.Close()
		g.Close()
	})
}

// becomes waits, in a coroutine or on a goroutine, for what something else brings about.
func becomes(ctx context.Context, t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
		check(t, runtime.Sleep(ctx, time.Millisecond))
	}
}
