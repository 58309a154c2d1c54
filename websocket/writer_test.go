package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

// One Write may be larger than all that may wait for the peer.
func TestWriteLargerThanTheQueue(t *testing.T) {
	config := websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		w, err := c.Writer(ctx, websocket.Binary)
		check(t, err)
		if n, err := w.Write(make([]byte, 4<<20)); n != 4<<20 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		check(t, w.Close())
		c.Recv(ctx)
	}}
	config.MaxQueue = 256 << 10
	h := start(t, "tcp", config)
	c := h.dial("/", websocket.ClientConfig{Options: websocket.Options{MaxMessage: 4 << 20}})
	h.want(c, websocket.Binary, string(make([]byte, 4<<20)))
}

// What is sent while a Writer is open goes out behind its message, never within it.
func TestMessagesWaitForTheWriter(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	config := websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		conns <- c
		c.Recv(ctx)
	}}
	h := start(t, "tcp", config)
	c := h.dial("/", websocket.ClientConfig{Options: websocket.Options{MaxMessage: 1 << 20}})
	peer := receive(t, conns)
	check(t, h.s.Join(peer, "room"))

	// Pushes that have begun before.
	const pushes = 2000
	var pushing sync.WaitGroup
	pushed, ctx := 0, h.inTime()
	pushing.Go(func() {
		for pushed < pushes {
			switch _, err := peer.Push([]byte("pushed"), websocket.Text); {
			case err == nil:
				pushed++
			case !errors.Is(err, socket.ErrBusy):
				t.Errorf("Push: %v", err)
				return
			}
		}
	})
	const written = 50
	pushing.Go(func() {
		for range written {
			w, err := peer.Writer(ctx, websocket.Text)
			check(t, err)
			for range 3 {
				_, err := io.WriteString(w, "wri")
				check(t, err)
			}
			h.s.Broadcast("room", []byte("cast"), websocket.Text)
			check(t, w.Close())
		}
	})
	count := map[string]int{}
	for range pushes + 2*written {
		m, err := c.Recv(ctx)
		check(t, err)
		count[string(m.Data)]++
	}
	pushing.Wait()
	if count["pushed"] != pushes || count["cast"] != written || count["wriwriwri"] != written {
		t.Errorf("%v", count)
	}
}

// A message whose Write was given up isn't taken for a whole one.
func TestMessageThatIsGivenUp(t *testing.T) {
	ended := make(chan struct{})
	config := websocket.Config{Handle: func(ctx context.Context, c *websocket.Conn) {
		defer close(ended)
		giveUp, cancel := context.WithCancel(ctx)
		w, err := c.Writer(giveUp, websocket.Text)
		check(t, err)
		_, err = io.WriteString(w, "half of")
		check(t, err)
		runtime.Go(ctx, func(ctx context.Context) { cancel() })
		for err == nil {
			_, err = w.Write(bytes.Repeat([]byte("x"), 100_000))
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Write: %v", err)
		}
		if err := w.Close(); !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
		if _, err := c.Push([]byte("next"), websocket.Text); err == nil {
			t.Error("a message is sent within another")
		}
	}}
	config.CloseTimeout, config.MaxQueue = time.Hour, 100<<10
	h := start(t, "tcp", config)
	// It takes nothing for the time being.
	r := h.upgraded("/")
	receive(t, ended)
	end := answer(8, "\x03\xf3a message was cut off")
	for got := []byte(nil); !strings.HasSuffix(string(got[max(0, len(got)-len(end)):]), end); {
		b, err := r.r.ReadByte()
		check(t, err)
		got = append(got, b)
	}
	r.send(frame(8, "\x03\xf3"))
	r.expectEnd()
}
