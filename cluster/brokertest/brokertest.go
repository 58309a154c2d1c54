// Package brokertest tests that a [cluster.Broker] is one: in the tests of a Broker,
//
//	func TestBroker(t *testing.T) {
//		brokertest.Test(t, func(t *testing.T) []cluster.Broker {
//			… // two or more that hear each other, and that the test ends
//			return []cluster.Broker{one, another}
//		})
//	}
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
)

// Patience is how long a test waits for what has to happen.
const Patience = 30 * time.Second

// Test runs all tests, each with Brokers of its own: two or more, that aren't started, and that
// connect to the same subjects. They are closed by the test.
func Test(t *testing.T, nodes func(t *testing.T) []cluster.Broker) {
	tests := []struct {
		name string
		test func(t *testing.T, nodes []*Node)
	}{
		{"what is published arrives at all that have subscribed", arrives},
		{"a node hears what it publishes itself", echo},
		{"messages of a publisher arrive in order on all subjects", order},
		{"subscribing twice is subscribing once", twice},
		{"nothing arrives after Unsubscribe", unsubscribed},
		{"a subject can be subscribed to again", again},
		{"subjects are told apart", apart},
		{"names that are allowed are subjects", names},
		{"what is no subject is refused", refused},
		{"a message may be used again", reused},
		{"messages up to MaxMessage arrive", large},
		{"many goroutines may publish", concurrent},
		{"what was published before Close is sent", flushed},
		{"a closed Broker is an error and no harm", afterClose},
		{"Since returns what is behind a position", since},
		{"Since refuses what it can't return all of", sinceRefused},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			brokers := nodes(t)
			if len(brokers) < 2 {
				t.Fatalf("%d nodes, two at least are needed", len(brokers))
			}
			started := make([]*Node, len(brokers))
			for i, b := range brokers {
				started[i] = Start(t, b)
			}
			c.test(t, started)
		})
	}
}

// A Node is a Broker, and what it has been called with.
type Node struct {
	cluster.Broker
	t testing.TB

	mu     sync.Mutex
	came   sync.Cond
	events []Event
}

// An Event is a call of the Receiver.
type Event struct {
	Subject string
	Message string
	At      cluster.Position
	Lost    error // Lost was called, not Receive
}

// Start starts a Broker, which is closed when the test ends.
func Start(t testing.TB, b cluster.Broker) *Node {
	t.Helper()
	n := &Node{Broker: b, t: t}
	n.came.L = &n.mu
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := b.Start(ctx, n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		b.Close(ctx) //nolint:errcheck // a test may have closed it, or ended its server
	})
	return n
}

// Receive is called by the Broker.
func (n *Node) Receive(subject string, message []byte, at cluster.Position) {
	n.add(Event{Subject: subject, Message: string(message), At: at})
}

// Lost is called by the Broker.
func (n *Node) Lost(subject string, why error) { n.add(Event{Subject: subject, Lost: why}) }

func (n *Node) add(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	n.came.Broadcast()
}

// Events returns all that the Broker has called so far.
func (n *Node) Events() []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Event(nil), n.events...)
}

// Wait waits until the events are as a test wants them, and returns them.
func (n *Node) Wait(what string, are func([]Event) bool) []Event {
	n.t.Helper()
	late := false
	timer := time.AfterFunc(Patience, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		late = true
		n.came.Broadcast()
	})
	defer timer.Stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for !are(n.events) {
		if late {
			last := n.events[max(0, len(n.events)-20):]
			n.t.Fatalf("not so within %v: %s; %d events, the last ones %v", Patience, what,
				len(n.events), last)
		}
		n.came.Wait()
	}
	return append([]Event(nil), n.events...)
}

// WaitFor waits for a number of events.
func (n *Node) WaitFor(count int) []Event {
	n.t.Helper()
	return n.Wait(fmt.Sprintf("%d events", count), func(e []Event) bool { return len(e) >= count })
}

// Join subscribes, and waits until messages of other nodes arrive.
func Join(from *Node, subject string, nodes ...*Node) {
	from.t.Helper()
	for _, n := range nodes {
		n.must(n.Subscribe(subject))
	}
	for i := 0; ; i++ {
		from.Say(subject, fmt.Sprintf("join %d", i))
		deadline := time.Now().Add(10 * time.Millisecond)
		for time.Now().Before(deadline) {
			missing := 0
			for _, n := range nodes {
				if !n.has(subject) {
					missing++
				}
			}
			if missing == 0 {
				from.settle(subject, i, nodes)
				return
			}
			time.Sleep(time.Millisecond)
		}
		if i > int(Patience/(10*time.Millisecond)) {
			from.t.Fatalf("nothing arrives on %s", subject)
		}
	}
}

// settle waits for the last message of Join, and forgets all.
func (n *Node) settle(subject string, last int, nodes []*Node) {
	n.t.Helper()
	text := fmt.Sprintf("join %d", last)
	for _, node := range nodes {
		node.Wait(text, func(events []Event) bool {
			for _, e := range events {
				if e.Subject == subject && e.Message == text {
					return true
				}
			}
			return false
		})
		node.Forget()
	}
}

func (n *Node) has(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Subject == subject && e.Lost == nil {
			return true
		}
	}
	return false
}

// Forget empties the events.
func (n *Node) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = nil
}

// Say publishes.
func (n *Node) Say(subject, message string) {
	n.t.Helper()
	n.must(n.Publish(subject, []byte(message)))
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// want fails the test unless the messages of some events, or what they lack, are these.
func want(t *testing.T, got []Event, messages ...string) {
	t.Helper()
	var texts []string
	for _, e := range got {
		if e.Lost != nil {
			t.Errorf("%q is said to be lost: %v", e.Subject, e.Lost)
		}
		texts = append(texts, e.Message)
	}
	if strings.Join(texts, "|") != strings.Join(messages, "|") {
		t.Errorf("got %q, want %q", texts, messages)
	}
}

func isErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: error is %v, want %v", what, err, target)
	}
}
