//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// ST-S-9, the cap: after STARTTLS as with TLS from the start, no more than MaxHandshakes run. Who dribbles the hello has none of them, who has sent one whole
// and stalls has one until his time is over, and the others wait for theirs in the meantime.
func TestSTS9HandshakesAreCapped(t *testing.T) {
	for _, style := range []string{"handler", "callbacks"} {
		t.Run(style, func(t *testing.T) {
			m := new(mailer)
			port := server.Port{EOF: "\r\n", TLS: serverTLS(), HandshakeTimeout: time.Hour}
			if style == "handler" {
				port.Handle = m.handle
			} else {
				port.OnReceive = m.receive
			}
			h, l := start(t, "tcp", server.Config{Port: port, MaxHandshakes: 2 * loops})
			begin := func() net.Conn {
				conn := dial(t, l)
				trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
				return conn
			}
			first := hello(t)
			var dribbling, stalled []net.Conn
			for range 20 {
				conn := begin()
				write(t, conn, first[:len(first)/2])
				dribbling = append(dribbling, conn)
			}
			for range 2 * loops {
				conn := begin()
				write(t, conn, first)
				stalled = append(stalled, conn)
			}
			until(t, "as many handshakes as may be", func() bool { return h.Stats().Handshaking == 2*loops })
			const n = 20
			var clients sync.WaitGroup
			for range n {
				secure := tls.Client(begin(), clientTLS())
				clients.Go(func() {
					if err := writeRead(secure, "NOOP\r\n", make([]byte, len("250 ok\r\n"))); err != nil {
						t.Error(err)
					}
					secure.Close()
				})
			}
			until(t, "the others wait", func() bool { return h.Stats().Waiting == n })
			if st := h.Stats(); st.Handshaking != 2*loops {
				t.Errorf("%+v", st)
			}
			for _, conn := range stalled {
				conn.Close()
			}
			clients.Wait()
			for _, conn := range dribbling {
				conn.Close()
			}
			h.settled()
			if st := h.Stats(); st.Handshakes["ok"] != n || st.Handshaking != 0 || st.Waiting != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Who waits for a slot and gives up leaves it to others.
func TestWaitingForASlotEnds(t *testing.T) {
	m := new(mailer)
	port := server.Port{EOF: "\r\n", TLS: serverTLS(), HandshakeTimeout: 300 * time.Millisecond, Handle: m.handle}
	h, l := start(t, "tcp", server.Config{Port: port, MaxHandshakes: 1})
	first := hello(t)
	for range 3 * loops { // some stall in a handshake, the others wait for it
		conn := dial(t, l)
		trips(t, conn, "STARTTLS\r\n", "220 go\r\n")
		write(t, conn, first)
	}
	m.outcomes(t, 3*loops)
	h.settled()
	trips(t, upgrade(t, dial(t, l)), "NOOP\r\n", "250 ok\r\n")
	if st := h.Stats(); st.Handshakes["ok"] != 1 || st.Handshaking != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// A negative HandshakeTimeout is none: a client that says nothing for longer than others have may still begin.
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
