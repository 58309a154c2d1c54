package cluster

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

var roomy = limits{message: 1000, meta: 100}

func newcomers() []newcomer {
	return []newcomer{
		{place{1, "room"}, "ann", []byte("meta")}, {place{1 << 40, "räum.2"}, "", nil},
	}
}

// What one node writes another one reads, whole and not a byte shorter.
func TestWire(t *testing.T) {
	from := origin{"node", 1 << 60}
	read := map[string]struct {
		bytes []byte
		want  any
		read  func(r *reader) any
	}{
		"packet": {
			appendPacket(
				nil,
				packet{websocket.Text, []ID{{"a", 1}, {"b", 1 << 50}}, []byte("data")},
			),
			packet{websocket.Text, []ID{{"a", 1}, {"b", 1 << 50}}, []byte("data")},
			func(r *reader) any { return r.packet() },
		},
		"farewell": {
			appendFarewell(nil, farewell{4000, "enough"}), farewell{4000, "enough"},
			func(r *reader) any { return r.farewell() },
		},
		"diff": {
			appendDiff(
				nil,
				diff{[]place{{7, "room"}}, newcomers()},
			), diff{[]place{{7, "room"}}, newcomers()},
			func(r *reader) any { return r.diff() },
		},
		"marks": {
			appendMarks(nil, []mark{{"room.x", 9}}), []mark{{"room.x", 9}},
			func(r *reader) any { return r.marks() },
		},
		"state": {
			appendState(nil, state{5, 1, 3, newcomers()}), state{5, 1, 3, newcomers()},
			func(r *reader) any { return r.state() },
		},
	}
	for name, c := range read {
		e := envelope{kindBeat, from, 12, 11}
		whole := append(appendEnvelope(nil, e), c.bytes...)
		r := reader{b: whole, limits: &roomy}
		if got := r.envelope(); got != e {
			t.Errorf("%s: envelope %+v", name, got)
		}
		if got := c.read(&r); !reflect.DeepEqual(got, c.want) || r.end() != nil {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		for n := range whole {
			r := reader{b: whole[:n], limits: &roomy}
			r.envelope()
			c.read(&r)
			if name != "packet" && r.end() == nil {
				t.Errorf("%s: %d of %d bytes were enough", name, n, len(whole))
			}
		}
	}
}

// What breaks a bound isn't read.
func TestWireBounds(t *testing.T) {
	many := make([]ID, maxExcept+1)
	for i := range many {
		many[i] = ID{"n", uint64(i)}
	}
	for name, c := range map[string]struct {
		bytes []byte
		read  func(r *reader)
	}{
		"a long message":   {appendPacket(nil, packet{websocket.Text, nil, make([]byte, 1001)}), func(r *reader) { r.packet() }},
		"a ping":           {appendPacket(nil, packet{websocket.Ping, nil, nil}), func(r *reader) { r.packet() }},
		"many excepted":    {appendPacket(nil, packet{websocket.Text, many, nil}), func(r *reader) { r.packet() }},
		"a long name":      {appendString(nil, strings.Repeat("x", MaxName+1)), func(r *reader) { r.name() }},
		"no name":          {appendString(nil, "a b"), func(r *reader) { r.name() }},
		"a wrong user":     {appendNewcomer(nil, newcomer{place{1, "r"}, "a b", nil}), func(r *reader) { r.newcomer() }},
		"long meta":        {appendNewcomer(nil, newcomer{place{1, "r"}, "", make([]byte, 101)}), func(r *reader) { r.newcomer() }},
		"a long reason":    {appendFarewell(nil, farewell{4000, strings.Repeat("x", 124)}), func(r *reader) { r.farewell() }},
		"a list of 2^40":   {[]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1, 2, 3}, func(r *reader) { r.marks() }},
		"a part of none":   {appendState(nil, state{1, 3, 3, nil}), func(r *reader) { r.state() }},
		"another version":  {append([]byte{2}, appendEnvelope(nil, envelope{kindBeat, origin{"n", 1}, 1, 0})[1:]...), func(r *reader) { r.envelope() }},
		"a varint of 2^70": {slices.Repeat([]byte{0xff}, 11), func(r *reader) { r.number() }},
	} {
		r := reader{b: c.bytes, limits: &roomy}
		c.read(&r)
		if r.end() == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// FuzzReceive: whatever comes from the broker, the hub holds, keeps its bounds, and goes on.
func FuzzReceive(f *testing.F) {
	from := origin{"other", 1}
	subjects := []string{"nodes", "node.me", "room.r", "user.u", "", "room.", "nonsense"}
	seed := func(subject int, e envelope, body []byte) {
		f.Add(uint8(subject), append(appendEnvelope(nil, e), body...), uint8(3))
	}
	seed(0, envelope{kind: kindHello, from: from, number: 1}, nil)
	seed(
		0,
		envelope{kind: kindDiff, from: from, number: 2},
		appendDiff(nil, diff{nil, newcomers()}),
	)
	seed(
		0,
		envelope{kind: kindBeat, from: from, number: 3},
		appendMarks(nil, []mark{{"room.r", 3}}),
	)
	seed(0, envelope{kind: kindBye, from: from, number: 4}, []byte{1})
	seed(1, envelope{kind: kindAsk, from: from}, nil)
	seed(1, envelope{kind: kindState, from: from}, appendState(nil, state{4, 0, 1, newcomers()}))
	seed(
		2,
		envelope{kindMessage, from, 7, 5},
		appendPacket(nil, packet{websocket.Text, []ID{{"me", 1}}, nil}),
	)
	seed(3, envelope{kindDisconnect, from, 8, 0}, appendFarewell(nil, farewell{1005, "x"}))
	rt := runtimetest.Start(f, runtimetest.Quiet(f)...)
	f.Fuzz(func(t *testing.T, subject uint8, message []byte, cut uint8) {
		h := New(
			Config{Node: "me", OnPresence: func(context.Context, string, []Member, []Member) {}},
		)
		leaktest.Check(t, h.Start(rt.Context()))
		defer h.Close(context.Background())
		h.mu.Lock()
		for _, s := range []string{"room.r", "user.u"} {
			h.held(h.topic(s))
		}
		h.mu.Unlock()
		s := subjects[int(subject)%len(subjects)]
		(*receiver)(h).Receive(s, message, Position{})
		(*receiver)(
			h,
		).Receive(s, message[:max(0, len(message)-int(cut))], Position{Offset: 1, Epoch: "x"})
		(*receiver)(h).Receive(s, message, Position{Offset: 2, Epoch: "x"})
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, n := range h.nodes {
			if n.size > maxForeign || len(n.members) > len(message) {
				t.Errorf("%d members of %d bytes", len(n.members), len(message))
			}
			for _, e := range n.members {
				if CheckName(e.topic.name()) != nil || e.topic.entries[e.index] != e {
					t.Errorf("a member of %q, at %d", e.topic.name(), e.index)
				}
			}
		}
	})
}
