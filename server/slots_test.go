//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// gatedTLS is a configuration whose handshakes compute until the gate is closed.
func gatedTLS(gate chan struct{}) *tls.Config {
	config := serverTLS()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		await(hello.Context(), gate)
		return nil, nil
	}
	return config
}

// begun is a client that has begun, by STARTTLS or at once.
func begun(t *testing.T, l *server.Listener, upgrades bool) net.Conn {
	conn := dial(t, l)
	if upgrades {
		trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
	}
	return conn
}

// eachOpening runs a test with mailers in each style, with STARTTLS and with TLS from the start.
func eachOpening(
	t *testing.T, config server.Config, test func(t *testing.T, h *house, l *server.Listener, upgrades bool),
) {
	for network, upgrades := range map[string]bool{"tcp": true, "tls": false} {
		for _, style := range []string{"handler", "callbacks"} {
			t.Run(network+"/"+style, func(t *testing.T) {
				m, config := new(mailer), config
				config.EOF = "\r\n"
				if config.TLS == nil {
					config.TLS = serverTLS()
				}
				if style == "handler" {
					config.Handle = m.handle
				} else {
					config.OnReceive = m.receive
				}
				h, l := start(t, network, config)
				test(t, h, l, upgrades)
			})
		}
	}
}

// ST-S-9, the cap: after STARTTLS as with TLS from the start, no more than MaxHandshakes compute,
// and the others wait.
func TestSTS9HandshakesAreCapped(t *testing.T) {
	for network, upgrades := range map[string]bool{"tcp": true, "tls": false} {
		for _, style := range []string{"handler", "callbacks"} {
			t.Run(network+"/"+style, func(t *testing.T) {
				gate := make(chan struct{})
				m, port := new(mailer), server.Port{EOF: "\r\n", TLS: gatedTLS(gate), HandshakeTimeout: time.Hour}
				if style == "handler" {
					port.Handle = m.handle
				} else {
					port.OnReceive = m.receive
				}
				h, l := start(t, network, server.Config{Port: port, MaxHandshakes: 2 * loops})
				const n = 20
				var clients sync.WaitGroup
				for range n {
					secure := tls.Client(begun(t, l, upgrades), clientTLS())
					clients.Go(func() {
						if err := writeRead(secure, "NOOP\r\n", make([]byte, len("250 ok\r\n"))); err != nil {
							t.Error(err)
						}
						secure.Close()
					})
				}
				until(t, "the others wait", func() bool { return h.Stats().Waiting == n-2*loops })
				if st := h.Stats(); st.Handshaking != 2*loops {
					t.Errorf("%+v", st)
				}
				close(gate)
				clients.Wait()
				h.settled()
				if st := h.Stats(); st.Handshakes["ok"] != n {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// A slot is not for waiting: clients that dribble their hello, or send it and then nothing, keep
// nobody from one.
func TestSilentClientsHoldNoSlot(t *testing.T) {
	config := server.Config{Port: server.Port{HandshakeTimeout: time.Hour}, MaxHandshakes: 2 * loops}
	eachOpening(t, config, func(t *testing.T, h *house, l *server.Listener, upgrades bool) {
		first := hello(t)
		for i := range 4 * loops {
			write(t, begun(t, l, upgrades), first[:len(first)/(1+i%2)])
		}
		until(t, "half of them are under way", func() bool { return h.Stats().Handshaking == 2*loops })
		for range 20 {
			secure := tls.Client(begun(t, l, upgrades), clientTLS())
			trip := []string{"NOOP\r\n", "250 ok\r\n"}
			trips(t, secure, trip...)
			secure.Close()
		}
	})
}

// Beyond eight times MaxHandshakes the client that has been silent for the longest gives way.
func TestTheOldestSilentClientGivesWay(t *testing.T) {
	config := server.Config{Port: server.Port{HandshakeTimeout: time.Hour}, MaxHandshakes: loops}
	eachOpening(t, config, func(t *testing.T, h *house, l *server.Listener, upgrades bool) {
		first := hello(t)
		var silent []net.Conn
		for range 8 * loops {
			conn := begun(t, l, upgrades)
			write(t, conn, first)
			expect(t, conn, "\x16\x03\x03") // the server's flight: now it is silent
			silent = append(silent, conn)
		}
		for range 2 * loops { // on each loop the first one needs room, and leaves it to the second
			secure := tls.Client(begun(t, l, upgrades), clientTLS())
			trips(t, secure, "NOOP\r\n", "250 ok\r\n")
			secure.Close()
		}
		for _, conn := range silent[:loops] {
			io.ReadAll(conn) // to its end
		}
		if st := h.Stats(); st.Handshakes["timeout"] != loops || st.Handshaking != 7*loops {
			t.Errorf("%+v", st)
		}
	})
}

// Who waits for a slot and gives up leaves it to others, also if it is granted to him too late.
func TestWaitingForASlotEnds(t *testing.T) {
	gate := make(chan struct{})
	m := new(mailer)
	port := server.Port{EOF: "\r\n", TLS: gatedTLS(gate), HandshakeTimeout: 300 * time.Millisecond, Handle: m.handle}
	h, l := start(t, "tcp", server.Config{Port: port, MaxHandshakes: 1})
	first := hello(t)
	for range 3 * loops { // some compute, the others wait for that
		write(t, begun(t, l, true), first)
	}
	m.outcomes(t, 2*loops)
	close(gate)
	m.outcomes(t, 3*loops)
	h.settled()
	trips(t, upgrade(t, dial(t, l)), "NOOP\r\n", "250 ok\r\n")
	if st := h.Stats(); st.Handshakes["ok"] != 1 {
		t.Errorf("%+v", st)
	}
}

// Who waits for a slot hears at once of the connection's end, though callbacks of the configuration
// hold all slots and nobody's time is over.
func TestCloseWakesThoseWhoWaitForASlot(t *testing.T) {
	for _, style := range []string{"handler", "callbacks"} {
		t.Run(style, func(t *testing.T) {
			gate := make(chan struct{})
			m := new(mailer)
			port := server.Port{EOF: "\r\n", TLS: gatedTLS(gate), HandshakeTimeout: time.Hour}
			if style == "handler" {
				port.Handle = m.handle
			} else {
				port.OnReceive = m.receive
			}
			h, l := start(t, "tcp", server.Config{Port: port, MaxHandshakes: loops})
			first := hello(t)
			const n = 5 * loops
			for range n {
				write(t, begun(t, l, true), first)
			}
			until(t, "the others wait", func() bool { return h.Stats().Waiting == n-loops })
			check(t, h.Close())
			for _, err := range m.outcomes(t, n-loops) {
				wantError(t, "EnableSSL", err, net.ErrClosed)
			}
			close(gate)
			check(t, receive(t, h.served))
			m.outcomes(t, n)
			h.settled()
		})
	}
}

// Who asks for a slot when the connection has ended already gets none.
func TestNoSlotForAConnectionThatHasEnded(t *testing.T) {
	conns, closed := make(chan *server.Conn, 1), make(chan struct{})
	port := server.Port{OnReceive: echoBack, TLS: serverTLS()}
	port.OnConnect = func(_ context.Context, c *server.Conn) { conns <- c }
	port.OnClose = func(context.Context, *server.Conn, error) { close(closed) }
	h, l := start(t, "tcp", server.Config{Port: port})
	dial(t, l)
	c := receive(t, conns)
	check(t, c.Close())
	receive(t, closed)
	wantError(t, "Enter", server.EnterSlot(h.ctx(), c), net.ErrClosed)
}

// Very many hellos at once, whose clients then say nothing, and time out together, stop nobody who
// is established.
func TestHalfOpenBurst(t *testing.T) {
	many := min(2000, fileLimit(t)/2-500)
	if testing.Short() || raceDetector {
		many = 300
	}
	config := server.Config{Port: server.Port{HandshakeTimeout: time.Second}}
	eachOpening(t, config, func(t *testing.T, h *house, l *server.Listener, upgrades bool) {
		established := tls.Client(begun(t, l, upgrades), clientTLS())
		trips(t, established, "NOOP\r\n", "250 ok\r\n")
		first := hello(t)
		clients := make([]net.Conn, many)
		for i := range clients {
			clients[i] = begun(t, l, upgrades)
		}
		for _, conn := range clients {
			conn.Write([]byte(first)) // some may have been given up already
		}
		var worst, computing time.Duration
		until(t, "they have been turned away", func() bool {
			begin, used := time.Now(), childtest.CPUTime()
			trips(t, established, "NOOP\r\n", "250 ok\r\n")
			worst = max(worst, time.Since(begin))
			computing = max(computing, childtest.CPUTime()-used) // not what other processes take
			return h.Stats().Connections == 1
		})
		t.Logf("the slowest echo took %v, during another the process has computed for %v", worst, computing)
		if computing > 200*time.Millisecond {
			t.Errorf("something else was computed for %v before an echo", computing)
		}
	})
}

// Many that half open TLS, most of them to stay and the others again and again, keep a client of
// good faith, and one that is established, from nothing.
func TestHalfOpenFlood(t *testing.T) {
	stay, kept, every := 5000, 4000, time.Millisecond
	if testing.Short() || raceDetector { // which computes ten times as long for each
		stay, kept, every = 300, 300, 80*time.Millisecond
	}
	room := fileLimit(t)/2 - 500
	stay, kept = min(stay, room*5/9), min(kept, room*4/9)
	port := server.Port{Handle: echo, TLS: serverTLS(), HandshakeTimeout: time.Minute}
	h, l := start(t, "tls", server.Config{Port: port})
	established := dialTLS(t, l)
	trip(t, established, "hello")
	first := hello(t)
	for range stay {
		write(t, dial(t, l), first)
	}
	stop := make(chan struct{})
	var flood sync.WaitGroup
	defer flood.Wait()
	defer close(stop)
	var renewed atomic.Int64
	const floods = 8
	for range floods {
		flood.Go(func() { keepHalfOpen(l, first, kept/floods, every, &renewed, stop) })
	}
	until(t, "all are half open, and some were renewed", func() bool {
		st := h.Stats()
		return st.Handshaking > min(stay+kept/2, 7*server.DefaultMaxHandshakes) &&
			renewed.Load() > int64(kept)
	})
	var handshakes, echoes []time.Duration
	before := renewed.Load()
	until(t, "those that don't stay were renewed", func() bool {
		begin := time.Now()
		trip(t, established, "hello")
		echoes = append(echoes, time.Since(begin))
		begin = time.Now()
		dialTLS(t, l).Close()
		handshakes = append(handshakes, time.Since(begin))
		return renewed.Load()-before > int64(kept) && len(handshakes) > 100
	})
	slices.Sort(handshakes)
	slices.Sort(echoes)
	n := len(handshakes)
	t.Logf("%d and %d half open; %d handshakes: median %v, worst %v; echoes %v, %v", stay, kept,
		n, handshakes[n/2], handshakes[n-1], echoes[n/2], echoes[n-1])
	if m := handshakes[n*9/10]; m > 100*time.Millisecond {
		t.Errorf("one in ten handshakes took %v", m)
	}
	if m := echoes[n*9/10]; m > 200*time.Millisecond {
		t.Errorf("one in ten echoes took %v", m)
	}
}

// keepHalfOpen keeps so many connections half open until stop is closed: each one that is new takes
// the place of the oldest. It counts those.
func keepHalfOpen(
	l *server.Listener, hello string, n int, every time.Duration,
	renewed *atomic.Int64, stop chan struct{},
) {
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for {
		if len(open) >= n {
			open[0].Close()
			open = open[1:]
			renewed.Add(1)
		}
		select {
		case <-stop:
			return
		case <-time.After(every):
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return
		}
		conn.Write([]byte(hello))
		open = append(open, conn)
	}
}

// A negative HandshakeTimeout is none: a client that says nothing for longer than others have may
// still begin.
func TestNoHandshakeTimeout(t *testing.T) {
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS = serverTLS()
		patient, hurried := port, port
		patient.HandshakeTimeout, hurried.HandshakeTimeout = -1, 300*time.Millisecond
		h := open(t, server.Config{Port: patient})
		l := h.listen("tls")
		other := h.listenPort("tls", hurried)
		h.serve()
		quiet := dial(t, l)
		expectEnd(t, dial(t, other))
		secure := tls.Client(quiet, clientTLS())
		trip(t, secure, "hello")
	})
}

// Send of a callback connection takes nothing when it fails.
func TestCountOfASendThatFails(t *testing.T) {
	counts := make(chan int, 2)
	h, l := start(t, "tcp", server.Config{Port: server.Port{MaxQueue: 1000, OnReceive: func(ctx context.Context, c *server.Conn, pkt []byte) {
		n, err := c.Send(ctx, make([]byte, 1001))
		wantError(t, "Send on the loop", err, socket.ErrQueueFull)
		counts <- n
		go func() {
			n, err := c.Send(ctx, make([]byte, 1001))
			wantError(t, "Send from elsewhere", err, socket.ErrQueueFull)
			counts <- n
		}()
	}}})
	write(t, dial(t, l), "go")
	for range 2 {
		if n := receive(t, counts); n != 0 {
			t.Errorf("%d bytes were taken", n)
		}
	}
	if st := h.Stats(); st.PacketsOut != 0 || st.BytesOut != 0 {
		t.Errorf("%+v", st)
	}
}
