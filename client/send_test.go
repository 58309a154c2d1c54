//go:build linux

package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// transports runs a test in plaintext and over TLS. open is what the server's script begins with.
func transports(t *testing.T, test func(ctx context.Context, t *testing.T, network string, open func(s *script))) {
	for network, open := range map[string]func(s *script){
		"tcp": func(*script) {},
		"tls": func(s *script) { s.secure(serverTLS()) },
	} {
		t.Run(network, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(ctx, t, network, open) })
		})
	}
}

// numbers is a text of n bytes in which no part is like another.
func numbers(n int) []byte {
	p := make([]byte, 0, n+8)
	for i := uint64(0); len(p) < n; i++ {
		p = binary.BigEndian.AppendUint64(p, i)
	}
	return p[:n]
}

// Messages of many sizes arrive, all of their bytes, in order, at a server that reads a little at a
// time.
func TestSendAllArrives(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		sizes := []int{0, 1, 100, 8 << 10, 8<<10 + 1, 64 << 10, 200_000, 5, 500_000}
		var all []byte
		for _, size := range sizes {
			all = append(all, numbers(size)...)
		}
		received := make(chan []byte, 1)
		address := serve(t, func(s *script) {
			s.ok(s.raw.(*net.TCPConn).SetReadBuffer(32 << 10))
			open(s)
			var got []byte
			for buf := make([]byte, 3000); len(got) < len(all); {
				n, err := s.Read(buf)
				s.ok(err)
				got = append(got, buf[:n]...)
			}
			received <- got
			s.rest()
		})
		c := connect(ctx, t, client.Config{TLS: trusting(), SendBuffer: 8 << 10}, network, address)
		for _, size := range sizes {
			message := numbers(size)
			if n, err := c.Send(ctx, message); n != size || err != nil {
				t.Fatalf("sent %d of %d, %v", n, size, err)
			}
			clear(message) // Send has returned, so it is ours again
		}
		if !bytes.Equal(receive(ctx, t, received), all) {
			t.Error("something else has arrived")
		}
	})
}

// A sender that outruns its peer waits: what is queued stays below 64 KiB and a message.
func TestSendIsBounded(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		const size, count = 8 << 10, 100
		peer, goOn := make(chan net.Conn, 1), make(chan struct{})
		arrived := make(chan int, 1)
		address := serve(t, func(s *script) {
			s.ok(s.raw.(*net.TCPConn).SetReadBuffer(32 << 10))
			open(s)
			peer <- s.raw
			<-goOn
			n := 0
			for buf := make([]byte, 64<<10); n < size*count; {
				m, err := s.Read(buf)
				s.ok(err)
				n += m
			}
			arrived <- n
			s.rest()
		})
		c := connect(ctx, t, client.Config{TLS: trusting(), SendBuffer: 8 << 10}, network, address)
		var taken atomic.Int64
		wait := start(ctx, t, func(ctx context.Context) error {
			for range count {
				n, err := c.Send(ctx, make([]byte, size))
				if err != nil {
					return err
				}
				taken.Add(int64(n))
			}
			return nil
		})
		sockets := receive(ctx, t, peer)
		eventually(ctx, t, "the sender waits", func() bool { return waiting(ctx, t, "socket send") })
		inKernel := queued(t, c.Socket().FD(), unix.SIOCOUTQ)
		raw, err := sockets.(syscall.Conn).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) { inKernel += queued(t, int(fd), unix.SIOCINQ) }))
		if held := int(taken.Load()) - inKernel; held > 64<<10+size {
			t.Errorf("%d bytes are queued", held)
		}
		close(goOn)
		check(t, wait())
		if n := receive(ctx, t, arrived); n != size*count {
			t.Errorf("%d bytes have arrived", n)
		}
	})
}

// waiting reports whether a coroutine waits for what.
func waiting(ctx context.Context, t testing.TB, what string) bool {
	rt, err := runtime.From(ctx)
	check(t, err)
	all, err := runtime.Await(ctx, func() ([]runtime.Info, error) { return rt.List(), nil })
	check(t, err)
	for _, info := range all {
		if info.State == what {
			return true
		}
	}
	return false
}

// queued asks the kernel how much is in a socket's queue.
func queued(t testing.TB, fd int, request uint) int {
	n, err := unix.IoctlGetInt(fd, request)
	check(t, err)
	return n
}

func TestWriteTimeout(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			s.idle()
		})
		c := connect(ctx, t, client.Config{TLS: trusting(), WriteTimeout: soon}, network, address)
		begin := time.Now()
		n, err := c.Send(ctx, make([]byte, 64<<20))
		wantError(t, "Send", err, runtime.ErrTimeout)
		if took := time.Since(begin); n == 64<<20 || took < soon || !c.Connected() {
			t.Errorf("sent %d bytes in %v, connected %v", n, took, c.Connected())
		}
		cancelable, cancel := context.WithCancel(ctx)
		cancel()
		_, err = c.Send(cancelable, make([]byte, 64<<20))
		wantError(t, "Send with a cancelled context", err, context.Canceled)
	})
}

// What a coroutine sends before it waits leaves as one segment.
func TestSmallSendsLeaveTogether(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) {
			for range 3 {
				s.hear("MAIL\r\nRCPT\r\nDATA\r\n")
				s.say("354\r\n")
			}
			s.rest()
		})
		c := connect(ctx, t, lines, "tcp", address)
		defer c.Close()
		for range 3 {
			before := segments(t, c)
			for _, command := range []string{"MAIL\r\n", "RCPT\r\n", "DATA\r\n"} {
				send(ctx, t, c, command)
			}
			if now := segments(t, c); now != before {
				t.Errorf("%d segments left before the turn was over", now-before)
			}
			recv(ctx, t, c, "354\r\n")
			if now := segments(t, c); now != before+1 {
				t.Errorf("%d segments have left, want 1", now-before)
			}
		}
	})
}

// segments returns how many segments with data the client has sent.
func segments(t testing.TB, c *client.Client) int {
	info, err := unix.GetsockoptTCPInfo(c.Socket().FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	check(t, err)
	return int(info.Data_segs_out)
}

// Without a Recv after it, a Send goes out at the end of the turn.
func TestSendWithoutRecv(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		heard := make(chan struct{})
		c := connect(ctx, t, client.Config{}, "tcp", serve(t, func(s *script) {
			s.hear("hello")
			close(heard)
			s.rest()
		}))
		send(ctx, t, c, "hello")
		receive(ctx, t, heard)
	})
}

func TestReset(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		reset := make(chan struct{})
		address := serve(t, func(s *script) {
			open(s)
			s.hear("hello")
			s.reset()
			close(reset)
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		send(ctx, t, c, "hello")
		receive(ctx, t, reset)
		// The error may come out of a later Send than the first.
		var sendErr error
		eventually(ctx, t, "Send fails", func() bool {
			_, sendErr = c.Send(ctx, []byte("into the void"))
			return sendErr != nil
		})
		if !errors.Is(sendErr, syscall.ECONNRESET) && !errors.Is(sendErr, syscall.EPIPE) {
			t.Errorf("Send: %v", sendErr)
		}
		if !strings.Contains(sendErr.Error(), address) {
			t.Errorf("the error doesn't say where: %v", sendErr)
		}
		_, err := c.Send(ctx, []byte("again"))
		if err == nil {
			t.Error("another Send succeeds")
		}
	})
}

func TestResetWhileReceiving(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			s.say("hel")
			s.hear("go")
			s.reset()
		})
		c := connect(ctx, t, client.Config{TLS: trusting(), EOF: "\r\n"}, network, address)
		send(ctx, t, c, "go")
		_, err := c.Recv(ctx)
		wantError(t, "Recv", err, syscall.ECONNRESET)
		if socket.Code(err) != int(syscall.ECONNRESET) {
			t.Errorf("code is %d", socket.Code(err))
		}
	})
}

// One reader and one writer at a time. A second one is told so, and disturbs nothing.
func TestBusy(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		goOn := make(chan struct{})
		address := serve(t, func(s *script) {
			open(s)
			<-goOn
			io.CopyN(io.Discard, s, 16<<20)
			s.say("welcome")
			s.rest()
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		sender := start(ctx, t, func(ctx context.Context) error {
			_, err := c.Send(ctx, make([]byte, 16<<20))
			return err
		})
		receiver := start(ctx, t, func(ctx context.Context) error {
			p, err := c.Recv(ctx)
			if err == nil && string(p) != "welcome" {
				err = fmt.Errorf("received %q", p)
			}
			return err
		})
		eventually(ctx, t, "both wait", func() bool { return waiting(ctx, t, "socket send") && waiting(ctx, t, "socket recv") })
		_, err := c.Recv(ctx)
		wantError(t, "second Recv", err, socket.ErrBusy)
		_, err = c.Peek(make([]byte, 1))
		wantError(t, "Peek", err, socket.ErrBusy)
		_, err = c.Send(ctx, []byte("x"))
		wantError(t, "second Send", err, socket.ErrBusy)
		_, err = c.SendFile(ctx, "/dev/null", 0, 0)
		wantError(t, "SendFile", err, socket.ErrBusy)
		if network == "tcp" {
			wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrBusy)
		}
		close(goOn)
		check(t, sender())
		check(t, receiver())
	})
}

// One coroutine sends while another one receives, a megabyte each way, with each message as large
// as a record of TLS, or not.
func TestBothDirections(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		const size = 1 << 20
		address := serve(t, func(s *script) {
			open(s)
			buf := make([]byte, 10_000)
			io.CopyBuffer(struct{ io.Writer }{s.Conn}, struct{ io.Reader }{s.Conn}, buf) // an echo
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		data := numbers(size)
		sender := start(ctx, t, func(ctx context.Context) error {
			for rest := data; len(rest) > 0; {
				n, err := c.Send(ctx, rest[:min(len(rest), 10_001)])
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		})
		var got []byte
		for len(got) < size {
			p, err := c.Recv(ctx)
			check(t, err)
			got = append(got, p...)
		}
		check(t, sender())
		if !bytes.Equal(got, data) {
			t.Error("the echo is another one")
		}
	})
}

func TestSendFile(t *testing.T) {
	data := numbers(3 << 20)
	name := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(name, data, 0o600))
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			io.Copy(s, struct{ io.Reader }{s.Conn})
		})
		for _, tc := range []struct{ offset, length int64 }{
			{0, 0}, {0, 1}, {1, 2 << 20}, {3<<20 - 5, 0}, {3<<20 - 5, 5}, {3 << 20, 0}, {70_000, 64 << 10},
		} {
			c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
			want := data[tc.offset:]
			if tc.length > 0 {
				want = want[:tc.length]
			}
			want = append([]byte("before "), want...)
			sender := start(ctx, t, func(ctx context.Context) error {
				if _, err := c.Send(ctx, []byte("before ")); err != nil {
					return err
				}
				n, err := c.SendFile(ctx, name, tc.offset, tc.length)
				if err == nil && n != int64(len(want)-len("before ")) {
					err = fmt.Errorf("sent %d bytes", n)
				}
				return err
			})
			var got []byte
			for len(got) < len(want) {
				p, err := c.Recv(ctx)
				check(t, err)
				got = append(got, p...)
			}
			check(t, sender())
			if !bytes.Equal(got, want) {
				t.Errorf("from %d, %d bytes: something else has arrived", tc.offset, tc.length)
			}
			check(t, c.Close())
		}
	})
}

func TestSendFileErrors(t *testing.T) {
	folder := t.TempDir()
	name := filepath.Join(folder, "file")
	check(t, os.WriteFile(name, []byte("hello"), 0o600))
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			s.hear("hello")
			s.say("welcome")
			s.rest()
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		for _, tc := range []struct {
			name           string
			offset, length int64
			want           error
		}{
			{filepath.Join(folder, "none"), 0, 0, os.ErrNotExist},
			{folder, 0, 0, syscall.EISDIR},
			{name, -1, 0, syscall.EINVAL},
			{name, 0, -1, syscall.EINVAL},
			{name, 5, 1, io.ErrUnexpectedEOF},
			{name, 100, 0, nil},
		} {
			n, err := c.SendFile(ctx, tc.name, tc.offset, tc.length)
			if !errors.Is(err, tc.want) || n != 0 {
				t.Errorf("%+v: %d bytes, error %v", tc, n, err)
			}
		}
		// The connection is as it was.
		if n, err := c.SendFile(ctx, name, 0, 0); n != 5 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		recv(ctx, t, c, "welcome")
	})
}

// Coroutines of all loops share one client, with a lock for each direction.
func TestSharedClient(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { io.Copy(s, struct{ io.Reader }{s.Conn}) })
		c := connect(ctx, t, lines, "tcp", address)
		var mu runtime.Mutex
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				for range 10 {
					check(t, mu.Lock(ctx))
					message := fmt.Sprintf("%d\r\n", i)
					_, sendErr := c.Send(ctx, []byte(message))
					p, recvErr := c.Recv(ctx)
					if string(p) != message || sendErr != nil || recvErr != nil {
						t.Errorf("received %q, %v, %v; want %q", p, sendErr, recvErr, message)
					}
					mu.Unlock()
				}
			})
		}
		_, err := runtime.Await(ctx, func() (any, error) { group.Wait(); return nil, nil })
		check(t, err)
	})
}
