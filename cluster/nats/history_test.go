package nats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

const stream = "whorl_rooms"

// historic starts a server with JetStream, and a Broker with a history.
func historic(t *testing.T, h nats.History) (*nats.Server, *brokertest.Node, *nats.Broker) {
	t.Helper()
	s := embed(t, nats.EmbeddedConfig{Listen: true, JetStream: t.TempDir(), Logger: logger(t)})
	n, b := connect(t, s.URL(), keeping(h))
	return s, n, b
}

func keeping(h nats.History) nats.Config {
	or(&h.MaxBytes, 64<<20)
	return impatient(nats.Config{History: &h})
}

func or(field *int64, value int64) {
	if *field == 0 {
		*field = value
	}
}

// js returns JetStream's interface of a client that isn't this package's.
func js(t *testing.T, nc *natsgo.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	check(t, err)
	return js
}

// publish publishes a number of messages and waits until they are kept.
func publish(t *testing.T, n *brokertest.Node, subject string, count int) []brokertest.Event {
	t.Helper()
	before := len(n.Events())
	for i := range count {
		n.Say(subject, fmt.Sprint(i))
	}
	return n.WaitFor(before + count)[before:]
}

func sinceIs(t *testing.T, b *nats.Broker, subject string, at cluster.Position, limit, count int,
	want error) cluster.Position {
	t.Helper()
	stored, top, err := b.Since(t.Context(), subject, at, limit)
	if !errors.Is(err, want) || len(stored) != count {
		t.Errorf("Since %v, at most %d: %d messages, %v; want %d, %v", at, limit, len(stored), err,
			count, want)
	}
	return top
}

func TestMessagesOfARoomBeyondItsBoundAreUnrecoverable(t *testing.T) {
	_, n, b := historic(t, nats.History{MaxMessages: 10})
	check(t, n.Subscribe("room.a"))
	begin := sinceIs(t, b, "room.a", cluster.Position{}, 10, 0, nil)
	got := publish(t, n, "room.a", 15)
	// Messages 5 to 14 are kept. Nobody knows whether 4 was the last before 5.
	for i, e := range got {
		want, count := error(nil), 14-i
		if i < 5 {
			want, count = cluster.ErrUnrecoverable, 0
		}
		top := sinceIs(t, b, "room.a", e.At, 100, count, want)
		if top != got[14].At {
			t.Errorf("top is %v, want %v", top, got[14].At)
		}
	}
	sinceIs(t, b, "room.a", begin, 100, 0, cluster.ErrUnrecoverable)
}

func TestMessagesThatAreTooOldAreUnrecoverable(t *testing.T) {
	_, n, b := historic(t, nats.History{MaxAge: 300 * time.Millisecond})
	check(t, n.Subscribe("room.a"))
	check(t, n.Subscribe("room.b"))
	first := publish(t, n, "room.a", 5)
	until(t, "all are dropped", func() bool {
		_, _, err := b.Since(t.Context(), "room.a", first[0].At, 10)
		return errors.Is(err, cluster.ErrUnrecoverable)
	})
	until(t, "all of them", func() bool {
		_, top, err := b.Since(t.Context(), "room.a", first[4].At, 10)
		return err == nil && top == first[4].At
	})
	// The newest that there was is behind nothing that is kept; that of another room says nothing.
	n.Forget()
	again := publish(t, n, "room.b", 1)
	top := sinceIs(t, b, "room.b", cluster.Position{}, 0, 0, nil)
	if top != again[0].At {
		t.Errorf("top is %v, want %v", top, again[0].At)
	}
	if lost := lost(n.Events()); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
}

func TestAStreamThatWasDeletedIsANewEpoch(t *testing.T) {
	s, n, b := historic(t, nats.History{})
	other, _ := connect(t, s.URL(), keeping(nats.History{}))
	brokertest.Join(n, "room.a", n, other)
	old := publish(t, n, "room.a", 10)
	other.WaitFor(10)
	check(t, js(t, raw(t, s)).DeleteStream(t.Context(), stream))
	// It isn't there for this message: its publisher is told so, and makes it anew.
	n.Say("room.a", "into the void")
	events := n.Wait("the epoch", func(e []brokertest.Event) bool { return len(lost(e)) >= 2 })
	got := lost(events)
	if got[0].Subject != "room.a" || got[1].Subject != "" {
		t.Errorf("lost: %v", got)
	}
	if b.Stats().Rejected != 1 {
		t.Errorf("stats are %+v", b.Stats())
	}
	n.Forget()
	fresh := publish(t, n, "room.a", 1)
	if at := fresh[0].At; at.Epoch == old[0].At.Epoch || at.Epoch == "" || at.Offset != 1 {
		t.Errorf("the first message is at %v, the last one was at %v", at, old[9].At)
	}
	// The other node finds out by what it receives.
	events = other.Wait("the epoch", func(e []brokertest.Event) bool { return len(lost(e)) > 0 })
	for _, e := range events[10:] {
		if e.Lost == nil && e.At.Epoch == old[0].At.Epoch {
			t.Errorf("%v has the old epoch", e)
		}
	}
	other.Forget()
	publish(t, n, "room.a", 1)
	if at := other.WaitFor(1)[0].At; at.Epoch != fresh[0].At.Epoch {
		t.Errorf("it is at %v, want the epoch of %v", at, fresh[0].At)
	}
	sinceIs(t, b, "room.a", old[9].At, 10, 0, cluster.ErrUnrecoverable)
	sinceIs(t, b, "room.a", fresh[0].At, 10, 1, nil)
}

// missing has one message of a room kept, and not sent on.
func missing(t *testing.T, s *nats.Server, n *brokertest.Node, subject string) {
	t.Helper()
	j := js(t, raw(t, s))
	st, err := j.Stream(t.Context(), stream)
	check(t, err)
	before := st.CachedInfo()
	quiet := before.Config
	quiet.RePublish = nil
	_, err = j.UpdateStream(t.Context(), quiet)
	check(t, err)
	n.Say(subject, "missing")
	until(t, "it is kept", func() bool {
		info, err := st.Info(t.Context())
		check(t, err)
		return info.State.LastSeq == before.State.LastSeq+1
	})
	_, err = j.UpdateStream(t.Context(), before.Config)
	check(t, err)
}

func TestMessagesThatDoNotArriveAreAGapOfTheirRoom(t *testing.T) {
	s, n, b := historic(t, nats.History{})
	check(t, n.Subscribe("room.a"))
	check(t, n.Subscribe("room.b"))
	publish(t, n, "room.a", 3)
	publish(t, n, "room.b", 1)
	n.Forget()
	missing(t, s, n, "room.a")
	n.Say("room.b", "b")
	n.Say("room.a", "a")
	got := n.WaitFor(3)
	if got[0].Message != "b" || got[1].Subject != "room.a" || got[1].Lost == nil ||
		got[2].Message != "a" {
		t.Errorf("got %v", got)
	}
	if b.Stats().Gaps != 1 {
		t.Errorf("stats are %+v", b.Stats())
	}
}

func TestAGapBeforeTheFirstMessageIsKnownByThePositionThatWasAskedForBefore(t *testing.T) {
	s, n, b := historic(t, nats.History{})
	check(t, n.Subscribe("room.a"))
	publish(t, n, "room.a", 2)
	check(t, n.Unsubscribe("room.a"))
	check(t, n.Subscribe("room.a"))
	n.Forget()
	sinceIs(t, b, "room.a", cluster.Position{}, 10, 0, nil)
	missing(t, s, n, "room.a")
	n.Say("room.a", "a")
	got := n.WaitFor(2)
	if got[0].Subject != "room.a" || got[0].Lost == nil || got[1].Message != "a" {
		t.Errorf("got %v", got)
	}
}

func TestAHistoryInMemoryIsRefusedInACluster(t *testing.T) {
	servers := cluster3(t, true)
	b, err := nats.Connect(urls(servers), keeping(nats.History{Storage: jetstream.MemoryStorage}))
	check(t, err)
	err = b.Start(t.Context(), &brokertest.Node{})
	if err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("error is %v", err)
	}
	check(t, b.Close(t.Context()))
}

func TestBoundsOfAHistoryAreBroughtUpToDate(t *testing.T) {
	s, n, _ := historic(t, nats.History{MaxMessages: 10, MaxAge: time.Hour})
	check(t, n.Subscribe("room.a"))
	old := publish(t, n, "room.a", 10)
	_, b := connect(t, s.URL(), keeping(nats.History{MaxMessages: 3, MaxAge: time.Minute}))
	st, err := js(t, raw(t, s)).Stream(t.Context(), stream)
	check(t, err)
	c := st.CachedInfo().Config
	if c.MaxMsgsPerSubject != 3 || c.MaxAge != time.Minute || c.Duplicates > time.Minute {
		t.Errorf("the stream is %+v", c)
	}
	sinceIs(t, b, "room.a", old[5].At, 10, 0, cluster.ErrUnrecoverable)
	sinceIs(t, b, "room.a", old[7].At, 10, 2, nil)
}

func TestAStreamThatIsOfAnotherKindIsSaid(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true, JetStream: t.TempDir()})
	j := js(t, raw(t, s))
	good := jetstream.StreamConfig{Name: stream, Subjects: []string{"whorl.h.room.>"},
		RePublish: &jetstream.RePublish{Source: "whorl.h.room.>", Destination: "whorl.room.>"}}
	for want, change := range map[string]func(*jetstream.StreamConfig){
		`takes ["other"] and not ["whorl.h.room.>"]`: func(c *jetstream.StreamConfig) {
			c.Subjects, c.RePublish = []string{"other"}, nil
		},
		`doesn't send on to "whorl.room.>"`: func(c *jetstream.StreamConfig) { c.RePublish = nil },
		"is stored as Memory and not as File": func(c *jetstream.StreamConfig) {
			c.Storage = jetstream.MemoryStorage
		},
		"retention Interest": func(c *jetstream.StreamConfig) {
			c.Retention = jetstream.InterestPolicy
		},
		"which messages it takes": func(c *jetstream.StreamConfig) { c.NoAck = true },
	} {
		config := good
		change(&config)
		_, err := j.CreateStream(t.Context(), config)
		check(t, err)
		b, err := nats.Connect(s.URL(), keeping(nats.History{}))
		check(t, err)
		err = b.Start(t.Context(), &brokertest.Node{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
		check(t, b.Close(t.Context()))
		check(t, j.DeleteStream(t.Context(), stream))
	}
}

func TestAServerWithoutJetStreamIsSaid(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{})
	b, err := s.Connect(keeping(nats.History{}))
	check(t, err)
	err = b.Start(t.Context(), &brokertest.Node{})
	if err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("error is %v", err)
	}
	check(t, b.Close(t.Context()))
}

func TestAHistorySurvivesItsServer(t *testing.T) {
	p := spawn(t, 0, t.TempDir())
	n, b := connect(t, p.url, keeping(nats.History{}))
	check(t, n.Subscribe("room.a"))
	old := publish(t, n, "room.a", 10)
	p.kill()
	until(t, "it is noticed", func() bool { return !b.Stats().Connected })
	_, _, err := b.Since(t.Context(), "room.a", old[0].At, 10)
	if !errors.Is(err, cluster.ErrDisconnected) {
		t.Errorf("Since without a server: %v", err)
	}
	p.start()
	reconnected(t, n)
	sinceIs(t, b, "room.a", old[3].At, 10, 6, nil)
	n.Forget()
	got := publish(t, n, "room.a", 1)
	if got[0].At.Epoch != old[0].At.Epoch || got[0].At.Offset != old[9].At.Offset+1 {
		t.Errorf("it is at %v, behind %v", got[0].At, old[9].At)
	}
	sinceIs(t, b, "room.a", old[9].At, 10, 1, nil)
}

func TestAHistoryInMemoryIsLostWithItsServer(t *testing.T) {
	p := spawn(t, 0, t.TempDir())
	n, b := connect(t, p.url, keeping(nats.History{Storage: jetstream.MemoryStorage,
		MaxBytes: 1 << 20}))
	check(t, n.Subscribe("room.a"))
	old := publish(t, n, "room.a", 10)
	p.kill()
	p.start()
	reconnected(t, n)
	n.Forget()
	got := publish(t, n, "room.a", 1)
	if got[0].At.Epoch == old[0].At.Epoch || got[0].At.Epoch == "" {
		t.Errorf("it is at %v, the last was at %v", got[0].At, old[9].At)
	}
	sinceIs(t, b, "room.a", old[0].At, 10, 0, cluster.ErrUnrecoverable)
}

func TestSinceEndsWithItsContext(t *testing.T) {
	_, n, b := historic(t, nats.History{})
	check(t, n.Subscribe("room.a"))
	got := publish(t, n, "room.a", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Since(ctx, "room.a", got[0].At, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// placed waits until a cluster has found where it can keep a stream three times.
func placed(t *testing.T, url string) {
	t.Helper()
	nc, err := natsgo.Connect(url)
	check(t, err)
	gone := nc.StatusChanged(natsgo.CLOSED)
	j := js(t, nc)
	until(t, "a stream can be made", func() bool {
		_, err := j.CreateStream(t.Context(), jetstream.StreamConfig{Name: "probe", Replicas: 3})
		return err == nil
	})
	check(t, j.DeleteStream(t.Context(), "probe"))
	nc.Close()
	<-gone
}

func TestAClusterKeepsAHistory(t *testing.T) {
	servers := cluster3(t, true)
	placed(t, urls(servers))
	h := nats.History{Replicas: 3, MaxBytes: 16 << 20}
	config := keeping(h)
	config.ConnectTimeout = patience
	nodes := make([]*brokertest.Node, 3)
	brokers := make([]*nats.Broker, 3)
	for i := range nodes {
		b, err := nats.Connect(urls(append(servers[i:], servers[:i]...)), config)
		check(t, err)
		nodes[i], brokers[i] = brokertest.Start(t, b), b
	}
	brokertest.Join(nodes[0], "room.a", nodes...)
	old := publish(t, nodes[0], "room.a", 50)
	for i, n := range nodes {
		for j, e := range n.WaitFor(50) {
			if e.Message != old[j].Message || e.At != old[j].At {
				t.Fatalf("node %d got %v, want %v", i, e, old[j])
			}
		}
	}
	// Each message can be recovered at once on each node, though servers are behind the leader.
	for i := range 30 {
		n, b := nodes[i%3], brokers[(i+1)%3]
		text := fmt.Sprint("later ", i)
		n.Say("room.a", text)
		events := n.Wait(text, func(events []brokertest.Event) bool {
			return len(events) > 0 && events[len(events)-1].Message == text
		})
		e := events[len(events)-1]
		sinceIs(t, b, "room.a", old[49].At, 100, i+1, nil)
		if e.At.Epoch != old[0].At.Epoch {
			t.Fatalf("it is at %v, epoch %s was before", e.At, old[0].At.Epoch)
		}
	}
	// The leader goes: the others have all, in the same epoch.
	for i, s := range servers {
		if !s.JetStreamIsStreamLeader("$G", stream) {
			continue
		}
		b := brokers[(i+1)%3]
		s.Shutdown()
		s.WaitForShutdown()
		until(t, "there is another leader", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			stored, top, err := b.Since(ctx, "room.a", old[49].At, 100)
			return err == nil && len(stored) == 30 && top.Epoch == old[0].At.Epoch
		})
		return
	}
	t.Error("no server is the stream's leader")
}
