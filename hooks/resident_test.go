//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/resident"
	"github.com/whorl-go/whorl/runtime"
)

// possessions are ways to come by what has descriptors. Nothing but what they return refers to it.
var possessions = []struct {
	name string
	make func(ctx context.Context, t *testing.T) []io.Closer
}{
	{"tcp", conns("tcp", nil)},
	{"unix", conns("unix", nil)},
	{"upgraded", func(ctx context.Context, t *testing.T) []io.Closer {
		c1, c2, _, err := secured("")(ctx, t)
		check(t, err)
		return []io.Closer{c1, c2}
	}},
	{"with a deadline to come", conns("tcp", func(t *testing.T, c net.Conn) { check(t, c.SetDeadline(time.Now().Add(time.Hour))) })},
	{"whose writer has waited", conns("tcp", func(t *testing.T, c net.Conn) {
		check(t, c.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := c.Write(make([]byte, 64<<20))
		wantError(t, "write", err, os.ErrDeadlineExceeded)
	})},
	{"whose reader has waited", conns("tcp", func(t *testing.T, c net.Conn) {
		check(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		raw, err := c.(*hooks.Conn).SyscallConn()
		check(t, err)
		wantError(t, "read", raw.Read(func(uintptr) bool { return false }), os.ErrDeadlineExceeded)
	})},
	{"udp", func(ctx context.Context, t *testing.T) []io.Closer {
		c, err := hooks.ListenPacket(ctx, "udp", "127.0.0.1:0")
		check(t, err)
		dialled, err := new(hooks.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
		check(t, err)
		return []io.Closer{c, dialled}
	}},
	{"listener", func(ctx context.Context, t *testing.T) []io.Closer {
		tcp, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		unix, err := hooks.Listen(ctx, "unix", filepath.Join(t.TempDir(), "s"))
		check(t, err)
		check(t, unix.(*hooks.Listener).SetDeadline(time.Now().Add(time.Hour)))
		return []io.Closer{tcp, unix}
	}},
	{"stream", func(ctx context.Context, t *testing.T) []io.Closer { return someStreams(ctx, t, "tcp") }},
	{"stream of datagrams", func(ctx context.Context, t *testing.T) []io.Closer {
		server, err := stream.SocketServer(ctx, "udp://127.0.0.1:0")
		check(t, err)
		client, err := stream.SocketClient(ctx, "udp://"+server.GetName(false))
		check(t, err)
		return []io.Closer{server, client}
	}},
	{"stream that connects in the background", func(ctx context.Context, t *testing.T) []io.Closer {
		return someStreams(ctx, t, "tcp", stream.WithAsyncConnect())
	}},
	{"stream that was selected", func(ctx context.Context, t *testing.T) []io.Closer {
		all := someStreams(ctx, t, "tcp")
		read := map[int]*stream.Stream{1: all[1].(*stream.Stream), 2: all[2].(*stream.Stream)}
		ready, err := stream.Select(ctx, read, nil, nil, 10*time.Millisecond)
		if err != nil || ready.Count() != 0 {
			t.Errorf("ready: %v, %v", ready, err)
		}
		return all
	}},
	{"pair of streams", func(ctx context.Context, t *testing.T) []io.Closer {
		a, b, err := stream.SocketPair(ctx, "unix")
		check(t, err)
		return []io.Closer{a, b}
	}},
}

// conns returns a maker of two ends, of which one is used.
func conns(network string, use func(t *testing.T, c net.Conn)) func(ctx context.Context, t *testing.T) []io.Closer {
	return func(ctx context.Context, t *testing.T) []io.Closer {
		c1, c2, _, err := plain(network)(ctx, t)
		check(t, err)
		if use != nil {
			use(t, c1)
		}
		return []io.Closer{c1, c2}
	}
}

// someStreams returns a server, a client and what the server has accepted.
func someStreams(ctx context.Context, t *testing.T, transport string, options ...stream.Option) []io.Closer {
	server, err := stream.SocketServer(ctx, transport+"://127.0.0.1:0")
	check(t, err)
	client, err := stream.SocketClient(ctx, transport+"://"+server.GetName(false), options...)
	check(t, err)
	accepted, err := stream.Accept(ctx, server, patience)
	check(t, err)
	return []io.Closer{server, client, accepted}
}

// collectUntil has the garbage collector run until something is so.
func collectUntil(ctx context.Context, t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
		goruntime.GC()
		check(t, runtime.Sleep(ctx, time.Millisecond)) // what the collector finds is closed by the loop
	}
}

// What nobody refers to any more is closed, though its runtime goes on, and so does the coroutine
// that has used it.
func TestForgottenIsClosed(t *testing.T) {
	for _, possession := range possessions {
		t.Run(possession.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				rt, err := runtime.From(ctx)
				check(t, err)
				before := leaktest.Descriptors(t)
				if made := possession.make(ctx, t); leaktest.Descriptors(t) < before+len(made) {
					t.Fatalf("%d descriptors, %d before", leaktest.Descriptors(t), before)
				}
				collectUntil(ctx, t, "the descriptors are closed", func() bool { return leaktest.Descriptors(t) <= before })
				collectUntil(ctx, t, "nothing is remembered", func() bool { return resident.Count(rt) == 0 })
			})
		})
	}
}

// What is closed by hand leaves nothing to be done.
func TestClosedIsNotRemembered(t *testing.T) {
	for _, possession := range possessions {
		t.Run(possession.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				rt, err := runtime.From(ctx)
				check(t, err)
				made := possession.make(ctx, t)
				for _, c := range made {
					check(t, c.Close())
				}
				if n := resident.Count(rt); n != 0 {
					t.Errorf("%d are remembered", n)
				}
				goruntime.KeepAlive(made)
			})
		})
	}
}

// What is open when the runtime ends is closed when Shutdown returns, and can still be closed by
// hand.
func TestEndOfTheRuntimeCloses(t *testing.T) {
	for _, possession := range possessions {
		t.Run(possession.name, func(t *testing.T) {
			guard(t)
			before := leaktest.Descriptors(t)
			rt, err := runtime.New(quiet...)
			check(t, err)
			check(t, rt.Start())
			fromGoroutine := possession.make(rt.Context(), t)
			var fromCoroutine []io.Closer
			co, err := rt.Go(func(ctx context.Context) { fromCoroutine = possession.make(ctx, t) })
			check(t, err)
			check(t, co.Join(rt.Context()))
			shutdown(t, rt)
			if after := leaktest.Descriptors(t); after > before {
				t.Errorf("%d descriptors, %d before", after, before)
			}
			for _, c := range append(fromGoroutine, fromCoroutine...) {
				err := error(nil)
				switch c := c.(type) {
				case net.Conn:
					_, err = c.Read(make([]byte, 1))
					wantError(t, "Read", err, runtime.ErrShutdown)
				case net.Listener:
					_, err = c.Accept()
					wantError(t, "Accept", err, runtime.ErrShutdown)
				case *stream.Stream:
					_, err = c.Read(t.Context(), make([]byte, 1))
					wantError(t, "Read of a stream", err, runtime.ErrShutdown)
				}
				check(t, c.Close())
				wantError(t, "second Close", c.Close(), net.ErrClosed)
			}
			if n := resident.Count(rt); n != -1 {
				t.Errorf("the runtime is still known, with %d residents", n)
			}
		})
	}
}

// The path of a Unix listener goes with its runtime, unless it is to stay.
func TestEndOfTheRuntimeRemovesThePath(t *testing.T) {
	guard(t)
	rt, err := runtime.New(quiet...)
	check(t, err)
	check(t, rt.Start())
	paths := map[bool]string{}
	for _, unlink := range []bool{true, false} {
		paths[unlink] = filepath.Join(t.TempDir(), "s")
		l, err := hooks.Listen(rt.Context(), "unix", paths[unlink])
		check(t, err)
		l.(*hooks.Listener).SetUnlinkOnClose(unlink)
		defer l.Close()
	}
	shutdown(t, rt)
	for unlink, path := range paths {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) != unlink {
			t.Errorf("unlink is %v; after the end: %v", unlink, err)
		}
	}
	// Another program's, by now.
	check(t, os.WriteFile(paths[true], nil, 0o600))
}

// Who waits in a call keeps what it waits for, even if nobody else does.
func TestWaitingKeepsAlive(t *testing.T) {
	// Each returns what to call, and what makes that return.
	type call func() error
	for _, c := range []struct {
		name  string
		begin func(ctx context.Context, t *testing.T) (wait func(ctx context.Context) error, release call)
	}{
		{"Read", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			c1, c2, _, err := plain("tcp")(ctx, t)
			check(t, err)
			return func(context.Context) error { _, err := c1.Read(make([]byte, 1)); return err }, writing(c2)
		}},
		{"RawConn.Read", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			c1, c2, _, err := plain("tcp")(ctx, t)
			check(t, err)
			raw, err := c1.(*hooks.Conn).SyscallConn()
			check(t, err)
			return func(context.Context) error {
				return raw.Read(func(fd uintptr) bool { _, err := syscall.Read(int(fd), make([]byte, 1)); return err != syscall.EAGAIN })
			}, writing(c2)
		}},
		{"Write", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			c1, c2, _, err := plain("tcp")(ctx, t)
			check(t, err)
			const size = 16 << 20
			return func(context.Context) error { _, err := c1.Write(make([]byte, size)); return err },
				func() error { _, err := io.CopyN(io.Discard, c2, size); return errors.Join(err, c2.Close()) }
		}},
		{"EnableSSL", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			c1, c2, _, err := plain("tcp")(ctx, t)
			check(t, err)
			client, server := configs()
			return func(ctx context.Context) error { return c1.(*hooks.Conn).EnableSSL(ctx, client) },
				func() error { return errors.Join(c2.(*hooks.Conn).EnableSSL(ctx, server), c2.Close()) }
		}},
		{"Accept", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
			check(t, err)
			address := l.Addr().String()
			accept := func(context.Context) error {
				conn, err := l.Accept()
				if err == nil {
					err = conn.Close()
				}
				return err
			}
			return accept, func() error {
				conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", address)
				if err == nil {
					err = conn.Close()
				}
				return err
			}
		}},
		{"Stream.Gets", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			a, b, err := stream.SocketPair(ctx, "unix")
			check(t, err)
			return func(ctx context.Context) error { _, err := a.Gets(ctx, 100); return err },
				func() error { _, err := b.Write(ctx, []byte("line\n")); return errors.Join(err, b.Close()) }
		}},
		{"stream.Select", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			a, b, err := stream.SocketPair(ctx, "unix")
			check(t, err)
			return func(ctx context.Context) error {
				_, err := stream.Select(ctx, map[int]*stream.Stream{1: a}, nil, nil, patience)
				return err
			}, func() error { _, err := b.Write(ctx, []byte("line\n")); return errors.Join(err, b.Close()) }
		}},
		{"stream.Accept", func(ctx context.Context, t *testing.T) (func(context.Context) error, call) {
			server, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
			check(t, err)
			url := "tcp://" + server.GetName(false)
			return func(ctx context.Context) error {
					s, err := stream.Accept(ctx, server, patience)
					if err == nil {
						err = s.Close()
					}
					return err
				}, func() error {
					s, err := stream.SocketClient(ctx, url)
					if err == nil {
						err = s.Close()
					}
					return err
				}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				before := leaktest.Descriptors(t)
				wait, release := c.begin(ctx, t)
				waited := beside(ctx, t, wait)
				wait = nil
				for range 5 {
					check(t, runtime.Sleep(ctx, 2*time.Millisecond)) // let it wait
					goruntime.GC()
				}
				check(t, release())
				check(t, waited())
				release, waited = nil, nil
				collectUntil(ctx, t, "the descriptors are closed", func() bool { return leaktest.Descriptors(t) <= before })
			})
		})
	}
}

// writing returns a function that writes to a connection and closes it.
func writing(c net.Conn) func() error {
	return func() error {
		_, err := c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	}
}
