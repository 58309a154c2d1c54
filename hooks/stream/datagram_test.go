//go:build linux

package stream_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
)

// receive returns one datagram and where it came from.
func receive(ctx context.Context, t testing.TB, s *stream.Stream, flags stream.Flags) (text, from string) {
	t.Helper()
	p := make([]byte, 1000)
	n, from, err := s.RecvFrom(ctx, p, flags)
	check(t, err)
	return string(p[:n]), from
}

func TestStreamDatagrams(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		dir := t.TempDir()
		for _, url := range []string{"udp://127.0.0.1:0", "udp://[::1]:0", "udp://localhost:0", "udg://" + dir + "/a", "udg://@" + dir} {
			server := streamServer(ctx, t, url)
			name := server.GetName(false)
			client := streamServer(ctx, t, strings.Replace(url, "/a", "/b", 1)+map[bool]string{true: "client"}[strings.Contains(url, "@")])
			for _, text := range []string{"first", "", "third"} {
				if n, err := client.SendTo(ctx, []byte(text), 0, name); n != len(text) || err != nil {
					t.Fatalf("%s: %d, %v", url, n, err)
				}
			}
			for range 2 { // peeking takes nothing
				if text, from := receive(ctx, t, server, stream.FlagPeek); text != "first" || from != client.GetName(false) {
					t.Errorf("%s: peeked %q from %q, want it from %q", url, text, from, client.GetName(false))
				}
			}
			set := streams{"server": server}
			for _, want := range []string{"first", "", "third"} {
				wantSelected(ctx, t, "r:server w:server", set, set, set, patience)
				text, from := receive(ctx, t, server, 0)
				if text != want || from != client.GetName(false) {
					t.Errorf("%s: %q from %q, want %q", url, text, from, want)
				}
				if n, err := server.SendTo(ctx, []byte("answer"), 0, from); n != 6 || err != nil {
					t.Fatalf("%s: %d, %v", url, n, err)
				}
				if text, from := receive(ctx, t, client, 0); text != "answer" || from != name {
					t.Errorf("%s: %q from %q", url, text, from)
				}
			}
			wantSelected(ctx, t, "", set, nil, nil, 0)
			check(t, server.SetTimeout(10*time.Millisecond))
			for _, flags := range []stream.Flags{0, stream.FlagPeek} {
				_, _, err := server.RecvFrom(ctx, make([]byte, 10), flags)
				wantError(t, "nothing comes", err, runtime.ErrTimeout)
			}
			if m := server.GetMetaData(); !m.TimedOut || m.EOF {
				t.Errorf("%s: %+v", url, m)
			}
			client.Close()
			server.Close()
		}
	})
}

func TestDatagramClients(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		server := streamServer(ctx, t, "udp://127.0.0.1:0")
		client, err := stream.SocketClient(ctx, "udp://"+server.GetName(false))
		check(t, err)
		write(ctx, t, client, "time?\n")
		text, from := receive(ctx, t, server, 0)
		if text != "time?\n" || from != client.GetName(false) {
			t.Errorf("%q from %q", text, from)
		}
		// With a part that doesn't fit the reader's buffer, which is lost.
		_, err = server.SendTo(ctx, []byte("noon\nand more"), 0, from)
		check(t, err)
		p := make([]byte, 5)
		if n, err := client.Read(ctx, p); string(p[:n]) != "noon\n" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		client.SetBlocking(false)
		if _, err := client.Read(ctx, p); err != stream.ErrWouldBlock {
			t.Errorf("what didn't fit: %v", err)
		}
		check(t, server.Close())
		// The kernel tells a connected socket that nobody is there any more.
		_, err = client.Write(ctx, []byte("x"))
		check(t, err)
		wantSelected(ctx, t, "r:c", streams{"c": client}, nil, nil, patience)
		_, err = client.Read(ctx, p)
		wantError(t, "read", err, syscall.ECONNREFUSED)
		client.Close()

		path := filepath.Join(t.TempDir(), "g")
		local := streamServer(ctx, t, "udg://"+path)
		sender, err := stream.SocketClient(ctx, "udg://"+path)
		check(t, err)
		write(ctx, t, sender, "log this")
		if text, from := receive(ctx, t, local, 0); text != "log this" || from != "" {
			t.Errorf("%q from %q", text, from)
		}
		sender.Close()
		local.Close()
	})
}

func TestAddressesAndFlagsThatMakeNoSense(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		udp := streamServer(ctx, t, "udp://127.0.0.1:0")
		for _, address := range []string{"127.0.0.1", "127.0.0.1:x", "::1:80", "udp://127.0.0.1:80", "/path"} {
			_, err := udp.SendTo(ctx, []byte("x"), 0, address)
			if err == nil {
				t.Errorf("sent to %q", address)
			}
		}
		_, err := udp.SendTo(ctx, []byte("x"), 0, "")
		wantError(t, "without an address", err, syscall.EDESTADDRREQ)
		_, err = udp.SendTo(ctx, []byte("x"), stream.FlagOOB, udp.GetName(false))
		wantError(t, "out of band", err, syscall.EOPNOTSUPP)
		_, _, err = udp.RecvFrom(ctx, make([]byte, 1), stream.FlagOOB)
		wantError(t, "out of band", err, syscall.EOPNOTSUPP)
		client, server := streamPair(ctx, t, "tls")
		_, err = client.SendTo(ctx, []byte("x"), 0, server.GetName(false))
		wantError(t, "an address on a connection", err, syscall.EISCONN)
		_, err = client.SendTo(ctx, []byte("x"), stream.FlagOOB, "")
		wantError(t, "out of band over TLS", err, syscall.EPROTONOSUPPORT)
		_, _, err = client.RecvFrom(ctx, make([]byte, 1), stream.FlagOOB)
		wantError(t, "out of band over TLS", err, syscall.EOPNOTSUPP)
		for _, flags := range []stream.Flags{4, -1} {
			_, _, err = client.RecvFrom(ctx, make([]byte, 1), flags)
			wantError(t, "unknown flags", err, syscall.EINVAL)
			_, err = client.SendTo(ctx, []byte("x"), flags, "")
			wantError(t, "unknown flags", err, syscall.EINVAL)
		}
		udp.Close()
		client.Close()
		server.Close()
	})
}

func TestPeekingAtAConnection(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		write(ctx, t, client, "peek\nat me")
		for range 2 {
			becomes(ctx, t, "all of it can be seen", func() bool {
				text, from := receive(ctx, t, server, stream.FlagPeek)
				return text == "peek\nat me" && from == ""
			})
		}
		if line, err := server.Gets(ctx, 10); line != "peek\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		if text, _ := receive(ctx, t, server, stream.FlagPeek); text != "at me" { // which was read ahead
			t.Errorf("peeked %q", text)
		}
		if text, from := receive(ctx, t, server, 0); text != "at me" || from != "" {
			t.Errorf("%q from %q", text, from)
		}
		check(t, server.SetTimeout(10*time.Millisecond))
		_, _, err := server.RecvFrom(ctx, make([]byte, 10), stream.FlagPeek)
		wantError(t, "nothing comes", err, runtime.ErrTimeout)
		check(t, client.Close())
		check(t, server.SetTimeout(patience))
		if n, _, err := server.RecvFrom(ctx, make([]byte, 10), stream.FlagPeek); n != 0 || err == nil {
			t.Errorf("at the end: %d, %v", n, err)
		}
		_, _, err = server.RecvFrom(ctx, make([]byte, 10), 0)
		if n, _, again := server.RecvFrom(ctx, make([]byte, 10), 0); n != 0 || err == nil || again == nil {
			t.Errorf("at the end: %d, %v, %v", n, err, again)
		}
		check(t, server.Close())
		_, _, err = server.RecvFrom(ctx, make([]byte, 10), 0)
		wantError(t, "closed", err, net.ErrClosed)
	})
}
