package nats_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

// raw is a client that isn't this package's.
func raw(t testing.TB, s *nats.Server) *natsgo.Conn {
	t.Helper()
	nc, err := natsgo.Connect(s.URL())
	check(t, err)
	t.Cleanup(func() {
		gone := nc.StatusChanged(natsgo.CLOSED)
		nc.Close()
		<-gone
	})
	return nc
}

func TestWhatOthersPublishIsNotTrusted(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true, JetStream: t.TempDir()})
	n, b := connect(t, s.URL(), nats.Config{History: &nats.History{MaxBytes: 1 << 20}})
	check(t, n.Subscribe("room.a"))
	check(t, n.Subscribe("node.a"))
	nc := raw(t, s)
	n.Say("room.a", "1")
	n.WaitFor(1)
	at := n.Events()[0].At
	for _, h := range []natsgo.Header{
		{"Nats-Sequence": {"x"}},
		{"Nats-Sequence": {"1"}},
		{"Other": {"x"}},
		{"Nats-Sequence": {"-1"}, "Nats-Last-Sequence": {"0"},
			"Nats-Time-Stamp": {"2030-01-01T00:00:00Z"}},
		{"Nats-Sequence": {"0"}, "Nats-Last-Sequence": {"0"},
			"Nats-Time-Stamp": {"2030-01-01T00:00:00Z"}},
		{"Nats-Sequence": {"7"}, "Nats-Last-Sequence": {"7"},
			"Nats-Time-Stamp": {"2030-01-01T00:00:00Z"}},
		{"Nats-Sequence": {"99999999999999999999999"}, "Nats-Last-Sequence": {"0"},
			"Nats-Time-Stamp": {"2030-01-01T00:00:00Z"}},
		{"Nats-Sequence": {"7"}, "Nats-Last-Sequence": {"1"}, "Nats-Time-Stamp": {"now"}},
	} {
		check(t, nc.PublishMsg(&natsgo.Msg{Subject: "whorl.room.a", Header: h,
			Data: []byte("forged")}))
	}
	// Without headers it is of a node without a history.
	check(t, nc.Publish("whorl.room.a", []byte("2")))
	check(t, nc.PublishMsg(&natsgo.Msg{Subject: "whorl.node.a", Header: natsgo.Header{"A": {"b"}},
		Data: []byte("3")}))
	got := n.WaitFor(3)
	if got[1].Message != "2" || got[1].At != (cluster.Position{}) || got[2].Message != "3" {
		t.Errorf("got %v", got)
	}
	if s := b.Stats(); s.Invalid != 8 {
		t.Errorf("stats are %+v", s)
	}
	n.Say("room.a", "4")
	if got := n.WaitFor(4)[3]; got.Message != "4" || got.At.Offset <= at.Offset {
		t.Errorf("got %v", got)
	}
}

// A liar is a server that says what the test wants.
type liar struct {
	net.Listener
	url string
	wg  sync.WaitGroup
}

// lie serves each connection with the next function, the last one for all others.
func lie(t *testing.T, talks ...func(c net.Conn, r *bufio.Reader)) *liar {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	l := &liar{Listener: ln, url: "nats://" + ln.Addr().String()}
	l.wg.Go(func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() {
				defer c.Close()
				talks[min(i, len(talks)-1)](c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); l.wg.Wait() })
	return l
}

const info = `INFO {"server_id":"X","server_name":"liar","version":"2.15.2","headers":true,` +
	`"max_payload":1000,"proto":1}` + "\r\n"

// greet says hello, and answers PINGs until a line begins with what is wanted, which is returned.
func greet(c net.Conn, r *bufio.Reader, until string) string {
	fmt.Fprint(c, info)
	return answer(c, r, until)
}

func answer(c net.Conn, r *bufio.Reader, until string) string {
	for {
		line, err := r.ReadString('\n')
		if err != nil || until != "" && strings.HasPrefix(line, until) {
			return line
		}
		if strings.HasPrefix(line, "PING") {
			fmt.Fprint(c, "PONG\r\n")
		}
	}
}

func honest(c net.Conn, r *bufio.Reader) { greet(c, r, "") }

func TestServersThatMisbehaveAreLeftAndComeBackTo(t *testing.T) {
	for _, c := range []struct{ name, says string }{
		{"maximum payload", "-ERR 'Maximum Payload Violation'\r\n"},
		{"authentication", "-ERR 'User Authentication Expired'\r\n"},
		{"revoked", "-ERR 'User Authentication Revoked'\r\n"},
		{"unknown error", "-ERR 'Something'\r\n"},
		{"stale", "-ERR 'Stale Connection'\r\n"},
		{"no protocol", "HTTP/1.1 400 Bad Request\r\n\r\n"},
		{"no length", "MSG whorl.room.a 1 x\r\n"},
		{"negative length", "MSG whorl.room.a 1 -5\r\nhello\r\n"},
		{"wrong header length", "HMSG whorl.room.a 1 10 5\r\nhello\r\n"},
		{"closed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lie(t, func(conn net.Conn, r *bufio.Reader) {
				greet(conn, r, "SUB")
				fmt.Fprint(conn, c.says)
			}, honest)
			config := impatient(nats.Config{PingInterval: 200 * time.Millisecond})
			n, b := connect(t, l.url, config)
			if n.MaxMessage() != 1000 {
				t.Errorf("MaxMessage is %d", n.MaxMessage())
			}
			check(t, n.Subscribe("room.a"))
			reconnected(t, n)
			if s := b.Stats(); !s.Connected || s.Reconnects != 1 {
				t.Errorf("stats are %+v", s)
			}
		})
	}
}

func TestASubscriptionThatIsNotAllowedIsSaidToBeLost(t *testing.T) {
	l := lie(t, func(c net.Conn, r *bufio.Reader) {
		greet(c, r, "SUB")
		fmt.Fprint(c, "-ERR 'Permissions Violation for Subscription to \"whorl.room.a\"'\r\n")
		fmt.Fprint(c, "-ERR 'Permissions Violation for Publish to \"whorl.user.b\"'\r\n")
		answer(c, r, "")
	})
	n, b := connect(t, l.url, nats.Config{})
	check(t, n.Subscribe("room.a"))
	got := n.WaitFor(2)
	if got[0].Subject != "room.a" || got[1].Subject != "user.b" || len(lost(got)) != 2 {
		t.Errorf("got %v", got)
	}
	if s := b.Stats(); s.Rejected != 2 || !s.Connected {
		t.Errorf("stats are %+v", s)
	}
}

func TestAServerThatSaysNothingIsNotWaitedForForEver(t *testing.T) {
	for name, talk := range map[string]func(c net.Conn, r *bufio.Reader){
		"nothing":       func(c net.Conn, r *bufio.Reader) { r.ReadByte() }, //nolint:errcheck
		"no answer":     func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, info); r.WriteTo(c) },
		"endless greet": func(c net.Conn, r *bufio.Reader) { endless(c) },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := nats.Connect(lie(t, talk).url,
				nats.Config{ConnectTimeout: 100 * time.Millisecond})
			check(t, err)
			begin := time.Now()
			if err := b.Start(t.Context(), &brokertest.Node{}); err == nil {
				t.Error("it starts")
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("it takes %v", took)
			}
			check(t, b.Close(t.Context()))
		})
	}
}

// endless sends one line that has no end.
func endless(c net.Conn) {
	for {
		if _, err := c.Write([]byte("INFO ")); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// FuzzNamesAreSubjects looks for names that are allowed and that NATS doesn't take, or takes for
// others.
func FuzzNamesAreSubjects(f *testing.F) {
	for _, name := range []string{"a", "a.b", "*", ">", "a b", "ä", "$SYS.x", "a\u00a0b", "\u200b",
		"a\r\nPING\r\n", "%", `"`, "_INBOX.x", "h.room.x", "\ufeff", "a.>", ".", "..", "a."} {
		f.Add(name)
	}
	s := embed(f, nats.EmbeddedConfig{Listen: true, JetStream: f.TempDir()})
	n, _ := connect(f, s.URL(), nats.Config{History: &nats.History{MaxBytes: 64 << 20}})
	h := n.Broker.(cluster.History)
	f.Fuzz(func(t *testing.T, name string) {
		if cluster.CheckName(name) != nil {
			for _, subject := range []string{"room." + name, "node." + name} {
				_ = n.Subscribe(subject) // it may be a subject, and does no harm
				_ = n.Unsubscribe(subject)
				_ = n.Publish(subject, nil)
			}
			return
		}
		for _, subject := range []string{"room." + name, "node." + name, "user." + name} {
			check(t, n.Subscribe(subject))
			check(t, n.Publish(subject, []byte(name)))
			until(t, "it arrives", func() bool { return len(n.Events()) > 0 })
			for i, e := range n.Events() {
				if e.Subject != subject || e.Message != name || e.Lost != nil || i > 0 {
					t.Fatalf("got %+v on %q", e, subject)
				}
			}
			n.Forget()
			_, top, err := h.Since(t.Context(), subject, cluster.Position{}, 1)
			if check(t, err); strings.HasPrefix(subject, "room.") == (top.Epoch == "") {
				t.Fatalf("top of %q is %v", subject, top)
			}
			check(t, n.Unsubscribe(subject))
		}
	})
}
