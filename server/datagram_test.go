//go:build linux

package server_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/whorl-go/whorl/server"
)

// answering is a Port that answers datagrams in capital letters.
func answering(t testing.TB) server.Port {
	return server.Port{OnPacket: func(ctx context.Context, l *server.Listener, data []byte, from net.Addr) {
		if bytes.Equal(data, []byte("panic")) {
			panic("datagram")
		}
		if bytes.Equal(data, []byte("Goexit")) {
			goruntime.Goexit()
		}
		if _, err := l.SendTo(ctx, bytes.ToUpper(data), from); err != nil {
			t.Error(err)
		}
	}}
}

func TestUDP(t *testing.T) {
	for _, network := range []string{"udp", "udp4", "udp6"} {
		for _, reuse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reuse %v", network, reuse), func(t *testing.T) {
				port := answering(t)
				port.ReusePort = reuse
				h := open(t, server.Config{Port: port})
				l := h.listen(network)
				h.serve()
				sent := 0
				for range 10 { // clients, which with ReusePort go to different loops
					conn := dial(t, l)
					for _, text := range []string{"hello", "panic", "Goexit", "world"} {
						write(t, conn, text)
						if sent++; text == "panic" || text == "Goexit" {
							continue
						}
						answer := make([]byte, 100)
						n, err := conn.Read(answer)
						if want := bytes.ToUpper([]byte(text)); err != nil || !bytes.Equal(answer[:n], want) {
							t.Fatalf("%q, %v", answer[:n], err)
						}
					}
				}
				until(t, "all have come", func() bool { return h.Stats().Datagrams == uint64(sent) })
				if !h.logged("datagram") {
					t.Error("the panics were not logged")
				}
				large := dial(t, l)
				text := bytes.Repeat([]byte("x"), 60_000)
				_, err := large.Write(text)
				check(t, err)
				answer := make([]byte, 64<<10)
				if n, err := large.Read(answer); n != len(text) || err != nil {
					t.Error(n, err)
				}
				check(t, h.Shutdown(inTime(t)))
				check(t, receive(t, h.served))
			})
		}
	}
}

func TestUnixDatagrams(t *testing.T) {
	path := socketPath(t)
	h := open(t, server.Config{Port: answering(t)})
	l, err := h.Listen(h.ctx(), "unixgram", path)
	check(t, err)
	h.serve()
	mine := filepath.Join(t.TempDir(), "client")
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: mine, Net: "unixgram"}, l.Addr().(*net.UnixAddr))
	check(t, err)
	defer os.Remove(mine)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	trips := []string{"hello", "panic", "world"}
	for _, text := range trips {
		write(t, conn, text)
		if text == "panic" {
			continue
		}
		answer := make([]byte, 100)
		n, err := conn.Read(answer)
		if want := bytes.ToUpper([]byte(text)); err != nil || !bytes.Equal(answer[:n], want) {
			t.Fatalf("%q, %v", answer[:n], err)
		}
	}
}

// A listener for datagrams may send before anything has come, from anywhere.
func TestDatagramsOfTheServersOwn(t *testing.T) {
	h := open(t, server.Config{Port: answering(t)})
	l := h.listen("udp")
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	defer peer.Close()
	peer.SetDeadline(time.Now().Add(patience))
	if n, err := l.SendTo(h.ctx(), []byte("first"), peer.LocalAddr()); n != 5 || err != nil {
		t.Error(n, err)
	}
	buf := make([]byte, 100)
	n, from, err := peer.ReadFrom(buf)
	if string(buf[:n]) != "first" || from.String() != l.Addr().String() || err != nil {
		t.Errorf("%q %v %v", buf[:n], from, err)
	}
}
