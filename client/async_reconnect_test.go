//go:build linux

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// The n-th delay of a Backoff is a random part of First·2ⁿ⁻¹, up to Max.
func TestBackoff(t *testing.T) {
	most := func(n int64) int64 { return n - 1 }
	half := func(n int64) int64 { return (n - 1) / 2 }
	for _, tc := range []struct {
		backoff client.Backoff
		delays  []time.Duration // negative: no other attempt
	}{
		{client.Backoff{Random: most}, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}},
		{client.Backoff{First: time.Second, Max: 5 * time.Second, Random: most}, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
		{client.Backoff{First: time.Second, Max: 5 * time.Second, Random: half}, []time.Duration{5e8, 1e9, 2e9, 25e8, 25e8}},
		{client.Backoff{First: time.Second, MaxAttempts: 2, Random: most}, []time.Duration{1e9, 2e9, -1, -1}},
		{client.Backoff{First: time.Minute, Max: time.Second, Random: most}, []time.Duration{1e9, 1e9}},
		{client.Backoff{First: time.Hour, Max: math.MaxInt64, Random: most}, []time.Duration{time.Hour, 2 * time.Hour}},
		{client.Backoff{Permanent: func(err error) bool { return err == io.EOF }}, []time.Duration{-1}},
	} {
		for i, want := range tc.delays {
			got, again := tc.backoff.Next(nil, i+1, io.EOF)
			if again != (want >= 0) || again && got != want {
				t.Errorf("%+v: delay %d is %v, %v; want %v", tc.backoff, i+1, got, again, want)
			}
		}
	}
	for _, n := range []int{1, 1000, math.MaxInt} {
		for _, b := range []client.Backoff{{}, {Max: math.MaxInt64}} {
			if d, again := b.Next(nil, n, nil); !again || d < 0 || n == 1 && d > client.DefaultBackoffFirst {
				t.Errorf("%+v: delay %d is %v, %v", b, n, d, again)
			}
		}
	}
	if d := (client.Backoff{}).Stable(); d != client.DefaultBackoffStable {
		t.Errorf("stable after %v", d)
	}
}

// policy is a Reconnect of tests. It notes what it is asked.
type policy struct {
	delay, stable time.Duration
	attempts      int // then it gives up; 0: never
	panics        bool

	mu    sync.Mutex
	asked []int
	errs  []error
}

func (p *policy) Next(_ *client.Async, n int, err error) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.errs = append(p.asked, n), append(p.errs, err)
	if p.panics {
		panic("on purpose")
	}
	return p.delay, p.attempts == 0 || len(p.asked) <= p.attempts
}

func (p *policy) Stable() time.Duration { return p.stable }

func (p *policy) list() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// A server that dies and comes back finds its client again, at the address of Connect. Attempts in
// between fail; each is told.
func TestAsyncReconnects(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		address := l.Addr().String()
		serveOnce := func(l net.Listener, die <-chan struct{}) {
			conn, err := l.Accept()
			l.Close() // nobody listens from now on
			if err == nil {
				io.WriteString(conn, "hello\n")
				<-die
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		}
		die := make(chan struct{})
		go serveOnce(l, die)
		p := &policy{delay: time.Millisecond, stable: time.Hour}
		config, r := recording(t, client.Config{EOF: "\n"})
		config.Reconnect = p
		retry := func(a *client.Async) {
			if in, ok := a.Retry(); ok != (a.State() == client.AsyncWaiting) || ok && in != time.Millisecond {
				t.Errorf("another attempt is due in %v, %v", in, ok)
			}
		}
		r.on("close", retry)
		r.on("error", retry)
		a := r.open(ctx, config, "tcp", address)
		r.until(ctx, `receive "hello\n"`)
		close(die)
		eventually(ctx, t, "some attempts fail", func() bool { return len(r.list()) >= 6 })
		r.mu.Lock()
		if !slices.Equal(r.events[:6], []string{"connect", `receive "hello\n"`, "close", "error", "error", "error"}) {
			t.Errorf("the record is %q", r.events)
		}
		r.mu.Unlock()
		wantError(t, "error", r.reason(), syscall.ECONNREFUSED)
		if asked := p.list(); !slices.Equal(asked[:4], []int{1, 2, 3, 4}) {
			t.Errorf("the policy was asked for %v", asked)
		}
		p.mu.Lock()
		wantError(t, "first loss", p.errs[0], syscall.ECONNRESET)
		p.mu.Unlock()
		l, err = net.Listen("tcp", address)
		check(t, err)
		die = make(chan struct{})
		defer close(die)
		go serveOnce(l, die)
		eventually(ctx, t, "it is connected again", func() bool { events := r.list(); return events[len(events)-1] == `receive "hello\n"` })
		check(t, a.Close())
		eventually(ctx, t, "it is closed", func() bool { events := r.list(); return events[len(events)-1] == "close" })
		if r.reason() != nil || a.State() == client.AsyncWaiting {
			t.Errorf("reason is %v; it is %v", r.reason(), a.State())
		}
	})
}

// A connection that has stood for long enough begins a new series of losses; one that didn't,
// doesn't.
func TestAsyncSeries(t *testing.T) {
	for _, tc := range []struct {
		stable time.Duration
		asked  []int
	}{{0, []int{1, 1, 1, 1}}, {time.Hour, []int{1, 2, 3, 4}}} {
		t.Run(tc.stable.String(), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				p := &policy{stable: tc.stable, attempts: 3}
				config, r := recording(t, client.Config{})
				config.Reconnect = p
				check(t, client.NewAsync(config).Connect(ctx, "tcp", serve(t, func(s *script) {})))
				eventually(ctx, t, "it has given up", func() bool { return len(r.list()) == 8 })
				r.want("connect", "close", "connect", "close", "connect", "close", "connect", "close")
				if asked := p.list(); !slices.Equal(asked, tc.asked) {
					t.Errorf("the policy was asked for %v", asked)
				}
			})
		})
	}
}

// The policy isn't asked when the program has ended it, or the context of Connect has.
func TestAsyncNoReconnect(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		p := &policy{}
		config, r := recording(t, client.Config{})
		config.Reconnect = p
		for _, end := range []func(*client.Async) error{(*client.Async).Close, (*client.Async).Abort} {
			r.on("connect", func(a *client.Async) { check(t, end(a)) })
			before := len(r.list())
			check(t, client.NewAsync(config).Connect(ctx, "tcp", address))
			eventually(ctx, t, "it is closed", func() bool { return len(r.list()) == before+2 })
		}
		cancelable, cancel := context.WithCancel(ctx)
		check(t, client.NewAsync(config).Connect(cancelable, "tcp", deaf(t)))
		cancel()
		r.until(ctx, "error")
		wantError(t, "error", r.reason(), context.Canceled)
		if asked := p.list(); len(asked) > 0 {
			t.Errorf("the policy was asked for %v", asked)
		}
	})
}

// Close and Connect in OnError and OnClose, and while it waits for the next attempt.
func TestAsyncWhileWaiting(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere=%v", elsewhere), func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				do := func(fn func() error) error {
					if !elsewhere {
						return fn()
					}
					done := make(chan error, 1)
					go func() { done <- fn() }()
					return receive(ctx, t, done)
				}
				nobody, nowhere, address := refusing(t), deaf(t), serve(t, func(s *script) { s.rest() })
				begin := func(onError func(*client.Async)) (*client.Async, *record, *policy) {
					p := &policy{delay: time.Hour}
					config, r := recording(t, client.Config{})
					config.Reconnect = p
					r.on("error", onError)
					a := client.NewAsync(config)
					check(t, a.Connect(ctx, "tcp", nobody))
					return a, r, p
				}
				// Close ends the wait, and says so.
				a, r, p := begin(nil)
				eventually(ctx, t, "it waits", func() bool { return a.State() == client.AsyncWaiting })
				r.until(ctx, "error")
				check(t, do(a.Close))
				eventually(ctx, t, "it is over", func() bool { return len(r.list()) == 2 })
				r.want("error", "error")
				wantError(t, "error", r.reason(), net.ErrClosed)
				if asked := p.list(); len(asked) != 1 || a.State() == client.AsyncWaiting {
					t.Errorf("the policy was asked for %v; it is %v", asked, a.State())
				}
				wantError(t, "second Close", do(a.Close), net.ErrClosed)

				// Connect ends it, too, and connects at once.
				a, r, _ = begin(nil)
				eventually(ctx, t, "it waits", func() bool { return a.State() == client.AsyncWaiting })
				check(t, do(func() error { return a.Connect(ctx, "tcp", address) }))
				r.until(ctx, "connect")
				r.want("error", "connect")
				check(t, do(a.Close))
				r.until(ctx, "close")

				// Connect and Close, one after the other: the attempt is answered, once.
				a, r, _ = begin(nil)
				eventually(ctx, t, "it waits", func() bool { return a.State() == client.AsyncWaiting })
				check(t, do(func() error { return errors.Join(a.Connect(ctx, "tcp", nowhere), a.Close()) }))
				eventually(ctx, t, "it is free", func() bool { return do(func() error { return a.Connect(ctx, "tcp", address) }) == nil })
				r.until(ctx, "connect")
				r.want("error", "error", "connect")
				check(t, do(a.Close))
				r.until(ctx, "close")

				// In the callback: Close calls it off, in silence.
				a, r, _ = begin(func(a *client.Async) {
					check(t, a.Close())
					wantError(t, "second Close", a.Close(), net.ErrClosed)
					if _, ok := a.Retry(); ok || a.State() == client.AsyncWaiting {
						t.Error("it waits after Close")
					}
				})
				r.until(ctx, "error")
				eventually(ctx, t, "it is free", func() bool { return do(func() error { return a.Connect(ctx, "tcp", address) }) == nil })
				r.until(ctx, "connect")
				r.want("error", "connect")
				check(t, do(a.Close))
				r.until(ctx, "close")

				// Connect in the callback, and both, one after the other.
				for _, closes := range []bool{false, true} {
					a, r, _ = begin(func(a *client.Async) {
						if closes {
							check(t, a.Close())
						}
						check(t, a.Connect(ctx, "tcp", address))
						wantError(t, "second Connect", a.Connect(ctx, "tcp", address), socket.ErrConnected)
					})
					r.until(ctx, "connect")
					r.want("error", "connect")
					check(t, do(a.Close))
					r.until(ctx, "close")
				}

				// Connect and Close in the callback: that attempt is answered.
				first := true
				a, r, _ = begin(func(a *client.Async) {
					if first {
						first = false
						check(t, a.Connect(ctx, "tcp", address))
						check(t, a.Close())
					}
				})
				eventually(ctx, t, "it is over", func() bool { return len(r.list()) == 2 })
				r.want("error", "error")
				wantError(t, "error", r.reason(), net.ErrClosed)
			})
		})
	}
}

// Close while it connects: OnError says so, how far ever it has come.
func TestAsyncCloseWhileConnecting(t *testing.T) {
	for _, at := range []string{"Connect has returned", "the SYN is unanswered", "the handshake is under way", "it waits for its turn"} {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, elsewhere=%v", at, elsewhere), func(t *testing.T) {
				both(t, func(ctx context.Context, t *testing.T) {
					helloed := make(chan struct{}, 1)
					network, address := "tcp", deaf(t)
					config, r := recording(t, client.Config{TLS: trusting()})
					config.Reconnect = &policy{}
					config.MaxConnecting = 1
					d, err := client.NewAsyncDialer(config)
					check(t, err)
					if at == "the handshake is under way" {
						network, address = "tls", mute(t, helloed)
					}
					a, err := d.Dial(ctx, network, address)
					check(t, err)
					if at == "the handshake is under way" {
						receive(ctx, t, helloed)
					} else if at != "Connect has returned" {
						eventually(ctx, t, "the SYN is sent", func() bool { return synSent(t, netip.MustParseAddrPort(address).Port()) })
					}
					victim := a
					if at == "it waits for its turn" {
						victim, err = d.Dial(ctx, network, address)
						check(t, err)
						check(t, runtime.Sleep(ctx, soon))
					}
					if elsewhere {
						done := make(chan error, 1)
						go func() { done <- victim.Close() }()
						check(t, receive(ctx, t, done))
					} else {
						check(t, victim.Close())
					}
					r.until(ctx, "error")
					r.want("error")
					wantError(t, "error", r.reason(), net.ErrClosed)
					if victim != a {
						check(t, a.Close())
						eventually(ctx, t, "both are over", func() bool { return len(r.list()) == 2 })
						third, err := d.Dial(ctx, "tcp", serve(t, func(s *script) { s.rest() })) // there is a place for it
						check(t, err)
						r.until(ctx, "connect")
						check(t, third.Close())
						r.until(ctx, "close")
						r.want("error", "error", "connect", "close")
					}
				})
			})
		}
	}
}

// A policy that panics doesn't connect again.
func TestAsyncPolicyPanics(t *testing.T) {
	runtimetest.Both(t, runtimetest.QuietPanics, func(ctx context.Context, t *testing.T) {
		config, r := recording(t, client.Config{})
		config.Reconnect = &policy{panics: true}
		a := client.NewAsync(config)
		check(t, a.Connect(ctx, "tcp", refusing(t)))
		r.until(ctx, "error")
		eventually(ctx, t, "it is free", func() bool { return errors.Is(a.Close(), net.ErrClosed) })
		r.want("error")
	})
}

// No more attempts are under way at a time than MaxConnecting, and all get their turn.
func TestAsyncMaxConnecting(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		const limit, clients = 3, 20
		shaking := make(chan *script, clients)
		goOn := make(chan struct{})
		address := serve(t, func(s *script) {
			shaking <- s
			<-goOn
			s.secure(serverTLS())
			s.rest()
		})
		config, r := recording(t, client.Config{TLS: trusting()})
		config.MaxConnecting = limit
		r.on("connect", func(a *client.Async) { check(t, a.Close()) })
		d, err := client.NewAsyncDialer(config)
		check(t, err)
		for range clients {
			_, err := d.Dial(ctx, "tls", address)
			check(t, err)
		}
		for range limit {
			receive(ctx, t, shaking)
		}
		check(t, runtime.Sleep(ctx, soon)) // for more to come, if there were no limit
		if n := len(shaking); n > 0 {
			t.Errorf("%d attempts are under way", limit+n)
		}
		close(goOn)
		eventually(ctx, t, "all have connected", func() bool { return len(r.list()) == 2*clients })
	})
}

// When the runtime shuts down all Asyncs end with ErrShutdown, whatever they are at, and none
// connects again.
func TestAsyncShutdown(t *testing.T) {
	guard(t)
	rt, err := runtime.New(append(quiet, runtime.WithLoops(2))...)
	check(t, err)
	check(t, rt.Start())
	ctx := rt.Context()
	open := serve(t, func(s *script) { s.rest() })
	helloed := make(chan struct{}, 1)
	asyncs := map[string]*client.Async{}
	records := map[string]*record{}
	for name, where := range map[string]struct{ network, address string }{
		"open": {"tcp", open}, "dialling": {"tcp", deaf(t)}, "waiting": {"tcp", refusing(t)}, "shaking hands": {"tls", mute(t, helloed)},
	} {
		config, r := recording(t, client.Config{TLS: trusting()})
		config.Reconnect, config.MaxConnecting = &policy{delay: time.Hour}, 1
		d, err := client.NewAsyncDialer(config)
		check(t, err)
		asyncs[name], err = d.Dial(ctx, where.network, where.address)
		check(t, err)
		records[name] = r
		if name == "dialling" {
			check(t, func() error { _, err := d.Dial(ctx, where.network, where.address); return err }()) // in the queue
		}
		again := func(a *client.Async) {
			if rt.Context().Err() != nil {
				wantError(t, "Connect", a.Connect(ctx, "tcp", open), runtime.ErrShutdown)
			}
		}
		r.on("error", again)
		r.on("close", again)
	}
	records["open"].until(ctx, "connect")
	records["waiting"].until(ctx, "error")
	receive(ctx, t, helloed)
	until(t, "one waits", func() bool { return asyncs["waiting"].State() == client.AsyncWaiting })
	within, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(t, rt.Shutdown(within))
	records["open"].want("connect", "close")
	records["waiting"].want("error", "error")
	records["dialling"].want("error", "error")
	records["shaking hands"].want("error")
	for name, r := range records {
		wantError(t, name, r.reason(), runtime.ErrShutdown)
		wantError(t, "Connect", asyncs[name].Connect(ctx, "tcp", open), runtime.ErrShutdown)
	}
}

// A goroutine for each method, on a few Asyncs whose server leaves all the time. Each attempt has
// one answer, each connection one end.
func TestAsyncFromEverywhere(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		const clients, rounds = 4, 200
		address := serve(t, func(s *script) {
			s.hasty = true
			p := make([]byte, 64)
			for range 20 {
				n, err := s.Read(p)
				s.ok(err)
				s.say(string(p[:n]))
			}
		})
		var group sync.WaitGroup
		stop := make(chan struct{})
		var all []*client.Async
		var records []*record
		for range clients {
			config, r := recording(t, client.Config{})
			config.Reconnect = &policy{delay: time.Millisecond}
			a := client.NewAsync(config)
			check(t, a.Connect(ctx, "tcp", address))
			all, records = append(all, a), append(records, r)
			for _, fn := range []func(){
				func() { a.Send([]byte("hello")) },
				func() { a.Pause(); a.Resume() },
				func() { a.Connect(ctx, "tcp", address) },
				func() {
					a.Queued()
					a.LocalAddr()
					a.RemoteAddr()
					a.Connected()
					a.ConnectionState()
					a.Retry()
				},
			} {
				group.Go(func() {
					tick := time.NewTicker(time.Millisecond / 4)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							fn()
						}
					}
				})
			}
			group.Go(func() {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for i := range rounds {
					<-tick.C
					if i%2 == 0 {
						a.Close()
					} else {
						a.Abort()
					}
				}
			})
		}
		check(t, runtime.Sleep(ctx, rounds*time.Millisecond))
		close(stop)
		_, err := runtime.Await(ctx, func() (struct{}, error) { group.Wait(); return struct{}{}, nil })
		check(t, err)
		for i, a := range all {
			a.Close()
			r := records[i]
			eventually(ctx, t, "it is over", func() bool { return errors.Is(a.Close(), net.ErrClosed) && a.State() == client.AsyncIdle })
			open := false
			for _, event := range r.list() {
				switch event {
				case "connect":
					if open {
						t.Fatalf("the record is %q", r.list())
					}
					open = true
				case "close":
					if !open {
						t.Fatalf("the record is %q", r.list())
					}
					open = false
				case "error":
					if open {
						t.Fatalf("the record is %q", r.list())
					}
				}
			}
			if open {
				t.Fatalf("the record is %q", r.list())
			}
		}
	})
}

// mute is a server of network "tls" that waits for ever once it has the client's hello.
func mute(t testing.TB, helloed chan<- struct{}) string {
	return serve(t, func(s *script) {
		s.ok(first(s))
		helloed <- struct{}{}
		s.idle()
	})
}
