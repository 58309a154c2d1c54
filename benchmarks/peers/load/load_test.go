//go:build linux

package load

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves each connection with handle, and ends with the test.
func listen(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String())
}

func echoAll(conn net.Conn) { io.Copy(conn, conn) }

// reach waits until that many messages are back.
func reach(t *testing.T, g *Generator, messages uint64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); g.Messages() < messages; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages came back, not %d", g.Messages(), messages)
		}
	}
}

func TestEveryMessageComesBack(t *testing.T) {
	for name, o := range map[string]Options{
		"one connection":    {Conns: 1, Size: 64},
		"large messages":    {Conns: 3, Size: 200 << 10},
		"several loops":     {Conns: 10, Size: 8, Loops: 3},
		"more loops than 1": {Conns: 1, Size: 64, Loops: 8},
		"awake":             {Conns: 5, Size: 64, Spin: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Addr = listen(t, echoAll)
			g, err := Dial(o)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			for round := range 3 {
				before := g.Messages()
				g.Start()
				reach(t, g, before+uint64(20*o.Conns))
				if cpu, err := g.CPU(); err != nil || cpu <= 0 {
					t.Errorf("CPU time %v, %v", cpu, err)
				}
				if err := g.Stop(); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			// Each start sends one message on each connection, and each answer but the last brings another: what was counted is what came back.
			sent := uint64(0)
			for _, l := range g.loops {
				for _, c := range l.conns {
					sent += c.seq
				}
			}
			if sent != g.Messages() {
				t.Errorf("%d messages were sent, %d counted", sent, g.Messages())
			}
		})
	}
}

func TestTLS(t *testing.T) {
	ca, err := devca.New("load")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("server.test")
	if err != nil {
		t.Fatal(err)
	}
	addr := listen(t, func(conn net.Conn) { echoAll(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}})) })
	o := Options{Addr: addr, Conns: 4, Size: 40 << 10, TLS: &tls.Config{RootCAs: ca.Pool(), ServerName: "server.test"}}
	g, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.Start()
	reach(t, g, 200)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}

	o.TLS = &tls.Config{RootCAs: ca.Pool(), ServerName: "other.test"}
	if _, err := Dial(o); err == nil {
		t.Error("a server with another's certificate was measured")
	}
}

func TestAnswersInPieces(t *testing.T) {
	addr := listen(t, func(conn net.Conn) {
		var one [1]byte
		for {
			if _, err := conn.Read(one[:]); err != nil {
				return
			}
			if _, err := conn.Write(one[:]); err != nil {
				return
			}
		}
	})
	g, err := Dial(Options{Addr: addr, Conns: 2, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.Start()
	reach(t, g, 20)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
}

// messages calls each for every message of 64 bytes; each returns what is to be sent back, or nil to close.
func messages(each func(number int, p []byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		var p [64]byte
		for number := 0; ; number++ {
			if _, err := io.ReadFull(conn, p[:]); err != nil {
				return
			}
			answer := each(number, p[:])
			if answer == nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

func TestAServerThatFailsIsNoticed(t *testing.T) {
	const bad = 50 // the message at which it goes wrong
	for name, c := range map[string]struct {
		each func(number int, p []byte) []byte
		want string
	}{
		"closes": {func(n int, p []byte) []byte {
			if n == bad {
				return nil
			}
			return p
		}, "closed"},
		"answers what was asked before": {func(n int, p []byte) []byte {
			if n == bad {
				p[0] ^= 1
			}
			return p
		}, "in the place of"},
		"sends too much": {func(n int, p []byte) []byte {
			if n == bad {
				return append(p, 'x')
			}
			return p
		}, "more than it got"},
		"forgets one": {func(n int, p []byte) []byte {
			if n == bad {
				return p[:0]
			}
			return p
		}, "didn't come back"},
	} {
		t.Run(name, func(t *testing.T) {
			reached := make(chan struct{})
			addr := listen(t, messages(func(n int, p []byte) []byte {
				if n == bad {
					close(reached)
				}
				return c.each(n, p)
			}))
			g, err := Dial(Options{Addr: addr, Conns: 1, Size: 64, Patience: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			g.Start()
			select {
			case <-reached:
			case <-time.After(30 * time.Second):
				t.Fatal("the server hasn't got the message")
			}
			if err := g.Stop(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it was noticed as %v", err)
			}
		})
	}
}

func TestAFirstMessageThatChangedIsNoticed(t *testing.T) {
	addr := listen(t, messages(func(_ int, p []byte) []byte { p[63]++; return p }))
	if _, err := Dial(Options{Addr: addr, Conns: 1, Size: 64}); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("Dial: %v", err)
	}
}

func TestAServerThatIsSilentIsNoticed(t *testing.T) {
	addr := listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	if _, err := Dial(Options{Addr: addr, Conns: 3, Size: 64, Patience: 100 * time.Millisecond}); err == nil {
		t.Error("connections that give no answer were taken")
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	if _, err := Dial(Options{Addr: addr, Conns: 1, Size: 64}); err == nil {
		t.Error("connected to a port on which nobody listens")
	}
}

func TestWhatCannotBeGenerated(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:9")
	for _, o := range []Options{{Addr: addr, Conns: 0, Size: 64}, {Addr: addr, Conns: 1, Size: 7}, {Addr: netip.MustParseAddrPort("[::1]:9"), Conns: 1, Size: 64}} {
		if _, err := Dial(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
