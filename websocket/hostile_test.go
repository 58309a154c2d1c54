package websocket_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

// hostiles runs a test on each kind of server. Whoever is on /all is in a room, to which each
// binary message of one byte is a broadcast of 16 KiB.
func hostiles(t *testing.T, test func(t *testing.T, h *house, all func() int)) {
	options := websocket.Options{
		MaxMessage: 1 << 20, MaxQueue: 256 << 10, CloseTimeout: 200 * time.Millisecond,
		Compression: websocket.Compression{Enabled: true},
	}
	rooms := websocket.NewRooms()
	serve := func(c *websocket.Conn, m websocket.Message) {
		if m.Opcode == websocket.Binary && len(m.Data) == 1 {
			rooms.Broadcast("all", make([]byte, 16<<10), websocket.Binary)
			return
		}
		c.Push(m.Data, m.Opcode)
	}
	join := func(_ context.Context, c *websocket.Conn, r *http.Request) {
		if r.URL.Path == "/all" {
			rooms.Join(c, "all")
		}
	}
	called := options
	called.OnMessage = func(_ context.Context, c *websocket.Conn, m websocket.Message) { serve(c, m) }
	upgrade := func(w http.ResponseWriter, r *http.Request) {
		o := &websocket.UpgradeOptions{Options: called, OnOpen: join}
		_, err := websocket.Upgrade(w, r, o)
		check(t, err)
	}
	for name, start := range map[string]func(t *testing.T) *house{
		"callback": func(t *testing.T) *house {
			return start(t, "tcp", websocket.Config{Options: called, OnOpen: join})
		},
		"coroutine": func(t *testing.T) *house {
			return start(t, "tcp", websocket.Config{Options: options, OnOpen: join,
				Handle: func(ctx context.Context, c *websocket.Conn) {
					for m, err := range c.Messages(ctx) {
						if err != nil {
							return
						}
						serve(c, m)
					}
				}})
		},
		"Upgrade over net": func(t *testing.T) *house { return plainly(t, new(http.Server), upgrade) },
		"Upgrade over hooks": func(t *testing.T) *house {
			leaktest.Guard(t)
			return hooked(t, runtimetest.Start(t, runtimetest.Quiet(t)...), upgrade)
		},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, start(t), func() int { return len(rooms.Members("all")) })
		})
	}
}

// besides has somebody else be served all the while, and looks at the memory: fn is the attack.
func besides(t *testing.T, h *house, fn func()) {
	t.Helper()
	good := h.upgraded("/good")
	good.send(frame(1, "before"))
	good.expect(answer(1, "before"))
	var before, now goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	over, served := make(chan struct{}), make(chan int)
	peak := before.HeapInuse
	go func() {
		trips := 0
		defer func() { served <- trips }()
		for {
			select {
			case <-over:
				return
			default:
			}
			if good.echoes("still here") != nil {
				return
			}
			trips++
			goruntime.ReadMemStats(&now)
			peak = max(peak, now.HeapInuse)
		}
	}()
	fn()
	close(over)
	if trips := receive(t, served); trips == 0 {
		t.Error("nobody else was served")
	}
	if err := good.echoes("after"); err != nil {
		t.Errorf("the other connection: %v", err)
	}
	if grown := peak - before.HeapInuse; grown > 8<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

// echoes has a message come back.
func (r *raw) echoes(text string) error {
	if _, err := io.WriteString(r, frame(1, text)); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, r.r, int64(len(answer(1, text))))
	return err
}

// flood sends until the peer takes no more, or all is sent, and returns how much was.
func flood(to net.Conn, piece []byte, times int) (sent int) {
	to.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for range times {
		n, err := to.Write(piece)
		if sent += n; err != nil {
			break
		}
	}
	return sent
}

// 24 GiB of zeros, compressed to 24 MiB, in one frame and in as many as there are KiB.
func TestDeflateBomb(t *testing.T) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	check(t, err)
	w.Write(make([]byte, 1<<20))
	w.Flush()
	mebibyte := b.Bytes()
	header := func(first byte, length int) []byte {
		return binary.BigEndian.AppendUint32([]byte{first, 0xff, 0, 0, 0, 0}, uint32(length))
	}
	short := append([]byte{0, 0xfe}, byte(len(mebibyte)>>8), byte(len(mebibyte)), 0, 0, 0, 0)
	const times = 24 << 10
	for name, bomb := range map[string]struct{ first, each []byte }{
		"one frame": {append(header(fin|rsv1|2, times*len(mebibyte)), 0, 0, 0, 0), mebibyte},
		"fragments": {[]byte{rsv1 | 2, 0x80, 0, 0, 0, 0}, append(short, mebibyte...)},
	} {
		t.Run(name, func(t *testing.T) {
			hostiles(t, func(t *testing.T, h *house, _ func() int) {
				besides(t, h, func() {
					r := h.connect()
					r.send("GET / HTTP/1.1\r\n" + handshakeLines +
						"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
					if resp := r.response(); resp.Header.Get("Sec-WebSocket-Extensions") == "" {
						t.Fatal("no compression")
					}
					r.send(string(bomb.first))
					flood(r, bomb.each, times)
					wantCloseFrame(t, r.r, websocket.StatusTooBig, 0)
				})
			})
		})
	}
}

// A header that declares what nobody could send.
func TestHugeHeader(t *testing.T) {
	hostiles(t, func(t *testing.T, h *house, _ func() int) {
		besides(t, h, func() {
			for length, code := range map[string]int{
				"\x80\x00\x00\x00\x00\x00\x00\x00": websocket.StatusProtocolError,
				"\x7f\xff\xff\xff\xff\xff\xff\xff": websocket.StatusTooBig,
				"\x00\x00\x00\x00\x00\x10\x00\x01": websocket.StatusTooBig,
			} {
				r := h.upgraded("/")
				r.send("\x82\xff" + length)
				wantCloseFrame(t, r.r, code, 0)
			}
		})
	})
}

// Pings as fast as they can be sent, from whoever reads the pongs and from whoever doesn't.
func TestPingFlood(t *testing.T) {
	pings := []byte(strings.Repeat(frame(9, strings.Repeat("p", 125)), 1000))
	hostiles(t, func(t *testing.T, h *house, _ func() int) {
		for _, reads := range []bool{false, true} {
			besides(t, h, func() {
				r := h.upgraded("/")
				if reads {
					go io.Copy(io.Discard, r.r)
				}
				if sent := flood(r, pings, 200); sent == 0 {
					t.Error("nothing was sent")
				}
				r.Close()
			})
		}
	})
}

// 100,000 empty fragments are an empty message; and 100,000 empty messages 100,000.
func TestEmptyFragments(t *testing.T) {
	hostiles(t, func(t *testing.T, h *house, _ func() int) {
		besides(t, h, func() {
			r := h.upgraded("/")
			r.send("\x01\x80\x00\x00\x00\x00" +
				strings.Repeat("\x00\x80\x00\x00\x00\x00", 100_000) + frame(0, "end"))
			r.expect(answer(1, "end"))
			go r.Write([]byte(strings.Repeat(frame(1, ""), 100_000)))
			r.expect(strings.Repeat(answer(1, ""), 100_000))
		})
	})
}

// Who never reads is sent away, whether it has asked for what it is sent or not.
func TestPeerThatNeverReads(t *testing.T) {
	hostiles(t, func(t *testing.T, h *house, all func() int) {
		besides(t, h, func() {
			greedy, lazy := h.upgraded("/all"), h.upgraded("/all")
			leaktest.Until(t, "both are in the room", func() bool { return all() == 2 })
			leaktest.Until(t, "both are sent away", func() bool {
				greedy.Write([]byte(frame(2, "x")))
				lazy.Write([]byte(frame(1, "x")))
				return all() == 0
			})
			for _, r := range []*raw{greedy, lazy} { // what the kernels had room for
				if n, _ := io.Copy(io.Discard, r.r); n > 16<<20 {
					t.Errorf("%d bytes were sent to it", n)
				}
			}
		})
	})
}
