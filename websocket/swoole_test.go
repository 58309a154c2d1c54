package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// What programs that come from Swoole rely on, one test each. What else there is of it:
// TestCustomHandshake has the order of events.

// Fragments are one message, with what comes between them answered meanwhile.
func TestFragmentsAreMerged(t *testing.T) {
	ping := strings.Repeat("p", 125)
	echoes(t, websocket.Options{}, func(t *testing.T, h *house) {
		r := h.upgraded("/")
		part := func(first byte, text string) string {
			return string([]byte{first}) + frame(0, text)[1:]
		}
		r.send(part(1, "Hel\xe2\x98") + frame(9, ping) + part(0, "") + part(0, "\x82l") + frame(0, "o"))
		r.expect(answer(10, ping) + answer(1, "Hel☂lo"))
	})
}

// A ping is answered by itself, unless the program does it.
func TestPingIsAnswered(t *testing.T) {
	config := echoing()
	config.OnPing = func(_ context.Context, c *websocket.Conn, data []byte) bool {
		if string(data) == "silence" {
			return true
		}
		if bytes.HasPrefix(data, []byte("own")) {
			c.Push([]byte("mine"), websocket.Pong)
			return true
		}
		c.Push(data, websocket.Text)
		return false
	}
	for name, c := range map[string]struct {
		config websocket.Config
		answer string
	}{
		"by itself":           {echoing(), answer(10, "silence") + answer(10, "own") + answer(10, "seen")},
		"unless asked not to": {config, answer(10, "mine") + answer(1, "seen") + answer(10, "seen")},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, "tcp", c.config).upgraded("/")
			r.send(frame(9, "silence") + frame(9, "own") + frame(9, "seen") + frame(1, "end"))
			r.expect(c.answer + answer(1, "end"))
		})
	}
}

// The peer's close frame is answered by itself, and only OnClose is told of it.
func TestCloseFrameIsNoMessage(t *testing.T) {
	messages := 0
	config, ends := closes(echoing())
	config.OnMessage = func(context.Context, *websocket.Conn, websocket.Message) { messages++ }
	h := start(t, "tcp", config)
	r := h.upgraded("/")
	r.send(frame(8, "\x0f\xa1bye"))
	r.expect(answer(8, "\x0f\xa1bye"))
	r.expectEnd()
	if end := receive(t, ends); end != "4001 true" || messages > 0 {
		t.Errorf("ended with %s, %d messages", end, messages)
	}
}

// What comes in one segment with the 101 isn't lost, an empty frame of two bytes included.
func TestFramesBehindThe101(t *testing.T) {
	url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
		frames := answer(1, "")
		if r.URL.Path == "/more" {
			frames = answer(1, "first") + answer(2, "")
		}
		io.WriteString(conn, good+acceptOf(r)+"\r\n\r\n"+frames)
		io.Copy(io.Discard, conn)
	})
	for path, want := range map[string][]string{"/": {""}, "/more": {"first", ""}} {
		c, err := websocket.Dial(ctx, url+path, websocket.ClientConfig{})
		check(t, err)
		for _, text := range want {
			if m, err := c.Recv(ctx); err != nil || string(m.Data) != text {
				t.Errorf("%s: %q, %v", path, m.Data, err)
			}
		}
		c.Abort()
	}
}

// IsEstablished, and Push by ID, know each state that a connection can be in.
func TestIsEstablishedInEachState(t *testing.T) {
	var s atomic.Pointer[websocket.Server]
	states := make(chan string, 10)
	note := func(state string, id server.ID) {
		_, err := s.Load().Push(id, []byte(state), websocket.Text)
		states <- fmt.Sprint(state, " ", s.Load().IsEstablished(id), " ", err == nil)
		early := state == "before the 101" || state == "refused"
		if early && !errors.Is(err, websocket.ErrNotEstablished) {
			t.Errorf("%s: Push: %v", state, err)
		}
		if !early && err != nil && !errors.Is(err, server.ErrNoConnection) {
			_, ending := errors.AsType[*websocket.CloseError](err)
			if !ending {
				t.Errorf("%s: Push: %v", state, err)
			}
		}
	}
	conns := make(chan *websocket.Conn, 1)
	config, ends := closes(echoing())
	config.CloseTimeout = leaktest.Patience
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		c := websocket.ConnOf(r)
		note("before the 101", c.ID())
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusForbidden)
			note("refused", c.ID())
			return
		}
		w.WriteHeader(http.StatusSwitchingProtocols)
		note("open", c.ID())
		conns <- c
	}
	h := start(t, "tcp", config)
	s.Store(h.s)
	want := func(all ...string) {
		t.Helper()
		for _, want := range all {
			if got := receive(t, states); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
	note("unknown", 4711)
	want("unknown false false")
	r := h.connect()
	r.send("GET /refused HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if resp := r.response(); resp.StatusCode != 403 {
		t.Error(resp.Status)
	}
	want("before the 101 false false", "refused false false")
	r = h.upgraded("/")
	want("before the 101 false false", "open true true")
	r.expect(answer(1, "open"))
	c := receive(t, conns)
	check(t, h.s.Disconnect(c.ID(), 4002, "go"))
	r.expect(answer(8, "\x0f\xa2go"))
	note("closing", c.ID())
	want("closing false false")
	r.send(frame(8, "\x0f\xa2"))
	receive(t, ends)
	note("closed", c.ID())
	want("closed false false")
}

// Cookies come with the handshake, and go with the 101.
func TestCookiesOnTheHandshake(t *testing.T) {
	config := echoing()
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("session")
		if err != nil {
			http.Error(w, "no session", http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: cookie.Value + "1", HttpOnly: true})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	h := start(t, "tcp", config)
	r := h.connect()
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "Cookie: session=x\r\n\r\n")
	resp := r.response()
	c := resp.Cookies()
	if resp.StatusCode != 101 || len(c) != 2 || c[0].Value != "x1" || !c[0].HttpOnly ||
		c[1].Value != "2" {
		t.Errorf("%s %v", resp.Status, c)
	}
	r = h.connect()
	r.send("GET / HTTP/1.1\r\n" + handshakeLines + "\r\n")
	if resp := r.response(); resp.StatusCode != 401 {
		t.Error(resp.Status)
	}
}

// Disconnect sends the code and the reason, of which what is too long is cut off; codes that may
// not be sent are refused.
func TestDisconnectWithACode(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	config := echoing()
	config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) { conns <- c }
	h := start(t, "tcp", config)
	for reason, want := range map[string]string{
		"": "", "enough": "enough", strings.Repeat("é", 100): strings.Repeat("é", 61),
	} {
		r := h.upgraded("/")
		c := receive(t, conns)
		for _, code := range []int{0, 999, 1005, 1006, 1015, 5000} {
			if h.s.Disconnect(c.ID(), code, "") == nil {
				t.Errorf("%d was sent", code)
			}
		}
		check(t, h.s.Disconnect(c.ID(), 4999, reason))
		r.expect(answer(8, "\x13\x87"+want))
		r.send(frame(8, "\x13\x87"))
		r.expectEnd()
	}
}

// Upgrade and Connection are lists, in any case.
func TestUpgradeAmongOthers(t *testing.T) {
	h := start(t, "tcp", echoing())
	for _, lines := range []string{
		"Upgrade: websocket, abc\r\nConnection: Upgrade, abc\r\n",
		"Upgrade: abc, WebSocket\r\nConnection: keep-alive , UPGRADE\r\n",
		"Upgrade: abc\r\nUpgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n",
	} {
		r := h.connect()
		r.send("GET / HTTP/1.1\r\nHost: localhost\r\n" + lines +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + frame(1, "a"))
		if resp := r.response(); resp.StatusCode != 101 {
			t.Errorf("%q: %s", lines, resp.Status)
			continue
		}
		r.expect(answer(1, "a"))
	}
}
