//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// record is what has been called back, in order. In callbacks of which nothing is expected but to
// be called, it is all there is to do.
type record struct {
	t      testing.TB
	mu     sync.Mutex
	events []string
	cause  error                            // of the last "error" or "close"
	within map[*client.Async]string         // the callback that runs
	also   map[string]func(a *client.Async) // what else a callback does; its keys are the callbacks' names
}

// recording returns a configuration whose callbacks write a record.
func recording(t testing.TB, config client.Config) (client.AsyncConfig, *record) {
	r := &record{t: t, within: make(map[*client.Async]string), also: make(map[string]func(*client.Async))}
	return client.AsyncConfig{
		Config:    config,
		OnConnect: func(ctx context.Context, a *client.Async) { r.call(ctx, a, "connect", "", nil) },
		OnReceive: func(ctx context.Context, a *client.Async, pkt []byte) {
			r.call(ctx, a, "receive", fmt.Sprintf(" %.100q", pkt), nil)
		},
		OnError:       func(ctx context.Context, a *client.Async, err error) { r.call(ctx, a, "error", "", err) },
		OnClose:       func(ctx context.Context, a *client.Async, reason error) { r.call(ctx, a, "close", "", reason) },
		OnBufferFull:  func(ctx context.Context, a *client.Async) { r.call(ctx, a, "full", "", nil) },
		OnBufferEmpty: func(ctx context.Context, a *client.Async) { r.call(ctx, a, "empty", "", nil) },
	}, r
}

func (r *record) call(ctx context.Context, a *client.Async, name, detail string, cause error) {
	r.mu.Lock()
	r.events = append(r.events, name+detail)
	if name == "error" || name == "close" {
		r.cause = cause
	}
	before, also := r.within[a], r.also[name]
	if before != "" && name != "full" {
		r.t.Errorf("%s is called within %s", name, before)
	}
	r.within[a] = name
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.within[a] = before
		r.mu.Unlock()
	}()
	if name != "full" { // which Send calls, wherever that was called
		if err := runtime.Sleep(ctx, soon); err != runtime.ErrOnLoop {
			r.t.Errorf("a call that waits, in %s: %v", name, err)
		}
	}
	if also != nil {
		also(a)
	}
}

// on sets what else a callback does.
func (r *record) on(name string, fn func(a *client.Async)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.also[name] = fn
}

// list returns what has been called until now.
func (r *record) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// reason returns what the last OnError or OnClose was told.
func (r *record) reason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cause
}

func (r *record) has(event string) bool { return slices.Contains(r.list(), event) }

// until waits for an event, and until no callback runs any more: what the test does then, on another
// goroutine, comes after what the callbacks do.
func (r *record) until(ctx context.Context, event string) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("the record is %q", r.list())
		}
	}()
	eventually(ctx, r.t, event, func() bool { return r.has(event) && !r.calling() })
}

// calling reports whether a callback runs.
func (r *record) calling() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(
		slices.Collect(maps.Values(r.within)),
		func(name string) bool { return name != "" },
	)
}

func (r *record) want(events ...string) {
	r.t.Helper()
	if got := r.list(); !slices.Equal(got, events) {
		r.t.Errorf("the record is %q\n\twant %q", got, events)
	}
}

// open returns an Async that is connected. It keeps the test's runtime.Run from returning, until it
// is closed.
func (r *record) open(ctx context.Context, config client.AsyncConfig, network, address string) *client.Async {
	r.t.Helper()
	a := client.NewAsync(config)
	check(r.t, a.Connect(ctx, network, address))
	r.until(ctx, "connect")
	return a
}

// Each packet comes once and in order, however the network has cut it, between OnConnect and
// OnClose.
func TestAsyncOrder(t *testing.T) {
	for _, size := range []int{1, 0} {
		t.Run(fmt.Sprintf("pieces of %d", size), func(t *testing.T) {
			transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
				address := serve(t, func(s *script) {
					open(s)
					feed(s, "a\r\nbb\r\nccc\r\n", size)
					s.ok(s.Conn.Close())
				})
				config, r := recording(t, client.Config{EOF: "\r\n", TLS: trusting()})
				a := client.NewAsync(config)
				if a.Connected() || a.LocalAddr() != nil || a.RemoteAddr() != nil {
					t.Error("connected before Connect")
				}
				r.on("connect", func(a *client.Async) {
					if !a.Connected() || a.RemoteAddr().String() != address || a.LocalAddr() == nil {
						t.Errorf("in OnConnect: connected %v, from %v to %v", a.Connected(), a.LocalAddr(), a.RemoteAddr())
					}
					if _, ok := a.ConnectionState(); ok != (network == "tls") || len(a.PeerCertificates()) != map[bool]int{true: 1}[ok] {
						t.Errorf("in OnConnect: TLS is %v", ok)
					}
				})
				r.on("close", func(a *client.Async) {
					if a.Connected() || a.RemoteAddr() != nil {
						t.Error("connected in OnClose")
					}
					wantError(t, "Send", a.Send([]byte("x")), socket.ErrNotConnected)
					wantError(t, "Close", a.Close(), net.ErrClosed)
				})
				check(t, a.Connect(ctx, network, address))
				r.until(ctx, "close")
				r.want("connect", `receive "a\r\n"`, `receive "bb\r\n"`, `receive "ccc\r\n"`, "close")
				if r.reason() != io.EOF {
					t.Errorf("reason is %v", r.reason())
				}
			})
		})
	}
}

// On the loop, nothing is called before the callers of Connect, Send and Close have returned to it.
func TestAsyncCallsBackLater(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serveOn(t, "unix", socketPath(t), func(s *script) { s.rest() })
		config, r := recording(t, client.Config{})
		a := client.NewAsync(config)
		check(t, a.Connect(ctx, "unix", address))
		r.want()
		r.until(ctx, "connect")
		check(t, a.Send([]byte("x")))
		check(t, a.Close())
		r.want("connect")
		wantError(t, "Send", a.Send([]byte("x")), net.ErrClosed)
		wantError(t, "EnableSSL", a.EnableSSL(ctx, func(context.Context, *client.Async, error) {}), net.ErrClosed)
		r.until(ctx, "close")
		r.want("connect", "close")
		if r.reason() != nil {
			t.Errorf("reason is %v", r.reason())
		}
	})
}

// All callbacks run on the loop of who has called Connect.
func TestAsyncStaysOnItsLoop(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.say("hello"); s.ok(s.Conn.Close()) })
		rt, err := runtime.From(ctx)
		check(t, err)
		for range 3 {
			done := make(chan struct{})
			_, err := rt.Go(func(ctx context.Context) {
				loop := runtime.Current(ctx).Loop()
				config, r := recording(t, client.Config{})
				for _, name := range []string{"connect", "receive", "close"} {
					r.on(name, func(*client.Async) {
						if !runtimetest.OnLoop(loop) {
							t.Errorf("%s is called elsewhere", name)
						}
					})
				}
				check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
				r.until(ctx, "close")
				close(done)
			})
			check(t, err)
			receive(ctx, t, done)
		}
	})
}

// An attempt that fails is answered by OnError alone.
func TestAsyncErrors(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		silent := serve(t, (*script).idle)
		chatty := serve(t, func(s *script) { s.say("220 hello\r\n"); s.rest() })
		stranger, err := devca.New("Stranger")
		check(t, err)
		untrusted := serve(t, func(s *script) { s.handshake(s.raw, serverTLS()) })
		leaving := serve(t, func(s *script) {})
		for _, tc := range []struct {
			name, network, address string
			config                 client.Config
			is                     error
			reason                 explain.Reason
		}{
			{"nobody listens", "tcp", refusing(t), client.Config{}, syscall.ECONNREFUSED, ""},
			{"no such path", "unix", socketPath(t), client.Config{}, syscall.ENOENT, ""},
			{"no such name", "tcp", "nobody.invalid:1", client.Config{}, &net.DNSError{}, ""},
			{"nobody answers", "tcp", deaf(t), client.Config{ConnectTimeout: soon}, runtime.ErrTimeout, ""},
			{"the handshake takes too long", "tls", silent, client.Config{HandshakeTimeout: soon}, runtime.ErrTimeout, explain.ReasonTimeout},
			{"a server that isn't trusted", "tls", untrusted, client.Config{TLS: &tls.Config{RootCAs: stranger.Pool()}}, nil, explain.ReasonUnknownAuthority},
			{"not TLS", "tls", chatty, client.Config{TLS: trusting()}, nil, explain.ReasonPlaintext},
			{"the server leaves", "tls", leaving, client.Config{TLS: trusting()}, nil, ""},
			{"the proxy refuses", "tcp", "mail.behind:587", client.Config{Proxy: &client.Proxy{Type: "socks5", Address: refusing(t)}}, syscall.ECONNREFUSED, ""},
		} {
			config, r := recording(t, tc.config)
			r.on("error", func(a *client.Async) {
				if a.Connected() || a.RemoteAddr() != nil {
					t.Errorf("%s: connected in OnError", tc.name)
				}
				if _, ok := a.Retry(); ok {
					t.Errorf("%s: there is to be another attempt", tc.name)
				}
				wantError(t, "Close in OnError", a.Close(), net.ErrClosed)
			})
			check(t, client.NewAsync(config).Connect(ctx, tc.network, tc.address))
			r.until(ctx, "error")
			r.want("error")
			if _, ok := errors.AsType[*net.DNSError](tc.is); ok {
				if _, ok := errors.AsType[*net.DNSError](r.reason()); !ok {
					t.Errorf("%s: error is %v", tc.name, r.reason())
				}
			} else if tc.is != nil {
				wantError(t, tc.name, r.reason(), tc.is)
			}
			failed, ok := errors.AsType[*explain.HandshakeError](r.reason())
			if ok != (tc.network == "tls") || tc.reason != "" && failed.Reason != tc.reason {
				t.Errorf("%s: error is %v", tc.name, r.reason())
			}
		}
	})
}

// What Connect refuses is not answered.
func TestAsyncRefusals(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		receives := func(context.Context, *client.Async, []byte) {}
		for _, tc := range []struct {
			config           client.AsyncConfig
			network, address string
			says             string
		}{
			{client.AsyncConfig{}, "tcp", "127.0.0.1:1", "OnReceive is not set"},
			{client.AsyncConfig{OnReceive: receives, MaxQueue: -1}, "tcp", "127.0.0.1:1", "must not be negative"},
			{client.AsyncConfig{OnReceive: receives, MaxQueue: 100, HighWater: 200}, "tcp", "127.0.0.1:1", "HighWater (200)"},
			{client.AsyncConfig{OnReceive: receives, HighWater: 100, LowWater: 200}, "tcp", "127.0.0.1:1", "LowWater (200)"},
			{client.AsyncConfig{OnReceive: receives, Config: client.Config{MaxPacket: -1}}, "tcp", "127.0.0.1:1", "MaxPacket"},
			{client.AsyncConfig{OnReceive: receives, Config: client.Config{Proxy: &client.Proxy{Type: "socks4"}}}, "tcp", "127.0.0.1:1", "socks4"},
			{client.AsyncConfig{OnReceive: receives}, "udp", "127.0.0.1:1", "needs a network with streams"},
			{client.AsyncConfig{OnReceive: receives}, "sctp", "127.0.0.1:1", "unknown network sctp"},
			{client.AsyncConfig{OnReceive: receives}, "tcp", "127.0.0.1", "missing port"},
		} {
			tc.config.OnError = func(_ context.Context, _ *client.Async, err error) { t.Errorf("OnError is called: %v", err) }
			err := client.NewAsync(tc.config).Connect(ctx, tc.network, tc.address)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v, want one that says %q", err, tc.says)
			}
		}
		a := client.NewAsync(client.AsyncConfig{OnReceive: receives})
		wantError(t, "Send", a.Send([]byte("x")), socket.ErrNotConnected)
		_, err := a.SendFile(ctx, "/etc/hostname", 0, 0)
		wantError(t, "SendFile", err, socket.ErrNotConnected)
		wantError(t, "EnableSSL", a.EnableSSL(ctx, func(context.Context, *client.Async, error) {}), socket.ErrNotConnected)
		wantError(t, "Close", a.Close(), net.ErrClosed)
		a.Pause()
		a.Resume()
	})
}

// A second Connect is refused as long as there is something to be closed; in OnClose and OnError it
// is welcome.
func TestAsyncConnectAgain(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		nobody := refusing(t)
		config, r := recording(t, client.Config{})
		a := client.NewAsync(config)
		left := []string{nobody, address, address}
		next := func(a *client.Async) {
			if len(left) == 0 {
				return
			}
			check(t, a.Connect(ctx, "tcp", left[0]))
			wantError(t, "Connect while connecting", a.Connect(ctx, "tcp", address), socket.ErrConnected)
			left = left[1:]
		}
		r.on("connect", func(a *client.Async) {
			wantError(t, "Connect in OnConnect", a.Connect(ctx, "tcp", address), socket.ErrConnected)
			check(t, a.Close())
			wantError(t, "Connect after Close", a.Connect(ctx, "tcp", address), socket.ErrConnected)
		})
		r.on("error", next)
		r.on("close", next)
		check(t, a.Connect(ctx, "tcp", nobody))
		if runtime.Current(ctx) != nil { // else it may be over already
			wantError(t, "Connect while connecting", a.Connect(ctx, "tcp", address), socket.ErrConnected)
		}
		eventually(ctx, t, "all are done", func() bool { return len(r.list()) == 6 })
		r.want("error", "error", "connect", "close", "connect", "close")
	})
}

// A connection that stands has no coroutine, not even one that it has left behind.
func TestAsyncHasNoCoroutine(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) { open(s); s.rest() })
		rt, err := runtime.From(ctx)
		check(t, err)
		before := rt.Stats().Coroutines
		config, r := recording(t, client.Config{TLS: trusting()})
		d, err := client.NewAsyncDialer(config)
		check(t, err)
		var all []*client.Async
		for range 20 {
			a, err := d.Dial(ctx, network, address)
			check(t, err)
			all = append(all, a)
		}
		eventually(ctx, t, "all are connected", func() bool { return len(r.list()) == len(all) })
		if n := rt.Stats().Coroutines; n > before {
			t.Errorf("%d coroutines, %d before", n, before)
		}
		for _, a := range all {
			check(t, a.Close())
		}
		eventually(ctx, t, "all are closed", func() bool { return len(r.list()) == 2*len(all) })
	})
}

// An Async that is closed, or has failed to connect, is garbage when the program has forgotten it.
func TestAsyncIsForgotten(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		gone := make(chan struct{}, 2)
		for _, address := range []string{refusing(t), serve(t, func(s *script) { s.rest() })} {
			over := make(chan struct{})
			a := client.NewAsync(client.AsyncConfig{
				OnConnect: func(_ context.Context, a *client.Async) { check(t, a.Close()) },
				OnReceive: func(context.Context, *client.Async, []byte) {},
				OnClose:   func(context.Context, *client.Async, error) { close(over) },
				OnError:   func(context.Context, *client.Async, error) { close(over) },
			})
			check(t, a.Connect(ctx, "tcp", address))
			receive(ctx, t, over)
			goruntime.AddCleanup(a, func(struct{}) { gone <- struct{}{} }, struct{}{})
		}
		eventually(ctx, t, "both are gone", func() bool { goruntime.GC(); return len(gone) == 2 })
	})
}

// Run returns when the last Async is closed, not before.
func TestAsyncKeepsRunGoing(t *testing.T) {
	guard(t)
	goOn := make(chan struct{})
	address := serve(t, func(s *script) {
		<-goOn
		s.say("hello")
		s.rest()
	})
	config, r := recording(t, client.Config{})
	r.on("receive", func(a *client.Async) { check(t, a.Close()) })
	check(t, runtime.Run(func(ctx context.Context) error {
		d, err := client.NewAsyncDialer(config)
		check(t, err)
		_, err = d.Dial(ctx, "tcp", address)
		close(goOn)
		return err
	}, quiet...))
	r.want("connect", `receive "hello"`, "close")
}

// Close and Abort in each callback end the connection, which OnClose is told as its last, without a
// reason.
func TestAsyncCloseInCallbacks(t *testing.T) {
	for _, name := range []string{"connect", "receive", "full", "empty"} {
		for how, end := range map[string]func(*client.Async) error{"Close": (*client.Async).Close, "Abort": (*client.Async).Abort} {
			t.Run(how+" in "+name, func(t *testing.T) {
				transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
					config, r := recording(t, client.Config{TLS: trusting(), EOF: "\n"})
					provoke(t, &config, r, name)
					r.on(name, func(a *client.Async) {
						check(t, end(a))
						wantError(t, "second "+how, end(a), net.ErrClosed)
						wantError(t, "Send", a.Send([]byte("x")), net.ErrClosed)
						a.Pause()
						a.Resume()
					})
					a := client.NewAsync(config)
					check(t, a.Connect(ctx, network, provokingBy(t, open, r, name)))
					r.until(ctx, "close")
					if events := r.list(); !strings.HasPrefix(events[len(events)-2], name) || r.reason() != nil {
						t.Errorf("the record is %q, reason %v", events, r.reason())
					}
				})
			})
		}
	}
}

// A panic in a callback ends that connection, and nothing else.
func TestAsyncPanics(t *testing.T) {
	for _, name := range []string{"connect", "receive", "full", "empty", "error", "close"} {
		t.Run(name, func(t *testing.T) {
			runtimetest.Both(t, runtimetest.QuietPanics, func(ctx context.Context, t *testing.T) {
				other, o := recording(t, client.Config{EOF: "\n"})
				defer o.open(ctx, other, "tcp", provoking(t, func(*script) {})).Abort()
				config, r := recording(t, client.Config{EOF: "\n"})
				provoke(t, &config, r, name)
				address := provokingBy(t, func(*script) {}, r, name)
				if name == "error" {
					address = refusing(t)
				}
				if name == "close" {
					r.on("receive", func(a *client.Async) { check(t, a.Close()) })
				}
				panics := true
				r.on(name, func(a *client.Async) {
					if panics {
						panics = false
						panic("on purpose")
					}
				})
				a := client.NewAsync(config)
				check(t, a.Connect(ctx, "tcp", address))
				last := "close"
				if name == "error" {
					last = name
				}
				r.until(ctx, last)
				if _, ok := errors.AsType[*runtime.PanicError](r.reason()); ok != (name != "error" && name != "close") {
					t.Errorf("reason is %v", r.reason())
				}
				o.until(ctx, `receive "one\n"`)
				if o.has("close") {
					t.Error("the other one has ended, too")
				}
				// The Async itself is as good as new.
				r.on("receive", nil)
				before := len(r.list())
				eventually(ctx, t, "it can connect", func() bool { return a.Connect(ctx, "tcp", provoking(t, func(*script) {})) == nil })
				eventually(ctx, t, "it connects", func() bool { return slices.Contains(r.list()[before:], "connect") })
				check(t, a.Abort())
			})
		})
	}
}

// provoke has all callbacks called up to the one of that name, on a connection to provoking.
func provoke(t testing.TB, config *client.AsyncConfig, r *record, name string) {
	if name != "full" && name != "empty" {
		return
	}
	config.MaxQueue, config.HighWater, config.LowWater, config.SendBuffer = 1<<20, 200_000, 1, 16<<10
	r.on("receive", func(a *client.Async) { check(t, a.Send(make([]byte, 400_000))) })
}

// provoking is a server that says two lines and then reads.
func provoking(t testing.TB, open func(s *script)) string {
	return serve(t, func(s *script) {
		s.hasty = true
		open(s)
		s.say("one\ntwo\n")
		s.rest()
	})
}

// provokingBy is provoking for provoke: it doesn't read before the queue is full, if that is to be;
// else the kernel might take all at once.
func provokingBy(t testing.TB, open func(s *script), r *record, name string) string {
	if name != "full" && name != "empty" {
		return provoking(t, open)
	}
	return serve(t, func(s *script) {
		s.hasty = true
		open(s)
		s.say("one\ntwo\n")
		for deadline := time.Now().Add(patience); !r.has("full") && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		s.rest()
	})
}

func TestAsyncFraming(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for name, tc := range map[string]struct {
			config client.Config
			stream string
			events []string
			cause  error
		}{
			"length": {
				client.Config{Length: packet.LengthField{Type: 'n', BodyOffset: 2}}, "\x00\x01a\x00\x00\x00\x02bc",
				[]string{`receive "\x00\x01a"`, `receive "\x00\x00"`, `receive "\x00\x02bc"`}, io.EOF,
			},
			"cut short": {client.Config{EOF: "\r\n"}, "a\r\nb", []string{`receive "a\r\n"`}, io.ErrUnexpectedEOF},
			"too large": {client.Config{EOF: "\r\n", MaxPacket: 4}, "a\r\n12345\r\n", []string{`receive "a\r\n"`}, packet.ErrPacketTooLarge},
		} {
			address := serve(t, func(s *script) {
				s.hasty = true
				feed(s, tc.stream, 1)
			})
			config, r := recording(t, tc.config)
			check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
			r.until(ctx, "close")
			r.want(append(append([]string{"connect"}, tc.events...), "close")...)
			wantError(t, name, r.reason(), tc.cause)
		}
	})
}

// A reset is a reason; what the server has sent before it may be lost.
func TestAsyncReset(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			s.hear("hello")
			s.reset()
		})
		config, r := recording(t, client.Config{TLS: trusting()})
		r.on("connect", func(a *client.Async) { check(t, a.Send([]byte("hello"))) })
		check(t, client.NewAsync(config).Connect(ctx, network, address))
		r.until(ctx, "close")
		wantError(t, "reason", r.reason(), syscall.ECONNRESET)
	})
}

// Close delivers what was sent, to a server that reads late, and to one that has said all it has to
// say before it reads.
func TestAsyncCloseDelivers(t *testing.T) {
	const size = 8 << 20
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		data := numbers(size)
		closed, arrived := make(chan struct{}), make(chan digest, 1)
		address := serve(t, func(s *script) {
			open(s)
			<-closed
			arrived <- digestOf(s.Conn)
		})
		config, r := recording(t, client.Config{TLS: trusting()})
		config.MaxQueue = size
		r.on("connect", func(a *client.Async) {
			check(t, a.Send(data))
			check(t, a.Close())
		})
		check(t, client.NewAsync(config).Connect(ctx, network, address))
		r.until(ctx, "close")
		close(closed)
		if got := receive(ctx, t, arrived); got.size != size || got.err != nil {
			t.Errorf("%d bytes have arrived, %v", got.size, got.err)
		}
	})
}

// A server that half-closes ends the connection, and what was queued for it still arrives.
func TestAsyncHalfClose(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		arrived := make(chan digest, 1)
		address := serve(t, func(s *script) {
			s.say("bye")
			s.halfClose()
			arrived <- digestOf(s.Conn)
		})
		config, r := recording(t, client.Config{})
		config.MaxQueue = 20 << 20
		r.on("receive", func(a *client.Async) { check(t, a.Send(numbers(8<<20))) })
		check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
		r.until(ctx, "close")
		if got := receive(ctx, t, arrived); got.size != 8<<20 || got.err != nil || r.reason() != io.EOF {
			t.Errorf("%d bytes have arrived, %v; reason %v", got.size, got.err, r.reason())
		}
	})
}

func TestAsyncProxy(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.kind+" "+p.user, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.tunnel(p.dialog, "220 mail.behind ESMTP\r\n")
					s.hear("STARTTLS\r\n")
					s.say("220 go ahead\r\n")
					s.secure(issue(t, devca.Request{Names: []string{"mail.behind"}}))
					s.hear("EHLO client\r\n")
					s.say("250 hello\r\n")
					s.rest()
				})
				config, r := recording(t, mail())
				config.Proxy = &client.Proxy{Type: p.kind, Address: address, User: p.user, Password: p.password}
				upgrading(t, &config, r)
				a := client.NewAsync(config)
				check(t, a.Connect(ctx, "tcp", "mail.behind:587"))
				r.until(ctx, `receive "250 hello\r\n"`)
				r.want("connect", `receive "220 mail.behind ESMTP\r\n"`, `receive "220 go ahead\r\n"`, "ready", `receive "250 hello\r\n"`)
				check(t, a.Close())
				r.until(ctx, "close")
			})
		})
	}
}
