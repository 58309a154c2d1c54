package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// One goroutine makes all calls to the Broker: what waits for it is work. So nobody else waits, not
// even when the Broker does, and everything goes out in one order.
type work struct {
	topics     []*topic // to be subscribed, or not any more
	departures []place
	arrivals   map[*entry]struct{}
	asks       []string            // nodes whose members are wanted
	states     map[string]struct{} // nodes that want those of this one
	handOver   bool
	outputs    []output
	locals     []local
	queued     int // their bytes
	barriers   []chan struct{}

	failing bool // the broker has refused the last message
}

// An output is a message that is to be published.
type output struct {
	subject string
	kind    kind
	body    []byte
}

func (o *output) size() int { return len(o.body) + len(o.subject) + 64 }

func (w *work) joined(e *entry) {
	if w.arrivals == nil {
		w.arrivals = map[*entry]struct{}{}
	}
	w.arrivals[e] = struct{}{}
}

func (w *work) left(e *entry) {
	if _, untold := w.arrivals[e]; untold {
		delete(w.arrivals, e)
	} else {
		w.departures = append(w.departures, place{e.number, e.topic.name()})
	}
}

func (w *work) state(node string) {
	if w.states == nil {
		w.states = map[string]struct{}{}
	}
	w.states[node] = struct{}{}
}

func (w *work) forgetAsk(node string) {
	w.asks = slices.DeleteFunc(w.asks, func(other string) bool { return other == node })
}

func (w *work) empty() bool {
	return len(w.topics)+len(w.departures)+len(w.arrivals)+len(w.asks)+len(w.states)+
		len(w.outputs)+len(w.locals)+len(w.barriers) == 0 && !w.handOver
}

// run works until the end.
func (h *Hub) run() {
	defer close(h.done)
	ticker := time.NewTicker(h.config.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-h.wake:
			h.workOff()
		case now := <-ticker.C:
			h.beat(now)
			h.workOff()
		case ctx := <-h.stop:
			h.workOff()
			h.sayMarks()
			h.say(kindBye, []byte{0})
			if err := h.config.Broker.Close(ctx); err != nil {
				h.log.Warn("cluster: the broker's connection has not ended in order",
					zap.Error(err))
			}
			return
		}
	}
}

// workOff works until nothing is left.
func (h *Hub) workOff() {
	for {
		h.mu.Lock()
		w := h.work
		if w.empty() {
			h.mu.Unlock()
			break
		}
		h.work = work{failing: w.failing, queued: w.queued}
		subscribe, unsubscribe := h.sort(w.topics)
		var all []newcomer
		if len(w.states) > 0 {
			all = h.ownMembers()
		}
		d := diff{left: w.departures}
		for e := range w.arrivals {
			d.joined = append(d.joined, e.newcomer())
		}
		again := h.moving() && len(w.states) > 0 // whoever asks may have missed that
		h.mu.Unlock()
		h.listenTo(subscribe, unsubscribe)
		h.sayDiff(d)
		for node := range w.states {
			h.tellState(node, all)
		}
		for _, node := range w.asks {
			ask := envelope{kind: kindAsk, from: h.me.origin}
			h.publish(subjectNode+node, appendEnvelope(nil, ask))
		}
		for _, o := range w.outputs {
			h.output(o)
		}
		for _, l := range w.locals {
			h.giveLocal(l)
		}
		if w.handOver || again {
			h.say(kindBye, []byte{1})
		}
		for _, done := range w.barriers {
			close(done)
		}
	}
	h.call()
}

// sort returns the topics that are to be subscribed, and those that are not to be any more. The
// caller holds mu.
func (h *Hub) sort(topics []*topic) (subscribe, unsubscribe []*topic) {
	for _, t := range topics {
		t.dirty = false
		switch {
		case t.local > 0 && !t.subscribed:
			t.subscribed, t.opened = true, time.Now()
			h.stats.Subscribed++
			subscribe = append(subscribe, t)
		case t.local == 0 && t.subscribed && !t.waits:
			t.subscribed, t.at = false, Position{}
			h.stats.Subscribed--
			unsubscribe = append(unsubscribe, t)
		}
		h.tidy(t)
	}
	return subscribe, unsubscribe
}

// listenTo subscribes and unsubscribes. What fails is tried again with the next heartbeat; what is
// said meanwhile is lost, which is told when it begins and when it is over.
func (h *Hub) listenTo(subscribe, unsubscribe []*topic) {
	for _, t := range unsubscribe {
		h.config.Broker.Unsubscribe(t.subject) // an error says that it isn't subscribed
	}
	for _, t := range subscribe {
		err := h.config.Broker.Subscribe(t.subject)
		if err == nil && t.refused == nil {
			continue
		}
		h.mu.Lock()
		if (err == nil) != (t.refused == nil) && t.local > 0 {
			h.gap(t, cmp.Or(err, t.refused))
		}
		if t.refused = err; err != nil {
			t.subscribed = false
			h.stats.Subscribed--
			h.unheard = append(h.unheard, t)
		}
		h.mu.Unlock()
	}
}

// ownMembers returns all members of this node. The caller holds mu.
func (h *Hub) ownMembers() []newcomer {
	var all []newcomer
	h.ofOwn(func(e *entry) { all = append(all, e.newcomer()) })
	return all
}

// say tells all nodes something.
func (h *Hub) say(k kind, body []byte) error {
	h.spoken++
	b := appendEnvelope(nil, envelope{k, h.me.origin, h.spoken, h.number})
	return h.publish(subjectNodes, append(b, body...))
}

// sayDiff tells all nodes who has come and gone, in parts.
func (h *Hub) sayDiff(d diff) {
	for len(d.left)+len(d.joined) > 0 {
		var part diff
		size := 0
		for size < h.part() && len(d.left) > 0 {
			part.left = append(part.left, d.left[0])
			size += len(d.left[0].room) + 16
			d.left = d.left[1:]
		}
		var n int
		part.joined, n = h.some(d.joined, size)
		d.joined = d.joined[n:]
		h.say(kindDiff, appendDiff(nil, part))
	}
}

// part is how large a part may become before it is full: what comes last may make it larger.
func (h *Hub) part() int { return min(maxPart, h.config.Broker.MaxMessage()/2) }

// some returns the first ones that fit into a part of which so much is used.
func (h *Hub) some(all []newcomer, size int) ([]newcomer, int) {
	n := 0
	for n < len(all) && (size < h.part()-all[n].size() || size == 0) {
		size += all[n].size()
		n++
	}
	return all[:n], n
}

// tellState tells a node all members of this one.
func (h *Hub) tellState(node string, all []newcomer) {
	var parts [][]newcomer
	for rest := all; len(rest) > 0 || len(parts) == 0; {
		part, n := h.some(rest, 0)
		parts = append(parts, part)
		rest = rest[n:]
	}
	for i, part := range parts {
		b := appendEnvelope(nil, envelope{kind: kindState, from: h.me.origin})
		b = appendState(b, state{h.spoken, uint64(i), uint64(len(parts)), part})
		h.publish(subjectNode+node, b)
	}
}

// output publishes a message for members.
func (h *Hub) output(o output) {
	last := h.recent[o.subject]
	if last == nil {
		last = new(recent)
		h.recent[o.subject] = last
	}
	h.number++
	e := envelope{o.kind, h.me.origin, h.number, last.number}
	last.number, last.beat = h.number, 0
	b := make([]byte, 0, 64+len(h.me.name)+len(o.body))
	b = append(appendEnvelope(b, e), o.body...)
	err := h.publish(o.subject, b)
	h.mu.Lock()
	h.work.queued -= o.size()
	if err == nil {
		h.stats.Published++
	} else {
		h.stats.Unsent++
	}
	h.mu.Unlock()
}

// publish publishes, and notes whether that works.
func (h *Hub) publish(subject string, message []byte) error {
	err := h.config.Broker.Publish(subject, message)
	failing := errors.Is(err, ErrDisconnected)
	if !failing && !h.failing {
		return err
	}
	h.mu.Lock()
	h.work.failing = failing // until a publish succeeds, or the Broker says that it was reconnected
	h.mu.Unlock()
	if failing != h.failing {
		if h.failing = failing; failing {
			h.log.Warn("cluster: the broker takes nothing", zap.Error(err))
		} else {
			h.log.Info("cluster: the broker takes messages again")
		}
	}
	return err
}

// beat does what is due with each heartbeat.
func (h *Hub) beat(now time.Time) {
	h.mu.Lock()
	h.listen(now)
	h.expire(now)
	for _, t := range h.unheard {
		h.soil(t)
	}
	h.unheard = nil
	h.mu.Unlock()
	h.sayMarks()
}

// sayMarks tells all nodes that this one lives, and what it has published since it last did.
func (h *Hub) sayMarks() {
	h.beats++
	var marks []mark
	size := 0
	say := func() {
		if h.say(kindBeat, appendMarks(nil, marks)) != nil { // the next one has them, too
			for _, m := range marks {
				h.recent[m.subject].beat = 0
			}
		}
		marks, size = nil, 0
	}
	for subject, r := range h.recent {
		switch {
		case r.beat == 0:
			r.beat = h.beats
			marks = append(marks, mark{subject, r.number})
			if size += len(subject) + 16; size >= h.part() {
				say()
			}
		case r.beat+2 <= h.beats:
			delete(h.recent, subject)
		}
	}
	say()
}

// barrier waits until run has done what was asked for before.
func (h *Hub) barrier(ctx context.Context) error {
	done := make(chan struct{})
	h.mu.Lock()
	err := h.running(ctx)
	if err == nil {
		h.work.barriers = append(h.work.barriers, done)
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	h.signal()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.done:
		return ErrNotRunning
	}
}
