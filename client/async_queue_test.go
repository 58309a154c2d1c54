//go:build linux

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// clogged returns an Async, and its server, which reads nothing until goOn is closed and then tells
// what has arrived. The kernel takes little.
func clogged(
	ctx context.Context, t testing.TB, config client.AsyncConfig, r *record, network string, open func(*script),
) (a *client.Async, goOn chan struct{}, arrived chan digest) {
	goOn, arrived = make(chan struct{}), make(chan digest, 1)
	address := serve(t, func(s *script) {
		s.hasty = true
		s.ok(s.raw.(*net.TCPConn).SetReadBuffer(16 << 10))
		open(s)
		select {
		case <-goOn:
			arrived <- digestOf(s.Conn)
		case <-s.over:
		}
	})
	config.SendBuffer, config.TLS = 16<<10, trusting()
	return r.open(ctx, config, network, address), goOn, arrived
}

// A server that never reads: the queue has a bound, its marks are told once each, and everything
// that was taken arrives when it reads at last.
func TestAsyncQueue(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		if runtime.Current(ctx) == nil {
			return // from elsewhere the bound is another one
		}
		const size, limit = 10_000, 200_000
		config, r := recording(t, client.Config{})
		config.MaxQueue = limit
		a, goOn, arrived := clogged(ctx, t, config, r, network, open)
		defer a.Abort()
		sent, full := -size, false
		r.on("full", func(*client.Async) { full = true })
		var err error
		for ; err == nil; err = a.Send(make([]byte, size)) {
			if n := a.Queued(); n > limit+limit/32 || full != (n > limit/10*8) {
				t.Fatalf("%d bytes are queued, OnBufferFull was called: %v", n, full)
			}
			sent += size
		}
		wantError(t, "Send", err, socket.ErrQueueFull)
		r.want("connect", "full")
		close(goOn)
		r.until(ctx, "empty")
		r.want("connect", "full", "empty")
		check(t, a.Send(make([]byte, size)))
		check(t, a.Close())
		if got := receive(ctx, t, arrived); got.size != int64(sent+size) || got.err != nil {
			t.Errorf("%d bytes of %d have arrived, %v", got.size, sent+size, got.err)
		}
		r.until(ctx, "close")
		r.want("connect", "full", "empty", "close")
	})
}

// From elsewhere than the loop, as much may be on its way as may be queued, and what is too much
// there ends the connection.
func TestAsyncQueueFromElsewhere(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		config, r := recording(t, client.Config{})
		config.MaxQueue = 1 << 20
		a, _, _ := clogged(ctx, t, config, r, "tcp", func(*script) {})
		outcome := make(chan error, 1)
		go func() { // the loop stands still: this coroutine waits for the goroutine
			var err error
			for n := 0; err == nil && n <= 200; n++ {
				err = a.Send(make([]byte, 10_000))
			}
			outcome <- err
		}()
		wantError(t, "Send while the loop stands still", <-outcome, socket.ErrQueueFull)
		go func() {
			var err error
			for err == nil {
				err = a.Send(make([]byte, 10_000))
				if errors.Is(err, socket.ErrQueueFull) {
					err = nil // the loop is late
				}
			}
			outcome <- err
		}()
		err := receive(ctx, t, outcome)
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, socket.ErrNotConnected) {
			t.Errorf("Send: %v", err)
		}
		r.until(ctx, "close")
		wantError(t, "reason", r.reason(), client.ErrOverflow)
	})
}

// What one goroutine sends, arrives in order, whichever Sends go by way of the loop.
func TestAsyncSendFromElsewhere(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		const senders, lines = 4, 500
		seen := make(chan string, 1)
		address := serve(t, func(s *script) {
			open(s)
			text := make([]byte, senders*lines*len("0 000\n"))
			_, err := io.ReadFull(s, text)
			s.ok(err)
			seen <- string(text)
			s.rest()
		})
		config, r := recording(t, client.Config{TLS: trusting()})
		a := r.open(ctx, config, network, address)
		var group sync.WaitGroup
		for i := range senders {
			group.Go(func() {
				p := make([]byte, 6)
				for n := range lines {
					copy(p, fmt.Sprintf("%d %03d\n", i, n))
					if err := a.Send(p); err != nil {
						t.Errorf("Send: %v", err)
					}
				}
			})
		}
		next := make([]int, senders)
		for line := range strings.Lines(receive(ctx, t, seen)) {
			var i, n int
			if _, err := fmt.Sscanf(line, "%d %d\n", &i, &n); err != nil || n != next[i] {
				t.Fatalf("line is %q, want number %d: %v", line, next[i], err)
			}
			next[i]++
		}
		group.Wait()
		check(t, a.Close())
	})
}

// A server that takes nothing for WriteTimeout loses the connection.
func TestAsyncStalls(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		config, r := recording(t, client.Config{WriteTimeout: 10 * soon})
		a, _, _ := clogged(ctx, t, config, r, network, open)
		check(t, a.Send(make([]byte, 1<<20)))
		r.until(ctx, "close")
		wantError(t, "reason", r.reason(), client.ErrStalled)
	})
}

// During a pause nothing is handed out, not even what arrives in the same segment; and nothing is
// lost.
func TestAsyncPause(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%v", elsewhere), func(t *testing.T) {
			transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
				do := func(fn func()) {
					if elsewhere {
						done := make(chan struct{})
						go func() { fn(); close(done) }()
						receive(ctx, t, done)
					} else {
						fn()
					}
				}
				address := serve(t, func(s *script) {
					open(s)
					s.say("one\ntwo\n")
					s.hear("go on")
					s.say("three\n")
					s.rest()
				})
				config, r := recording(t, client.Config{EOF: "\n", TLS: trusting()})
				r.on("connect", func(a *client.Async) { a.Pause() })
				pausing := true
				r.on("receive", func(a *client.Async) {
					if pausing {
						a.Pause()
					}
				})
				a := r.open(ctx, config, network, address)
				defer a.Close()
				// What the loop does for another connection meanwhile shows that it had the
				// opportunity.
				other := func() {
					config, o := recording(t, client.Config{EOF: "\n", TLS: trusting()})
					defer o.open(ctx, config, network, serve(t, func(s *script) { open(s); s.say("hello\n"); s.rest() })).Close()
					o.until(ctx, `receive "hello\n"`)
				}
				other()
				r.want("connect")
				do(a.Resume)
				r.until(ctx, `receive "one\n"`)
				do(a.Resume)
				r.until(ctx, `receive "two\n"`)
				check(t, a.Send([]byte("go on")))
				other()
				r.want("connect", `receive "one\n"`, `receive "two\n"`)
				do(a.Resume)
				r.until(ctx, `receive "three\n"`)
			})
		})
	}
}

// A file and what is sent while it is under way arrive one after the other.
func TestAsyncSendFile(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		const size = 1 << 20
		path := filepath.Join(t.TempDir(), "file")
		file := numbers(size)
		check(t, os.WriteFile(path, file, 0o600))
		arrived, begun, goOn := make(chan []byte, 1), make(chan struct{}), make(chan struct{})
		address := serve(t, func(s *script) {
			open(s)
			all := make([]byte, size+len("before.after."))
			n, err := io.ReadFull(s.Conn, all[:100])
			s.ok(err)
			close(begun)
			<-goOn
			_, err = io.ReadFull(s.Conn, all[n:])
			s.ok(err)
			arrived <- all
			s.rest()
		})
		config, r := recording(t, client.Config{TLS: trusting(), SendBuffer: 16 << 10})
		a := r.open(ctx, config, network, address)
		defer a.Close()
		check(t, a.Send([]byte("before.")))
		sent := start(ctx, t, func(ctx context.Context) error {
			n, err := a.SendFile(ctx, path, 0, 0)
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes sent", n)
			}
			return err
		})
		receive(ctx, t, begun)
		check(t, a.Send([]byte("after.")))
		close(goOn)
		if all := receive(ctx, t, arrived); !bytes.Equal(all, append(append([]byte("before."), file...), "after."...)) {
			t.Error("something else has arrived")
		}
		check(t, sent())
		_, err := a.SendFile(ctx, path+"x", 0, 0)
		wantError(t, "SendFile of what isn't there", err, os.ErrNotExist)
	})
}

// In a callback SendFile would have to wait.
func TestAsyncSendFileInACallback(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		arrived := make(chan digest, 1)
		address := serve(t, func(s *script) { arrived <- digestOf(s.Conn) })
		path := filepath.Join(t.TempDir(), "file")
		check(t, os.WriteFile(path, make([]byte, 100), 0o600))
		config, r := recording(t, client.Config{})
		config.OnConnect = func(ctx context.Context, a *client.Async) {
			_, err := a.SendFile(ctx, path, 0, 0)
			wantError(t, "SendFile", err, runtime.ErrOnLoop)
			_, err = runtime.Go(ctx, func(ctx context.Context) {
				_, err := a.SendFile(ctx, path, 0, 0)
				check(t, err)
				check(t, a.Close())
			})
			check(t, err)
		}
		check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
		r.until(ctx, "close")
		if got := receive(ctx, t, arrived); got.size != 100 {
			t.Errorf("%d bytes have arrived", got.size)
		}
	})
}
