//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/packet"
)

// webSocketOptions returns the options of a short run.
func webSocketOptions(mode Mode, address string) Options {
	o := options(mode, address)
	o.Framing, o.Hold = message.None, HoldCoroutine
	o.WebSocket = &WebSocket{URL: &url.URL{Scheme: "ws", Host: address, Path: "/"}}
	return o
}

func TestEveryWebSocketMode(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for mode, role := range map[Mode]farside.Role{WebSocketEcho: farside.WebSocket,
			WebSocketIdle: farside.WebSocket, WebSocketBroadcast: farside.Broadcast} {
			config := farside.Config{Role: role}
			if secure {
				config.TLS = &tls.Config{}
			}
			address, server := serving(t, config)
			o := webSocketOptions(mode, address)
			if secure {
				o.TLS = trusting(t)
			}
			r := faultless(t, o)
			if r.Operations != 20 || r.Rate <= 0 || r.Latency.Count != 20 {
				t.Errorf("%s: %d operations, %v/s, latency %+v", mode, r.Operations, r.Rate,
					r.Latency)
			}
			connections := int64(4)
			if mode == WebSocketIdle {
				connections = 20
			}
			if r.Phases["upgrade"].Count != connections {
				t.Errorf("%s: phases %v", mode, r.Phases)
			}
			switch mode {
			case WebSocketEcho:
				if r.BytesSent != 2000 || r.BytesReceived != 2000 {
					t.Errorf("%d bytes sent, %d received", r.BytesSent, r.BytesReceived)
				}
			case WebSocketBroadcast:
				if r.BytesSent != 2000 || r.BytesReceived != 8000 ||
					r.Phases["delivery"].Count != 80 || r.Used != 4 {
					t.Errorf("%d bytes sent, %d received on %d connections, phases %v",
						r.BytesSent, r.BytesReceived, r.Used, r.Phases)
				}
			case WebSocketIdle:
				if r.Held != 20 || r.HeapPerConn == nil {
					t.Errorf("%d held", r.Held)
				}
			}
			if made := server.Stats(); made.Accepted != connections+1 ||
				secure && made.Handshakes != connections+1 {
				t.Errorf("%s: the server has seen %+v", mode, made)
			}
		}
	}
}

// What is held is pinged, as not each server sends messages back.
func TestIdleWebSocketsArePinged(t *testing.T) {
	address := scripted(t, func(_ int, conn net.Conn) {
		webSocketServer(conn, func(f ws.Frame) []ws.Frame {
			if f.Header.OpCode != ws.OpPing {
				return nil
			}
			return []ws.Frame{ws.NewPongFrame(f.Payload)}
		})
	})
	o := webSocketOptions(WebSocketIdle, address)
	o.Operations, o.Connections, o.Duration, o.Heartbeat = 3, 3, patience/300, patience/600
	r := faultless(t, o)
	if n := r.Phases["heartbeat"].Count; n < 3 || r.Held != 3 {
		t.Errorf("%d heartbeats, %d held", n, r.Held)
	}
}

// webSocketServer is a server on a scripted connection that answers each frame with others.
func webSocketServer(conn net.Conn, answer func(f ws.Frame) []ws.Frame) {
	r := bufio.NewReader(conn)
	if _, err := (ws.Upgrader{}).Upgrade(struct {
		io.Reader
		io.Writer
	}{r, conn}); err != nil {
		return
	}
	for {
		header, err := ws.ReadHeader(r)
		if err != nil {
			return
		}
		f := ws.Frame{Header: header, Payload: make([]byte, header.Length)} // of ours
		if _, err := io.ReadFull(r, f.Payload); err != nil {
			return
		}
		for _, a := range answer(ws.UnmaskFrame(f)) {
			if ws.WriteFrame(conn, a) != nil {
				return
			}
		}
	}
}

func TestAnswersInFragmentsWithPingsBetween(t *testing.T) {
	address := scripted(t, func(_ int, conn net.Conn) {
		webSocketServer(conn, func(f ws.Frame) []ws.Frame {
			if f.Header.OpCode == ws.OpPong && !bytes.Equal(f.Payload, []byte("alive?")) {
				t.Errorf("the answer to a ping is %q", f.Payload)
			}
			if f.Header.OpCode != ws.OpBinary {
				return nil
			}
			first := ws.NewFrame(ws.OpBinary, false, f.Payload[:10])
			return []ws.Frame{first, ws.NewPingFrame([]byte("alive?")),
				ws.NewFrame(ws.OpContinuation, true, f.Payload[10:])}
		})
	})
	if r := faultless(t, webSocketOptions(WebSocketEcho, address)); r.Operations != 20 {
		t.Errorf("%d operations", r.Operations)
	}
}

func TestWhatAWebSocketServerDoesWrongIsAnError(t *testing.T) {
	for want, answer := range map[string]func(f ws.Frame) []ws.Frame{
		"message: not the echo of what was sent": func(f ws.Frame) []ws.Frame {
			f.Payload[0]++
			return []ws.Frame{ws.NewBinaryFrame(f.Payload)}
		},
		"message: closed by the server": func(ws.Frame) []ws.Frame {
			return []ws.Frame{ws.NewCloseFrame(ws.NewCloseFrameBody(1001, ""))}
		},
		"message: malformed message": func(f ws.Frame) []ws.Frame {
			return []ws.Frame{ws.MaskFrame(f)}
		},
	} {
		address := scripted(t, func(_ int, conn net.Conn) { webSocketServer(conn, answer) })
		o := webSocketOptions(WebSocketEcho, address)
		o.Operations, o.Connections = 3, 1
		if r := bench(t, o); r.Errors[want] != 3 || r.Operations != 0 {
			t.Errorf("%v, want 3 times %q", r.Errors, want)
		}
	}
}

func TestARefusedWebSocketSaysWhy(t *testing.T) {
	address := scripted(t, func(_ int, conn net.Conn) {
		says(conn, "", "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno token\n")
	})
	_, err := Run(t.Context(), webSocketOptions(WebSocketEcho, address))
	if !errors.Is(err, errNotUpgraded) || !strings.Contains(err.Error(), "upgrade: ") ||
		!strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "no token") {
		t.Error(err)
	}
	// The port of an HTTPS server of net/http.
	address = scripted(t, func(_ int, conn net.Conn) {
		says(conn, "", "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.")
	})
	_, err = Run(t.Context(), webSocketOptions(WebSocketEcho, address))
	if err == nil || !strings.Contains(err.Error(), "request to an HTTPS server") {
		t.Error(err)
	}
}

// Many servers welcome a client. What they say before the first echo is none of the echoes, and
// what comes to an idle connection is no pong.
func TestGreetingsAreNoEchoes(t *testing.T) {
	for _, mode := range []Mode{WebSocketEcho, WebSocketIdle} {
		for _, greetings := range []int{maxGreetings, maxGreetings + 1} {
			address := scripted(t, func(_ int, conn net.Conn) {
				first := true
				webSocketServer(conn, func(f ws.Frame) (answer []ws.Frame) {
					for i := range greetings {
						if first {
							answer = append(answer, ws.NewTextFrame([]byte{'a' + byte(i)}))
						}
					}
					first = false
					if f.Header.OpCode == ws.OpPing {
						return append(answer, ws.NewPongFrame(f.Payload))
					}
					return append(answer, ws.NewBinaryFrame(f.Payload))
				})
			})
			o := webSocketOptions(mode, address)
			if mode == WebSocketEcho && greetings > maxGreetings {
				r := bench(t, o)
				const class = "message: not the echo of what was sent"
				if r.Errors[class] == 0 || !strings.Contains(r.Examples[class], `"q"`) {
					t.Errorf("%v, such as %v", r.Errors, r.Examples)
				}
				continue
			}
			faultless(t, o)
		}
	}
}

// A server that has welcomed its client may be late, or no echo.
func TestNothingBehindAGreeting(t *testing.T) {
	address := scripted(t, func(_ int, conn net.Conn) {
		webSocketServer(conn, func(f ws.Frame) []ws.Frame {
			return []ws.Frame{ws.NewTextFrame([]byte("hello"))}
		})
	})
	o := webSocketOptions(WebSocketEcho, address)
	o.Timeout, o.Operations, o.Connections = 200*ms, 1, 1
	r := bench(t, o)
	example := r.Examples["message: not the echo of what was sent"]
	if !strings.Contains(example, `"hello", and no other came in time`) {
		t.Errorf("%v, such as %v", r.Errors, r.Examples)
	}
}

// A member that goes is an error of its own; the others' broadcasts go on.
func TestBroadcastsGoOnWithoutAMemberThatHasGone(t *testing.T) {
	members := make(chan net.Conn, 4)
	address := scripted(t, func(number int, conn net.Conn) {
		if number > 0 { // the first one is the trial
			members <- conn
		}
		var gone net.Conn
		webSocketServer(conn, func(f ws.Frame) []ws.Frame {
			if f.Header.OpCode != ws.OpBinary {
				return nil
			}
			for range 4 {
				to := <-members
				if gone == nil && to != conn {
					gone = to
					gone.Close()
				} else if to != gone {
					ws.WriteFrame(to, ws.NewBinaryFrame(f.Payload))
				}
				members <- to
			}
			return nil
		})
	})
	o := webSocketOptions(WebSocketBroadcast, address)
	o.Operations, o.Timeout = 5, patience
	r := bench(t, o)
	lost := int64(0)
	for class, n := range r.Errors {
		if !strings.Contains(class, "closed") && !strings.Contains(class, "reset") {
			t.Errorf("%s: %s", class, r.Examples[class])
		}
		lost += n
	}
	if r.Operations != 5 || lost != 1 {
		t.Errorf("%d broadcasts, %d errors", r.Operations, lost)
	}
}

func TestWebSocketOptionsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no URL":           func(o *Options) { o.WebSocket = nil },
		"STARTTLS":         func(o *Options) { o.TLS, o.StartTLS = &tls.Config{}, starttls(t, "smtp") },
		"a framing":        func(o *Options) { o.Framing = message.EOF },
		"held by a socket": func(o *Options) { o.Hold = HoldSocket },
		"a large ping":     func(o *Options) { o.Size = 126 },
		"no message":       func(o *Options) { o.Size = 0 },
	} {
		o := webSocketOptions(WebSocketIdle, "127.0.0.1:1")
		if change(&o); o.Check() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestHeadersAndSubprotocolsAreAskedFor(t *testing.T) {
	heads := make(chan http.Header, 10)
	address := scripted(t, func(_ int, conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		heads <- r.Header
	})
	o := webSocketOptions(WebSocketEcho, address)
	o.WebSocket.Subprotocols = []string{"chat", "superchat"}
	o.WebSocket.Header = http.Header{"Authorization": {"Bearer token"}}
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("the server hasn't answered")
	}
	h := <-heads
	if h.Get("Authorization") != "Bearer token" ||
		!strings.Contains(h.Get("Sec-WebSocket-Protocol"), "superchat") {
		t.Errorf("%v", h)
	}
}

// However the bytes come, the frames are the same, and no frame is longer than a message may be.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x82\x05hello\x89\x00"))
	f.Add([]byte("\x82\x7e\x00\x03abc"))
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("\x82\x85abcdhello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all := func(step int) (found [][]byte, err error) {
			var framer frames
			for at, end := 0, 0; end < len(data); {
				end = min(len(data), end+step)
				for {
					n, pkt, err := framer.Next(data[at:end], false)
					if err != nil {
						return found, err
					}
					if pkt == nil {
						break
					}
					if n != len(pkt) || framer.Want() > message.MaxSize+10 {
						t.Fatalf("%d bytes of %d, wants %d", len(pkt), n, framer.Want())
					}
					found, at = append(found, pkt), at+n
				}
			}
			return found, nil
		}
		whole, errWhole := all(len(data) + 1)
		pieces, errPieces := all(1)
		if !errors.Is(errPieces, errWhole) || len(whole) != len(pieces) {
			t.Fatalf("%d frames and %v, but %d and %v byte by byte", len(whole), errWhole,
				len(pieces), errPieces)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], pieces[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
		if errWhole != nil && !errors.Is(errWhole, packet.ErrMalformed) &&
			!errors.Is(errWhole, packet.ErrPacketTooLarge) {
			t.Fatal(errWhole)
		}
	})
}
