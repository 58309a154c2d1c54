//go:build linux

package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// A socket that systemd has opened is served by the process that it starts, and only by that one.
func TestSocketActivation(t *testing.T) {
	if childtest.Is(t) {
		serveInherited()
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	file, err := l.(*net.TCPListener).File()
	check(t, err)
	defer file.Close()
	l.Close()
	self := childtest.Command(t)
	for _, right := range []bool{true, false} {
		t.Run(fmt.Sprintf("LISTEN_PID is right: %v", right), func(t *testing.T) {
			// The shell is replaced by the test, which so has the number that the variable tells.
			pid := "$$"
			if !right {
				pid = "1"
			}
			cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=` + pid + ` exec "$0" "$@"`}, self.Args...)...)
			cmd.Env = append(slices.Clip(self.Env), "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
			cmd.ExtraFiles = []*os.File{file}
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			check(t, err)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			lines := bufio.NewScanner(out)
			lines.Scan()
			want := "inherited 0"
			if right {
				want = "inherited 1 web " + l.Addr().String() + " again 0 environment false"
			}
			if lines.Text() != want {
				t.Errorf("%q, want %q", lines.Text(), want)
			}
			if right {
				conn, err := net.Dial("tcp", l.Addr().String())
				check(t, err)
				defer conn.Close()
				trip(t, conn, "hello")
			}
			in.Close()
			io.Copy(io.Discard, out)
			check(t, cmd.Wait())
		})
	}
}

// serveInherited serves what it has inherited until its input ends.
func serveInherited() {
	inherited, err := server.TakeInherited()
	if err != nil || len(inherited) == 0 {
		fmt.Println("inherited", len(inherited))
		return
	}
	again, _ := server.TakeInherited()
	err = runtime.Run(func(ctx context.Context) error {
		s := server.New(server.Config{})
		l, err := s.ListenFile(ctx, inherited[0].File, false, server.Port{Handle: echo})
		if err != nil {
			return err
		}
		inherited[0].File.Close()
		_, left := os.LookupEnv("LISTEN_FDS")
		fmt.Println("inherited", len(inherited), inherited[0].Name, l.Addr(), "again", len(again), "environment", left)
		runtime.Go(ctx, func(ctx context.Context) {
			runtime.Await(ctx, func() (int64, error) { return io.Copy(io.Discard, os.Stdin) })
			s.Close()
		})
		return s.Serve(ctx)
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func TestTakeInheritedRefusesNonsense(t *testing.T) {
	for _, count := range []string{"x", "-1", "1000000"} {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		t.Setenv("LISTEN_FDS", count)
		if all, err := server.TakeInherited(); err == nil || len(all) > 0 || !strings.Contains(err.Error(), "LISTEN_FDS") {
			t.Errorf("%s: %v, %v", count, all, err)
		}
	}
}

// A listening socket is handed from one server to its successor, and nobody who connects meanwhile
// is turned away.
func TestListenFile(t *testing.T) {
	for _, network := range []string{"tcp", "tls", "unix"} {
		t.Run(network, func(t *testing.T) {
			eachStyle(t, func(t *testing.T, port server.Port) {
				port.TLS = serverTLS()
				first, l := start(t, network, server.Config{Port: port})
				file, err := l.File()
				check(t, err)
				second := open(t, server.Config{})
				successor, err := second.ListenFile(second.ctx(), file, network == "tls", port)
				check(t, err)
				file.Close()
				if successor.Addr().String() != l.Addr().String() {
					t.Error(successor.Addr())
				}
				check(t, first.Shutdown(inTime(t)))
				conn := dial(t, l) // waits in the backlog
				second.serve()
				if network == "tls" {
					conn = tlsOver(conn)
				}
				trip(t, conn, "hello")
				if network == "tcp" {
					for c := range second.Connections() {
						if on, err := unix.GetsockoptInt(c.Socket().FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 || err != nil {
							t.Errorf("TCP_NODELAY is %d, %v", on, err)
						}
					}
				}
				conn.Close()
				second.settled()
			})
		})
	}
}

func TestListenFileRefusesOtherFiles(t *testing.T) {
	h := open(t, server.Config{})
	port := server.Port{Handle: echo}
	null, err := os.Open(os.DevNull)
	check(t, err)
	defer null.Close()
	if _, err := h.ListenFile(h.ctx(), null, false, port); !errors.Is(err, unix.ENOTSOCK) {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	check(t, err)
	defer file.Close()
	if _, err := h.ListenFile(h.ctx(), file, false, port); err == nil || !strings.Contains(err.Error(), "doesn't listen") {
		t.Error(err)
	}
}

// What was made elsewhere is set up like a listener of the server's own.
func TestListenFileSetsOptions(t *testing.T) {
	for _, nagle := range []bool{false, true} {
		h := open(t, server.Config{})
		foreign, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		file, err := foreign.(*net.TCPListener).File()
		check(t, err)
		foreign.Close()
		l, err := h.ListenFile(h.ctx(), file, false, server.Port{Handle: echo, Nagle: nagle})
		check(t, err)
		file.Close()
		h.serve()
		conn := dial(t, l)
		trip(t, conn, "hello")
		for c := range h.Connections() {
			noDelay, err := unix.GetsockoptInt(c.Socket().FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY)
			if (noDelay != 0) == nagle || err != nil {
				t.Errorf("Nagle %v: TCP_NODELAY is %d, %v", nagle, noDelay, err)
			}
			if keepAlive, err := unix.GetsockoptInt(c.Socket().FD(), unix.SOL_SOCKET, unix.SO_KEEPALIVE); keepAlive == 0 || err != nil {
				t.Errorf("SO_KEEPALIVE is %d, %v", keepAlive, err)
			}
		}
		conn.Close()
		h.settled()
	}
}
