//go:build linux

package otherside_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
)

// faulty is a WebSocket server that answers the nth message of a connection with a frame of the
// test's; n is 0 for the first one.
func faulty(t *testing.T, head string, answer func(n int, f ws.Frame) []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") +
					"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
				io.WriteString(conn, strings.ReplaceAll(head, "ACCEPT",
					base64.StdEncoding.EncodeToString(sum[:])))
				for n := 0; ; n++ {
					header, err := ws.ReadHeader(r)
					if err != nil {
						return
					}
					f := ws.Frame{Header: header, Payload: make([]byte, header.Length)}
					if _, err := io.ReadFull(r, f.Payload); err != nil {
						return
					}
					conn.Write(answer(n, ws.UnmaskFrameInPlace(f)))
				}
			}()
		}
	}()
	return l.Addr().String()
}

const upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
	"Connection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n"

func echoed(_ int, f ws.Frame) []byte {
	return ws.MustCompileFrame(ws.NewFrame(f.Header.OpCode, true, f.Payload))
}

// A figure counts only if the server has done the work.
func TestWrongAnswersOfWebSocketServersAreErrors(t *testing.T) {
	deflate := strings.Replace(upgraded, "\r\n\r\n",
		"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", 1)
	for name, c := range map[string]struct {
		head   string
		answer func(n int, f ws.Frame) []byte
		load   otherside.WebSocket
		want   string
	}{
		"refused": {"HTTP/1.1 404 Not Found\r\n\r\n", echoed, otherside.WebSocket{}, "404"},
		"a key of another's": {strings.Replace(upgraded, "ACCEPT", "AAAA", 1), echoed,
			otherside.WebSocket{}, "refused"},
		"no compression": {upgraded, echoed, otherside.WebSocket{Deflate: true}, "takeover"},
		"compression that isn't done": {deflate, func(_ int, f ws.Frame) []byte {
			return ws.MustCompileFrame(ws.NewTextFrame(f.Payload))
		}, otherside.WebSocket{Deflate: true}, "compressed"},
		"another message": {upgraded, func(int, ws.Frame) []byte {
			return ws.MustCompileFrame(ws.NewBinaryFrame([]byte("another")))
		}, otherside.WebSocket{}, "not the message"},
	} {
		c.load.Addr, c.load.Does, c.load.Conns, c.load.Size = faulty(t, c.head, c.answer),
			otherside.Trips, 1, 64
		if _, err := start(t, "websocket", c.load); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongAnswersWithinATurnAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		does  otherside.WebSocketWork
		wrong func(now, before []byte) []byte
		want  string
	}{
		"the one before": {otherside.Trips, func(_, before []byte) []byte { return before },
			"not the message"},
		"twice": {otherside.Broadcasts, func(now, _ []byte) []byte {
			return append(now, now...)
		}, "wasn't broadcast"},
	} {
		sent := make(chan struct{})
		var last []byte
		addr := faulty(t, upgraded, func(n int, f ws.Frame) []byte {
			before := last
			if last = echoed(n, f); n == 5 {
				defer close(sent)
				return c.wrong(last, before)
			}
			return last
		})
		load := otherside.WebSocket{Addr: addr, Does: c.does, Conns: 1,
			Size: 64, Burst: 1}
		g, err := start(t, "websocket", load)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := g.StartTurn(); err != nil {
			t.Fatal(name, err)
		}
		select {
		case <-sent:
		case <-time.After(time.Minute):
			t.Fatal(name, "nothing comes")
		}
		if err := g.StopTurn(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
