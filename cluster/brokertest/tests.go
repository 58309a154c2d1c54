package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/cluster"
)

// kinds are a subject of each kind that the Broker may treat differently.
var kinds = []string{"node.a", "room.a", "user.a.b"}

func arrives(t *testing.T, nodes []*Node) {
	for _, subject := range kinds {
		Join(nodes[0], subject, nodes...)
		nodes[0].Say(subject, "hello")
		for _, n := range nodes {
			got := n.WaitFor(1)
			want(t, got, "hello")
			if got[0].Subject != subject {
				t.Errorf("it is of %q, want %q", got[0].Subject, subject)
			}
			n.Forget()
		}
	}
}

func echo(t *testing.T, nodes []*Node) {
	for _, subject := range kinds {
		nodes[0].must(nodes[0].Subscribe(subject))
		nodes[0].Say(subject, "to myself")
		want(t, nodes[0].WaitFor(1), "to myself")
		nodes[0].Forget()
	}
}

func order(t *testing.T, nodes []*Node) {
	const each = 3000
	for _, kind := range []string{"room.", "node."} {
		var subjects []string
		for i := range 7 {
			subjects = append(subjects, fmt.Sprint(kind, "order.", i))
			Join(nodes[0], subjects[i], nodes...)
		}
		var wg sync.WaitGroup
		for p, n := range nodes {
			wg.Go(func() {
				for i := range each {
					text := fmt.Sprintf("%d %d", p, i)
					if err := n.Publish(subjects[i%len(subjects)], []byte(text)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, n := range nodes {
			next := make([]int, len(nodes))
			for _, e := range n.WaitFor(each * len(nodes)) {
				var p, i int
				if _, err := fmt.Sscan(e.Message, &p, &i); err != nil || e.Lost != nil {
					t.Fatalf("%+v", e)
				}
				if i != next[p] {
					t.Fatalf("message %d of node %d, want %d", i, p, next[p])
				}
				next[p]++
			}
			n.Forget()
		}
	}
}

func twice(t *testing.T, nodes []*Node) {
	n := nodes[0]
	n.must(n.Unsubscribe("room.a")) // before any
	n.must(n.Subscribe("room.a"))
	n.must(n.Subscribe("room.a"))
	n.must(n.Subscribe("room.b"))
	n.Say("room.a", "1")
	n.Say("room.b", "end")
	want(t, n.WaitFor(2), "1", "end")
	n.must(n.Unsubscribe("room.a"))
	n.must(n.Unsubscribe("room.a"))
	n.Say("room.a", "2")
	n.Say("room.b", "end")
	want(t, n.WaitFor(3), "1", "end", "end")
}

func unsubscribed(t *testing.T, nodes []*Node) {
	n, other := nodes[0], nodes[1]
	for _, subject := range kinds {
		Join(other, subject, n)
		n.must(n.Unsubscribe(subject))
		end := subject + ".end"
		Join(other, end, n)
		other.Say(subject, "not for me")
		other.Say(end, "end")
		want(t, n.WaitFor(1), "end")
		n.must(n.Unsubscribe(end))
		n.Forget()
	}
}

func again(t *testing.T, nodes []*Node) {
	n := nodes[0]
	for i := range 20 {
		n.must(n.Subscribe("room.a"))
		n.Say("room.a", fmt.Sprint(i))
		want(t, n.WaitFor(1), fmt.Sprint(i))
		n.must(n.Unsubscribe("room.a"))
		n.Forget()
	}
}

func apart(t *testing.T, nodes []*Node) {
	n := nodes[0]
	subjects := []string{"room.a", "room.A", "room.a.b", "room.ab", "room.a-b", "room.ä", "user.a",
		"room", "room.room.a"}
	for _, s := range subjects {
		n.must(n.Subscribe(s))
	}
	for i, s := range subjects {
		n.Say(s, fmt.Sprint(i))
		if e := n.WaitFor(1)[0]; e.Subject != s || e.Message != fmt.Sprint(i) {
			t.Errorf("got %+v, want %d on %q", e, i, s)
		}
		n.Forget()
	}
}

func names(t *testing.T, nodes []*Node) {
	n := nodes[0]
	for _, name := range []string{
		"a", "Ä", "日本語", "a.b.c.d.e", `"`, `\`, "'", "%", "%s", "$", "$SYS", "_INBOX", "-", "{}",
		"[1,2]", "a,b", "a:b", "a/b", "#", "|", "a=b&c", "🎉", "<", "…", "h", "e\u0301",
		strings.Repeat("x", cluster.MaxName), strings.Repeat("é", cluster.MaxName/2),
		strings.Repeat("a.", cluster.MaxName/2-1) + "a",
	} {
		n.must(cluster.CheckName(name))
		for _, kind := range []string{"room.", "user.", "node."} {
			n.must(n.Subscribe(kind + name))
			n.Say(kind+name, name)
			if e := n.WaitFor(1)[0]; e.Subject != kind+name || e.Message != name {
				t.Errorf("got %+v, want %q", e, kind+name)
			}
			n.must(n.Unsubscribe(kind + name))
			n.Forget()
		}
	}
}

func refused(t *testing.T, nodes []*Node) {
	n := nodes[0]
	for _, s := range []string{
		"", ".", "room.", ".room", "room..a", "room.*", "room.>", "*", ">", "room.a b",
		"room.a\r\n",
		"room.a\r\nPUB room.b 0\r\n\r\n", "room.\t", "room.\x00", "room.\xff", "room.\x7f",
		strings.Repeat("x", cluster.MaxSubject+1),
	} {
		if err := n.Subscribe(s); err == nil {
			t.Errorf("Subscribe takes %q", s)
		}
		if err := n.Publish(s, nil); err == nil {
			t.Errorf("Publish takes %q", s)
		}
	}
	n.must(n.Subscribe("room.a"))
	n.Say("room.a", "still there")
	want(t, n.WaitFor(1), "still there")
}

func reused(t *testing.T, nodes []*Node) {
	n := nodes[0]
	n.must(n.Subscribe("node.a"))
	buffer := make([]byte, 10)
	const count = 1000
	for i := range count {
		copy(buffer, fmt.Sprintf("%010d", i))
		n.must(n.Publish("node.a", buffer))
	}
	for i, e := range n.WaitFor(count) {
		if e.Message != fmt.Sprintf("%010d", i) {
			t.Fatalf("message %d is %q", i, e.Message)
		}
	}
}

func large(t *testing.T, nodes []*Node) {
	n := nodes[0]
	for _, subject := range kinds {
		n.must(n.Subscribe(subject))
		for _, size := range []int{0, 1, 1000, n.MaxMessage()} {
			text := strings.Repeat("x", size)
			n.Say(subject, text)
			if e := n.WaitFor(1)[0]; e.Message != text {
				t.Errorf("%d bytes have arrived as %d", size, len(e.Message))
			}
			n.Forget()
		}
		if n.Publish(subject, make([]byte, n.MaxMessage()+1)) == nil {
			t.Errorf("%d bytes are taken, MaxMessage is %d", n.MaxMessage()+1, n.MaxMessage())
		}
		n.Say(subject, "still there")
		want(t, n.WaitFor(1), "still there")
		n.Forget()
	}
}

func concurrent(t *testing.T, nodes []*Node) {
	const goroutines, each = 8, 500
	Join(nodes[0], "room.a", nodes...)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				n := nodes[g%len(nodes)]
				own := fmt.Sprintf("room.%d", g)
				err := errors.Join(n.Subscribe(own),
					n.Publish("room.a", fmt.Append(nil, g, " ", i)), n.Unsubscribe(own))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, n := range nodes {
		got := n.WaitFor(goroutines * each)
		next := map[string]int{}
		for _, e := range got {
			g, i, _ := strings.Cut(e.Message, " ")
			if i != fmt.Sprint(next[g]) || e.Lost != nil {
				t.Fatalf("%+v, want message %d", e, next[g])
			}
			next[g]++
		}
	}
}

func flushed(t *testing.T, nodes []*Node) {
	const count = 2000
	n := nodes[0]
	for _, subject := range kinds {
		Join(nodes[1], subject, nodes[1])
	}
	for i := range count {
		n.Say(kinds[i%len(kinds)], fmt.Sprint(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	n.must(n.Close(ctx))
	nodes[1].WaitFor(count)
}

func afterClose(t *testing.T, nodes []*Node) {
	n := nodes[0]
	n.must(n.Subscribe("room.a"))
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	n.must(n.Close(ctx))
	n.must(n.Close(ctx))
	isErr(t, "Publish", n.Publish("room.a", nil), cluster.ErrDisconnected)
	n.must(n.Unsubscribe("room.a"))
	if n.MaxMessage() <= 0 {
		t.Errorf("MaxMessage is %d", n.MaxMessage())
	}
	before := len(n.Events())
	nodes[1].must(nodes[1].Subscribe("room.a"))
	nodes[1].Say("room.a", "hello")
	nodes[1].WaitFor(1)
	if now := len(n.Events()); now != before {
		t.Errorf("it has called its Receiver after Close")
	}
}

// history returns the node's, or nil if the Broker has none.
func history(t *testing.T, n *Node) (cluster.History, cluster.Position) {
	t.Helper()
	h, ok := n.Broker.(cluster.History)
	if !ok {
		return nil, cluster.Position{}
	}
	none, top, err := h.Since(t.Context(), "room.a", cluster.Position{}, 10)
	n.must(err)
	if len(none) > 0 {
		t.Errorf("Since a position without an epoch returns %d messages", len(none))
	}
	if top.Epoch == "" {
		return nil, cluster.Position{}
	}
	return h, top
}

func since(t *testing.T, nodes []*Node) {
	h, begin := history(t, nodes[0])
	if h == nil {
		Join(nodes[0], "room.a", nodes[0])
		nodes[0].Say("room.a", "1")
		if at := nodes[0].WaitFor(1)[0].At; at != (cluster.Position{}) {
			t.Errorf("a message without a history is at %v", at)
		}
		return
	}
	// What comes before the first and between the others is of other rooms.
	const count = 20
	for _, n := range nodes {
		n.must(n.Subscribe("room.a"))
	}
	Join(nodes[0], "room.other", nodes[0])
	for i := range count {
		nodes[0].Say("room.other", "x")
		nodes[0].Say("room.a", fmt.Sprint(i))
	}
	got := nodes[1].WaitFor(count)
	last := begin
	for i, e := range got {
		if e.At.Epoch != begin.Epoch || e.At.Offset <= last.Offset {
			t.Fatalf("message %d is at %v, behind %v", i, e.At, last)
		}
		last = e.At
	}
	for i := range count {
		for _, from := range nodes {
			stored, top, err := from.Broker.(cluster.History).Since(t.Context(), "room.a",
				got[i].At, count)
			from.must(err)
			if top != last {
				t.Errorf("top is %v, want %v", top, last)
			}
			if len(stored) != count-1-i {
				t.Fatalf("%d messages behind the one at %v, want %d", len(stored), got[i].At,
					count-1-i)
			}
			for j, s := range stored {
				if e := got[i+1+j]; string(s.Message) != e.Message || s.At != e.At ||
					s.Time.IsZero() {
					t.Errorf("%+v is stored, and was received as %+v", s, e)
				}
			}
		}
	}
	stored, _, err := h.Since(t.Context(), "room.a", begin, count)
	nodes[0].must(err)
	if len(stored) != count {
		t.Errorf("%d messages behind the first position, want %d", len(stored), count)
	}
}

func sinceRefused(t *testing.T, nodes []*Node) {
	h, begin := history(t, nodes[0])
	if h == nil {
		b, ok := nodes[0].Broker.(cluster.History)
		if !ok {
			return
		}
		_, _, err := b.Since(t.Context(), "room.a", cluster.Position{Offset: 1, Epoch: "x"}, 10)
		isErr(t, "Since without a history", err, cluster.ErrUnrecoverable)
		return
	}
	n := nodes[0]
	n.must(n.Subscribe("room.a"))
	for i := range 10 {
		n.Say("room.a", fmt.Sprint(i))
	}
	got := n.WaitFor(10)
	last := got[9].At
	for _, c := range []struct {
		what  string
		since cluster.Position
		limit int
		err   error
		count int
	}{
		{"exactly as many as the limit", got[4].At, 5, nil, 5},
		{"one more than the limit", got[3].At, 5, cluster.ErrUnrecoverable, 0},
		{"as many as the limit, from the first on", begin, 10, nil, 10},
		{"one more than the limit, from the first on", begin, 9, cluster.ErrUnrecoverable, 0},
		{"a limit of 0 at the end", last, 0, nil, 0},
		{"a limit of 0", got[8].At, 0, cluster.ErrUnrecoverable, 0},
		{"another epoch", cluster.Position{Offset: last.Offset, Epoch: "other"}, 10,
			cluster.ErrUnrecoverable, 0},
		{"an offset that is yet to come", cluster.Position{Offset: last.Offset + 1000,
			Epoch: last.Epoch}, 10, cluster.ErrUnrecoverable, 0},
	} {
		stored, top, err := h.Since(t.Context(), "room.a", c.since, c.limit)
		isErr(t, c.what, err, c.err)
		if len(stored) != c.count {
			t.Errorf("%s: %d messages, want %d", c.what, len(stored), c.count)
		}
		if top != last {
			t.Errorf("%s: top is %v, want %v", c.what, top, last)
		}
	}
}
