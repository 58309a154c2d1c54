//go:build linux

package websocket_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/websocket"
)

// However many broadcasts there are in one turn of a loop, each member on it gets them in one write.
func TestBroadcastsOfOneTurnAreOneWrite(t *testing.T) {
	for name, compression := range map[string]websocket.Compression{
		"plain": {}, "deflate": {Enabled: true, MinSize: 1},
	} {
		t.Run(name, func(t *testing.T) {
			const broadcasts, members = 32, 4
			var s atomic.Pointer[websocket.Server]
			config, conns := joining(websocket.Options{Compression: compression})
			config.OnMessage = func(context.Context, *websocket.Conn, websocket.Message) {
				for i := range broadcasts {
					s.Load().Broadcast("room", fmt.Appendf(nil, "message message %d", i), websocket.Text)
				}
			}
			config.OnOpen = func(ctx context.Context, c *websocket.Conn, _ *http.Request) {
				home, err := sched.HomeFor(ctx)
				check(t, err)
				c.SetValue(home.Loop())
				conns <- c
			}
			h := start(t, "tcp", config)
			s.Store(h.s)
			var all []*raw
			var loops []any
			for range members {
				r := h.connect()
				r.send("GET /room HTTP/1.1\r\n" + handshakeLines +
					"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
				if resp := r.response(); resp.StatusCode != 101 {
					t.Fatal(resp.Status)
				}
				c := receive(t, conns)
				check(t, h.s.Join(c, "room"))
				all, loops = append(all, r), append(loops, c.Value())
			}
			leaktest.Until(t, "all have joined", func() bool { return len(h.s.Members("room")) == members })
			var before []uint32
			for _, r := range all {
				before = append(before, segments(t, r))
			}
			all[0].send(frame(1, "go"))
			for i, r := range all {
				for range broadcasts {
					head := make([]byte, 2)
					if _, err := io.ReadFull(r.r, head); err != nil || head[0]|rsv1 != fin|rsv1|1 {
						t.Fatalf("%q, %v", head, err)
					}
					_, err := r.r.Discard(int(head[1]))
					check(t, err)
				}
				// Another loop has turns of its own.
				if n := segments(t, r) - before[i]; n != 1 && loops[i] == loops[0] {
					t.Errorf("they came in %d segments", n)
				}
			}
		})
	}
}

// segments is how many segments with data have come.
func segments(t *testing.T, r *raw) (n uint32) {
	t.Helper()
	at, err := r.Conn.(*net.TCPConn).SyscallConn()
	check(t, err)
	check(t, at.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		check(t, err)
		n = info.Data_segs_in
	}))
	return n
}
