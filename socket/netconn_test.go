//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// limit is a house.Limit that is over when the test says so.
type limit struct{ cause atomic.Pointer[error] }

var errOver = errors.New("over")

func (l *limit) end() { l.cause.Store(&errOver) }

func (l *limit) Err() error {
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// started starts RecvUntil in a coroutine, which waits when started returns. The function that it
// returns waits for its end.
func started(ctx context.Context, s *socket.Socket, l house.Limit) (wait func() (string, error)) {
	var got [10]byte
	var n int
	var err error
	co := start(ctx, func(context.Context) { n, err = inner(s).RecvUntil(l, got[:]) })
	return func() (string, error) {
		co.Join(ctx)
		return string(got[:n]), err
	}
}

func TestRecvUntil(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "tcp")
		defer client.Close()
		defer server.Close()
		l := new(limit)
		wait := started(ctx, client, l)
		inner(client).Interrupt() // with nothing to say: it goes on waiting
		runtime.Yield(ctx)
		server.SendAll(ctx, []byte("one"))
		if got, err := wait(); got != "one" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		wait = started(ctx, client, l)
		l.end()
		inner(client).Interrupt()
		if got, err := wait(); got != "" || !errors.Is(err, errOver) {
			t.Errorf("got %q, %v", got, err)
		}
		server.SendAll(ctx, []byte("two"))
		if got, err := started(ctx, client, new(limit))(); got != "two" || err != nil {
			t.Errorf("after the limit: got %q, %v", got, err)
		}
		wait = started(ctx, client, new(limit))
		if !client.Cancel(socket.ReadEvent) {
			t.Error("there was nobody to cancel")
		}
		if _, err := wait(); !errors.Is(err, socket.ErrCanceled) {
			t.Errorf("cancelled: %v", err)
		}
		wait = started(ctx, client, new(limit))
		client.Close()
		if _, err := wait(); err == nil {
			t.Error("a closed socket was read")
		}
	})
}

// The limit ends at the moment when something arrives: what the next one gets.
func TestLimitEndsTogetherWithAnArrival(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "tcp")
		defer client.Close()
		defer server.Close()
		l := new(limit)
		wait := started(ctx, client, l)
		l.end() // tells nobody: the arrival wakes the reader, who then sees the end
		server.SendAll(ctx, []byte("late"))
		if got, err := wait(); got != "" || !errors.Is(err, errOver) {
			t.Fatalf("got %q, %v", got, err)
		}
		if got, err := started(ctx, client, new(limit))(); got != "late" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// A limit doesn't end what waits by a context.
func TestInterruptLeavesOthersAlone(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "unix")
		defer client.Close()
		defer server.Close()
		var n int
		var err error
		co := start(ctx, func(ctx context.Context) { n, err = client.Recv(ctx, make([]byte, 10)) })
		inner(client).Interrupt()
		runtime.Yield(ctx)
		if co.Ended() {
			t.Errorf("Recv has ended: %d, %v", n, err)
		}
		server.SendAll(ctx, []byte("four"))
		if co.Join(ctx); n != 4 || err != nil {
			t.Errorf("Recv returned %d, %v", n, err)
		}
	})
}

// A send over TLS that is stopped, again and again, goes on where it stopped.
func TestSendExactOverTLS(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "unix")
		defer client.Close()
		defer server.Close()
		handshakes(ctx, t, client, server, tls.VersionTLS13)
		data := pattern(3 << 20)
		sent, stops := 0, 0
		send := func() {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			n, err := inner(client).SendExact(short, data[sent:])
			if sent += n; err != nil {
				stops++
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
			}
		}
		for stops < 3 {
			send() // nobody reads
		}
		reader := start(ctx, func(ctx context.Context) {
			got := make([]byte, len(data))
			if n, err := server.RecvAll(ctx, got); err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
			mustBe(t, got, data)
		})
		for sent < len(data) {
			send()
		}
		reader.Join(ctx)
	})
}

func TestRawReadAndWrite(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "tcp")
		defer server.Close()
		calls := 0
		var got [10]byte
		reader := start(ctx, func(ctx context.Context) {
			err := inner(client).RawRead(ctx, func(fd uintptr) bool {
				calls++
				n, err := unix.Read(int(fd), got[:2])
				return n == 2 || err != unix.EAGAIN
			})
			if err != nil {
				t.Error(err)
			}
		})
		if err := inner(server).RawWrite(ctx, func(fd uintptr) bool { unix.Write(int(fd), []byte("bytes")); return true }); err != nil {
			t.Error(err)
		}
		reader.Join(ctx)
		if calls != 2 || string(got[:2]) != "by" {
			t.Errorf("after %d calls: %q", calls, got[:2])
		}
		if n, err := io.ReadFull(readerOf(func(p []byte) (int, error) { return inner(client).RecvUntil(new(limit), p) }), got[:3]); string(got[:3]) != "tes" {
			t.Errorf("the rest is %q, %v", got[:n], err)
		}
		client.Close()
		if err := inner(client).Control(func(uintptr) {}); err == nil {
			t.Error("Control of a closed socket succeeded")
		}
		if err := inner(client).OnOpen(func(uintptr) error { return nil }); err == nil {
			t.Error("OnOpen of a closed socket succeeded")
		}
	})
}

type readerOf func(p []byte) (int, error)

func (r readerOf) Read(p []byte) (int, error) { return r(p) }

func TestOnOpen(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, err := socket.New("tcp")
		if err != nil {
			t.Fatal(err)
		}
		inner(s).OnOpen(func(uintptr) error { return syscall.EPERM })
		if err := s.Connect(ctx, "127.0.0.1:1"); !errors.Is(err, syscall.EPERM) {
			t.Error(err)
		}
		s.Close()
	})
}
