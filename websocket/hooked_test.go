package websocket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// hooked serves a handler by net/http over a listener of package hooks.
func hooked(t *testing.T, rt *runtime.Runtime, handler http.HandlerFunc) *house {
	t.Helper()
	l, err := hooks.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	servedBy(t, &http.Server{Handler: handler}, l)
	return &house{t: t, ctx: rt.Context(), address: l.Addr().String()}
}

// servedBy has a server serve for the length of the test.
func servedBy(t *testing.T, s *http.Server, l net.Listener) {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
}

// On a listener of package hooks a connection becomes one of its loop: while it is idle it has no
// goroutine, and its callbacks run on the loop.
func TestUpgradeOverHooks(t *testing.T) {
	const conns = 100
	for _, style := range []string{"callback", "coroutine"} {
		t.Run(style, func(t *testing.T) {
			leaktest.Guard(t)
			rt := runtimetest.Start(t, append(runtimetest.QuietPanics(t), runtime.WithLoops(2))...)
			ends := make(chan error, conns)
			options := &websocket.UpgradeOptions{Options: websocket.Options{
				OnClose: func(_ context.Context, c *websocket.Conn, _ int, _ string, clean bool) {
					if ends <- c.Err(); !clean {
						t.Error("the end wasn't clean")
					}
				},
			}}
			if style == "callback" {
				options.OnMessage = func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
					if home, err := sched.HomeFor(ctx); err != nil || !home.Here() {
						t.Errorf("OnMessage runs elsewhere than on its loop, %v", err)
					}
					c.Push(m.Data, m.Opcode)
				}
			} else {
				options.OnOpen = func(ctx context.Context, c *websocket.Conn, _ *http.Request) {
					runtime.Go(ctx, func(ctx context.Context) {
						for m, err := range c.Messages(ctx) {
							if err != nil {
								return
							}
							c.Push(m.Data, m.Opcode)
						}
					})
				}
			}
			h := hooked(t, rt, func(w http.ResponseWriter, r *http.Request) {
				_, err := websocket.Upgrade(w, r, options)
				check(t, err)
			})
			before := goruntime.NumGoroutine()
			var all []*raw
			for range conns {
				r := h.connect()
				r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n" + frame(1, "early"))
				if resp := r.response(); resp.StatusCode != 101 {
					t.Fatal(resp.Status)
				}
				r.expect(answer(1, "early"))
				all = append(all, r)
			}
			most := 10
			if style == "coroutine" { // iter.Pull's count as such
				most += conns
			}
			leaktest.Until(t, "net/http's goroutines have ended", func() bool {
				return goruntime.NumGoroutine() <= before+most
			})
			long := strings.Repeat("x", 100)
			for _, r := range all {
				r.send(frame(9, "ping") + frame(1, long))
				r.expect(answer(10, "ping") + answer(1, long))
				r.send(frame(8, "\x03\xe8bye"))
				r.expect(answer(8, "\x03\xe8bye"))
				r.expectEnd()
				receive(t, ends)
			}
		})
	}
}

// A connection of packets is served, too, though not by callbacks of its loop.
func TestUpgradeOverPackets(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	l, err := hooks.Listen(rt.Context(), "unixpacket", filepath.Join(t.TempDir(), "socket"))
	check(t, err)
	options := &websocket.UpgradeOptions{Options: websocket.Options{OnMessage: echo}}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := websocket.Upgrade(w, r, options)
		check(t, err)
	})}
	servedBy(t, s, l)
	conn, err := net.Dial("unixpacket", l.Addr().String())
	check(t, err)
	defer conn.Close()
	r := &raw{conn, t, bufio.NewReader(conn)}
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	r.send(frame(1, "hello"))
	r.expect(answer(1, "hello"))
}

// Who takes too little is bounded there, too, and costs nobody else.
func TestSlowReceiverOverHooks(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.QuietPanics(t)...)
	conns := make(chan *websocket.Conn, 1)
	ends := make(chan error, 1)
	options := &websocket.UpgradeOptions{Options: websocket.Options{
		OnMessage: echo, MaxQueue: 256 << 10, CloseTimeout: 100 * time.Millisecond,
		OnClose: func(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) { ends <- c.Err() },
	}}
	h := hooked(t, rt, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, options)
		check(t, err)
		conns <- c
	})
	h.upgraded("/")
	c := receive(t, conns)
	leaktest.Until(t, "it is told to come again later", func() bool {
		c.Push(make([]byte, 64<<10), websocket.Binary)
		if n := websocket.QueuedBytes(c); n > 512<<10 {
			t.Fatalf("%d bytes are queued", n)
		}
		return !c.Established()
	})
	if err := receive(t, ends); !errors.Is(err, websocket.ErrSlow) {
		t.Error(err)
	}
}

// What was set on the connection before counts: here that nothing is delivered after its end.
func TestLingerOverHooks(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, runtimetest.Quiet(t)...)
	l, err := hooks.Listen(rt.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	const size = 16 << 20 // more than the kernel takes
	ends := make(chan error, 1)
	options := &websocket.UpgradeOptions{
		Options: websocket.Options{
			OnMessage: echo, MaxQueue: 2 * size,
			OnClose: func(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
				ends <- c.Err()
			},
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			c.Push(make([]byte, size), websocket.Binary)
		},
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := websocket.Upgrade(w, r, options)
			check(t, err)
		}),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			check(t, conn.(*hooks.Conn).SetLinger(0))
			return ctx
		},
	}
	servedBy(t, s, l)
	h := &house{t: t, ctx: rt.Context(), address: l.Addr().String()}
	r := h.upgraded("/")
	r.send(frame(8, "\x03\xe8bye"))
	receive(t, ends)
	if n, _ := io.Copy(io.Discard, r.r); n >= size {
		t.Errorf("%d bytes were delivered", n)
	}
}

// The end of the runtime ends them, and OnClose is told.
func TestEndOfTheRuntimeOverHooks(t *testing.T) {
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("a coroutine waits=%v", waits), func(t *testing.T) {
			leaktest.Guard(t)
			rt := runtimetest.Start(t, runtime.WithLoops(2))
			const conns = 8
			ends := make(chan error, conns)
			options := &websocket.UpgradeOptions{Options: websocket.Options{
				OnMessage: echo,
				OnClose: func(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
					ends <- c.Err()
				},
			}}
			h := hooked(t, rt, func(w http.ResponseWriter, r *http.Request) {
				_, err := websocket.Upgrade(w, r, options)
				check(t, err)
			})
			for range conns {
				h.upgraded("/")
			}
			if waits {
				_, err := rt.Go(func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) })
				check(t, err)
			}
			runtimetest.Shutdown(t, rt)
			for range conns {
				if err := receive(t, ends); !errors.Is(err, runtime.ErrShutdown) {
					t.Error(err)
				}
			}
		})
	}
}

// What OnClose does then costs nobody else anything: neither the others' OnClose nor the program.
func TestPanicAtTheEndOfTheRuntimeOverHooks(t *testing.T) {
	for how, fail := range map[string]func(){
		"panic": func() { panic("in OnClose") }, "Goexit": goexit,
	} {
		t.Run(how, func(t *testing.T) {
			leaktest.Guard(t)
			rt := runtimetest.Start(t, runtimetest.QuietPanics(t)...)
			const conns = 4
			ends := make(chan error, conns)
			options := &websocket.UpgradeOptions{Options: websocket.Options{
				OnMessage: echo,
				OnClose: func(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
					ends <- c.Err()
					fail()
				},
			}}
			h := hooked(t, rt, func(w http.ResponseWriter, r *http.Request) {
				_, err := websocket.Upgrade(w, r, options)
				check(t, err)
			})
			for range conns {
				h.upgraded("/")
			}
			runtimetest.Shutdown(t, rt)
			for range conns {
				if err := receive(t, ends); !errors.Is(err, runtime.ErrShutdown) {
					t.Error(err)
				}
			}
		})
	}
}

// What is asked of a loop that ends is done, or refused: nobody waits for it for ever.
func TestWhatALoopIsAskedForAtItsEnd(t *testing.T) {
	leaktest.Guard(t)
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(1))...)
	conns := make(chan *websocket.Conn, 1)
	h := hooked(t, rt, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Upgrade(w, r, nil)
		check(t, err)
		conns <- c
	})
	h.upgraded("/")
	c := receive(t, conns)
	var asked, done atomic.Int64
	begun, ends := make(chan struct{}), make(chan struct{})
	var step func()
	step = func() {
		if done.Add(1) == 1 {
			close(begun)
			<-ends
		}
		if done.Load() == 10 {
			return
		}
		next := make(chan struct{})
		go func() { // from elsewhere, while the loop is in it
			defer close(next)
			if asked.Add(1); !websocket.AtHome(c, step) {
				asked.Add(-1)
			}
		}()
		<-next
	}
	asked.Add(1)
	if !websocket.AtHome(c, step) {
		t.Fatal("refused")
	}
	receive(t, begun)
	loop := rt.Loops()[0]
	over := make(chan struct{})
	go func() {
		defer close(over)
		runtimetest.Shutdown(t, rt)
	}()
	leaktest.Until(t, "the loop is about to end", func() bool {
		return loop.Post(func() {}) != nil
	})
	close(ends)
	receive(t, over)
	if asked.Load() != done.Load() {
		t.Errorf("of %d things that were asked for %d were done", asked.Load(), done.Load())
	}
}
