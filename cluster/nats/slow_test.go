package nats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

// A gated Receiver takes what comes only when the test lets it.
type gated struct {
	to   *brokertest.Node
	gate chan struct{} // one value for a call; closed, it takes all
}

func (g gated) Receive(subject string, message []byte, at cluster.Position) {
	<-g.gate
	g.to.Receive(subject, message, at)
}

func (g gated) Lost(subject string, why error) {
	<-g.gate
	g.to.Lost(subject, why)
}

// startGated starts a Broker whose Receiver is gated. The node is what it passes on to.
func startGated(t *testing.T, b *nats.Broker, to *brokertest.Node) gated {
	t.Helper()
	g := gated{to, make(chan struct{}, 1<<16)}
	check(t, b.Start(t.Context(), g))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check(t, b.Close(ctx))
	})
	return g
}

// recorder returns a node to record events with.
func recorder(t *testing.T, s *nats.Server) *brokertest.Node {
	t.Helper()
	b, err := s.Connect(nats.Config{Prefix: "recorder"})
	check(t, err)
	return brokertest.Start(t, b)
}

// covered fails the test unless each message of each subject that hasn't come is covered by an
// event of its subject that says so, between the last one that came before it and the next one that
// came.
func covered(t *testing.T, events []brokertest.Event, published map[string]int) (dropped int) {
	t.Helper()
	next, said := map[string]int{}, map[string]bool{}
	for _, e := range events {
		if e.Lost != nil {
			if !errors.Is(e.Lost, cluster.ErrSlow) || e.Subject == "" {
				t.Fatalf("%v", e)
			}
			said[e.Subject] = true
			continue
		}
		var i int
		if _, err := fmt.Sscan(e.Message, &i); err != nil || i < next[e.Subject] {
			t.Fatalf("%.80v, want message %d", e, next[e.Subject])
		}
		if i > next[e.Subject] && !said[e.Subject] {
			t.Fatalf("messages %d to %d of %s are silently lost", next[e.Subject], i-1, e.Subject)
		}
		dropped += i - next[e.Subject]
		next[e.Subject], said[e.Subject] = i+1, false
	}
	for subject, count := range published {
		if next[subject] < count && !said[subject] {
			t.Fatalf("messages %d to %d of %s are silently lost", next[subject], count, subject)
		}
		dropped += count - next[subject]
	}
	return dropped
}

func TestAReceiverThatIsSlowIsToldOfEachSubjectWhoseMessagesAreLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		config nats.Config
		text   string
	}{
		{"messages", nats.Config{QueueMessages: 50}, ""},
		{"bytes", nats.Config{QueueBytes: 100 << 10}, strings.Repeat("x", 2000)},
	} {
		for _, how := range []string{"in process", "on loopback"} {
			t.Run(c.name+" "+how, func(t *testing.T) {
				s := embed(t, nats.EmbeddedConfig{Listen: true})
				b, err := s.Connect(c.config)
				if how == "on loopback" {
					b, err = nats.Connect(s.URL(), c.config)
				}
				check(t, err)
				node := recorder(t, s)
				slow(t, b, node, c.text)
			})
		}
	}
}

func slow(t *testing.T, b *nats.Broker, node *brokertest.Node, text string) {
	t.Helper()
	g := startGated(t, b, node)
	published := map[string]int{}
	for i := range 9 {
		check(t, b.Subscribe(fmt.Sprint("room.", i)))
	}
	total := 0
	for range 300 {
		for range rand.IntN(60) {
			subject := fmt.Sprint("room.", rand.IntN(9))
			check(t, b.Publish(subject, fmt.Append(nil, published[subject], " ", text)))
			published[subject]++
			total++
		}
		for range rand.IntN(40) {
			g.gate <- struct{}{}
		}
		if s := b.Stats(); s.Waiting > 51 || s.WaitingBytes > 110<<10 && text != "" {
			t.Fatalf("stats are %+v", s)
		}
		if rand.IntN(4) == 0 {
			time.Sleep(time.Millisecond) // so that what is published arrives in pieces
		}
	}
	until(t, "all has arrived", func() bool {
		s := b.Stats()
		return s.Dropped+s.MessagesIn+uint64(s.Waiting) >= uint64(total)
	})
	close(g.gate)
	until(t, "nothing waits", func() bool { return b.Stats().Waiting == 0 })
	var stats nats.Stats
	until(t, "all is counted", func() bool {
		stats = b.Stats()
		return stats.Dropped+stats.MessagesIn == uint64(total)
	})
	// A last message that is lost is said to be: the entry may be behind all others.
	check(t, b.Subscribe("room.end"))
	check(t, b.Publish("room.end", []byte("0")))
	events := node.Wait("the end", func(e []brokertest.Event) bool {
		return len(e) > 0 && e[len(e)-1].Subject == "room.end"
	})
	dropped := covered(t, events, published)
	if dropped == 0 || stats.Dropped != uint64(dropped) {
		t.Errorf("%d of %d messages are dropped, stats are %+v", dropped, total, stats)
	}
}

func TestNothingIsDroppedThatTheBoundsHaveRoomFor(t *testing.T) {
	const count, subjects = 100_000, 100
	s := embed(t, nats.EmbeddedConfig{Listen: true})
	b, err := nats.Connect(s.URL(), nats.Config{QueueMessages: count})
	check(t, err)
	g := startGated(t, b, recorder(t, s))
	for i := range subjects {
		check(t, b.Subscribe(fmt.Sprint("room.", i)))
	}
	for i := range count {
		for {
			err := b.Publish(fmt.Sprint("room.", i%subjects), []byte("x"))
			if err == nil {
				break
			} else if !errors.Is(err, cluster.ErrDisconnected) || !b.Stats().Connected {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // MaxPending
		}
	}
	until(t, "all wait", func() bool { return b.Stats().Waiting == count })
	if s := b.Stats(); s.Dropped > 0 {
		t.Errorf("stats are %+v", s)
	}
	close(g.gate)
	until(t, "all are received", func() bool { return b.Stats().MessagesIn == count })
}

func TestCloseDoesNotWaitForAReceiverForEver(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{})
	b, err := s.Connect(nats.Config{})
	check(t, err)
	g := gated{recorder(t, s), make(chan struct{})}
	check(t, b.Start(t.Context(), g))
	check(t, b.Subscribe("room.a"))
	check(t, b.Publish("room.a", nil))
	until(t, "it is received", func() bool { return b.Stats().MessagesIn == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	close(g.gate)
	check(t, b.Close(t.Context()))
}
