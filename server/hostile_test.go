//go:build linux

package server_test

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/server"
)

// bareClient connects a descriptor without package net: there are very many of them.
func bareClient(t testing.TB, port int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	check(t, unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	return fd
}

// Very many clients that shake hands a byte at a time cost little, no handshake, and keep nobody
// else waiting; and all are dropped when their time is over.
func TestSlowLoris(t *testing.T) {
	many, handshake := 10_000, 20*time.Second
	if testing.Short() || raceDetector {
		many, handshake = 1000, 4*time.Second
	}
	many = min(many, fileLimit(t)/2-200)
	words := hello(t)
	eachStyle(t, func(t *testing.T, port server.Port) {
		port.TLS, port.HandshakeTimeout = serverTLS(), handshake
		rejected := make(chan error, many)
		port.OnReject = func(_ context.Context, _ *server.Conn, reason error) { rejected <- reason }
		h, l := start(t, "tls", server.Config{Port: port})
		conn := dialTLS(t, l)
		trip(t, conn, "hello")
		heap, stack := childtest.MemoryInUse()
		fds := make([]int, many)
		began := time.Now()
		for i := range fds {
			fds[i] = bareClient(t, addrPort(l))
		}
		defer func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		opened := time.Since(began)
		for at := range 3 { // a byte each, from all of them, three times; and others go on
			for _, fd := range fds {
				unix.Write(fd, []byte{words[at]})
			}
			trip(t, conn, "still served")
			second := dialTLS(t, l)
			trip(t, second, "new ones, too")
			second.Close()
		}
		if st := h.Stats(); opened < handshake/2 && (st.Handshaking != 0 || st.Waiting != 0) {
			t.Errorf("%+v", st)
		}
		if st := h.Stats(); st.Opening == many {
			heapAfter, stackAfter := childtest.MemoryInUse()
			each := (heapAfter + stackAfter - heap - stack) / int64(many)
			t.Logf("%d bytes of heap and stack each", each)
			if each > 2000 && !raceDetector {
				t.Errorf("%d bytes each", each)
			}
		}
		for range many {
			receive(t, rejected)
		}
		trip(t, conn, "still there")
		until(t, "they are gone", func() bool { return h.Stats().Connections == 1 })
		if st := h.Stats(); st.Opened != 4 {
			t.Errorf("%+v", st)
		}
		goruntime.KeepAlive(fds)
	})
}

// Whatever comes first, and however it is cut, the server stays.
func TestGarbage(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		eachStyle(t, func(t *testing.T, port server.Port) {
			port.TLS, port.EOF, port.MaxPacket, port.ProxyProtocol = serverTLS(), "\n", 1000, []string{"127.0.0.2"}
			h, l := start(t, network, server.Config{Port: port})
			for i := range 200 {
				conn := dial(t, l, []string{"127.0.0.1", "127.0.0.2"}[i%2])
				conn.Write(pattern(3000)[i*7 : i*7+i*3])
				if i%3 == 0 {
					reset(conn)
				} else {
					conn.Close()
				}
			}
			h.settled()
			conn := dialAs(t, l, network == "tls")
			trip(t, conn, "hello\n")
		})
	}
}
