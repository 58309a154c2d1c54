package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

// A Publication is a message on its way to the members of a room, or the connections of a user.
type Publication struct {
	Room string // "" if it is for a user
	User string // "" if it is for a room
	Node string // that has sent it
	// At is where it stands in the room's history; a client that keeps it can go on from there, see
	// Hub.JoinSince. Without a History it is zero.
	At      Position
	Message websocket.Message // its data is not to be changed
}

// Broadcast sends a message, Text or Binary, to the members of a room on all nodes, but for those
// excepted, 100 at most. What is broadcast from one node to one room arrives everywhere in that
// order, at most once; what doesn't arrive is told to OnGap there. The data may be used again when
// Broadcast returns.
//
// It doesn't wait: socket.ErrQueueFull says that more than Config.MaxQueue is on its way to the
// Broker, ErrDisconnected that there is no connection to it; then nothing was sent.
func (h *Hub) Broadcast(
	ctx context.Context, room string, m websocket.Message, except ...ID,
) error {
	if err := CheckName(room); err != nil {
		return err
	}
	if len(except) > maxExcept {
		return fmt.Errorf("%w: %d members are excepted", ErrTooBig, len(except))
	}
	for _, id := range except {
		if err := CheckName(id.Node); err != nil {
			return err
		}
	}
	return h.send(ctx, subjectRoom+room, m, except)
}

// ToUser sends a message to all connections of a user, see Bind, on all nodes, as Broadcast does to
// a room.
func (h *Hub) ToUser(ctx context.Context, user string, m websocket.Message) error {
	if err := CheckName(user); err != nil {
		return err
	}
	return h.send(ctx, subjectUser+user, m, nil)
}

func (h *Hub) send(ctx context.Context, subject string, m websocket.Message, except []ID) error {
	h.mu.Lock()
	err := h.sendable(ctx, m)
	h.mu.Unlock()
	if err != nil {
		return err
	}
	body := make([]byte, 0, 16+len(except)*(MaxName/4)+len(m.Data))
	body = appendPacket(body, packet{m.Opcode, except, m.Data})
	return h.submit(ctx, output{subject, kindMessage, body})
}

// sendable returns why a message can't be sent. The caller holds mu.
func (h *Hub) sendable(ctx context.Context, m websocket.Message) error {
	if err := h.running(ctx); err != nil {
		return err
	}
	switch most := min(h.config.MaxMessage, h.limits.message); {
	case m.Opcode != websocket.Text && m.Opcode != websocket.Binary:
		return fmt.Errorf("cluster: a message is Text or Binary, not %v", m.Opcode)
	case len(m.Data) > most:
		return fmt.Errorf("%w: %d bytes, of %d", ErrTooBig, len(m.Data), most)
	}
	return nil
}

// Disconnect closes all connections of a user, on all nodes: WebSockets with a code and a reason as
// websocket.Conn.Close takes them, others as server.Conn.Close does. Like Broadcast it doesn't
// wait.
func (h *Hub) Disconnect(ctx context.Context, user string, code int, reason string) error {
	if err := CheckName(user); err != nil {
		return err
	}
	if code < 1000 || code > 4999 {
		return fmt.Errorf("cluster: %d is no status code", code)
	}
	body := appendFarewell(nil, farewell{uint64(code), cut(reason)})
	return h.submit(ctx, output{subjectUser + user, kindDisconnect, body})
}

// BroadcastHere sends a message to the members of a room on this node only, but for those excepted:
// what OnPresence and OnGap have told this node, as they have told the others. It doesn't go
// through the Broker, nor through Config.Encode, but for members that are no WebSockets through
// EncodeRaw, and may overtake what is broadcast. It reaches all who have joined before, and doesn't
// wait, see Broadcast.
func (h *Hub) BroadcastHere(
	ctx context.Context, room string, m websocket.Message, except ...ID,
) error {
	return h.sendHere(ctx, local{subjectRoom + room, m, except})
}

// ToUserHere sends a message to the connections of a user on this node only, see BroadcastHere.
func (h *Hub) ToUserHere(ctx context.Context, user string, m websocket.Message) error {
	return h.sendHere(ctx, local{subjectUser + user, m, nil})
}

func (h *Hub) sendHere(ctx context.Context, l local) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.sendable(ctx, l.message); err != nil {
		return err
	}
	l.message.Data, l.except = slices.Clone(l.message.Data), slices.Clone(l.except)
	if err := h.reserve(l.size()); err != nil {
		return err
	}
	h.work.locals = append(h.work.locals, l)
	h.signal()
	return nil
}

// A local is a message for members here. It goes out from run's goroutine, as what comes from the
// Broker does from the Broker's: on a member's own loop it would overtake the member's Join, if
// that was made elsewhere and is under way to the loop.
type local struct {
	subject string
	message websocket.Message
	except  []ID
}

func (l *local) size() int { return len(l.message.Data) + len(l.subject) + 64 + 64*len(l.except) }

func (h *Hub) giveLocal(l local) {
	h.deliver.Lock()
	defer h.deliver.Unlock()
	h.mu.Lock()
	h.work.queued -= l.size()
	t := h.topics[l.subject]
	except := h.here(l.except)
	h.mu.Unlock()
	if t != nil {
		h.spread(t, t.publication(h.me.name, l.message, Position{}), l.message, except)
	}
}

// reserve makes room for what waits for run. The caller holds mu.
func (h *Hub) reserve(n int) error {
	if h.work.queued+n > h.config.MaxQueue {
		h.stats.Refused++
		return fmt.Errorf("cluster: %w", socket.ErrQueueFull)
	}
	h.work.queued += n
	return nil
}

// here returns those of some members that are this node's. The caller holds mu.
func (h *Hub) here(ids []ID) (conns []Conn) {
	for _, id := range ids {
		if id.Node == h.me.name && h.numbers[id.Number] != nil {
			conns = append(conns, h.numbers[id.Number].conn)
		}
	}
	return conns
}

// cut cuts off what is too much of a reason, and what isn't UTF-8, which a close frame can't have.
func cut(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// submit queues a message for run.
func (h *Hub) submit(ctx context.Context, o output) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.running(ctx); err != nil {
		return err
	}
	if h.work.failing {
		return ErrDisconnected
	}
	if err := h.reserve(o.size()); err != nil {
		return err
	}
	h.work.outputs = append(h.work.outputs, o)
	h.signal()
	return nil
}

// running returns why nothing begins. The caller holds mu.
func (h *Hub) running(ctx context.Context) error {
	if h.phase != phaseRunning {
		return ErrNotRunning
	}
	return ctx.Err()
}

// receiver is a Hub as a Receiver.
type receiver Hub

// Receive takes what another node has sent, or this one.
func (r *receiver) Receive(subject string, message []byte, at Position) {
	h := (*Hub)(r)
	h.deliver.Lock()
	defer h.deliver.Unlock()
	h.take(subject, message, at, live)
	h.signal()
}

// A source is where a message comes from.
type source uint8

const (
	live   source = iota // the broker: it may have to wait for those before it
	held                 // it has waited
	stored               // the history: it may be of a node that isn't there any more
)

// take takes a message. The caller holds deliver.
func (h *Hub) take(subject string, message []byte, at Position, from source) {
	in := reader{b: message, limits: &h.limits}
	e := in.envelope()
	h.mu.Lock()
	h.stats.Received++
	var then func()
	switch {
	case in.failed:
		h.reject(subject, errWire)
	case e.kind == kindMessage && hasHistory(subject),
		(e.kind == kindMessage || e.kind == kindDisconnect) && subject != subjectUser &&
			strings.HasPrefix(subject, subjectUser):
		if t := h.topics[subject]; t != nil {
			then = h.arrived(t, e, &in, Stored{At: at, Message: message}, from)
		}
	case subject == subjectNodes && (e.kind == kindHello || e.kind == kindDiff ||
		e.kind == kindBeat || e.kind == kindBye),
		subject == subjectNode+h.me.name && (e.kind == kindAsk || e.kind == kindState):
		h.heard(subject, e, &in, time.Now())
	default:
		h.reject(subject, errWire)
	}
	h.mu.Unlock()
	if then != nil {
		then()
	}
}

// arrived takes a message for members. It returns what is to be done without mu.
func (h *Hub) arrived(t *topic, e envelope, in *reader, raw Stored, from source) (then func()) {
	if from == live && t.recovery != nil {
		h.keep(&t.recovery.hold, raw)
		return nil
	}
	var p packet
	var bye farewell
	if e.kind == kindMessage {
		p = in.packet()
	} else {
		bye = in.farewell()
	}
	if err := in.end(); err != nil {
		h.reject(t.subject, err)
		return nil
	}
	now := time.Now()
	switch h.verdict(t, e, raw.At, from, now) {
	case late:
		h.stats.Late++
		return nil
	case foreign:
		if t.local > 0 {
			h.gap(t, ErrNode)
		}
		return nil
	case missing:
		if from == live && h.recover(t, ErrMissed) {
			h.keep(&t.recovery.hold, raw)
			return nil
		}
		h.gap(t, ErrMissed)
	}
	if n := h.known(e.from); n != nil {
		n.note(t.subject, e.number, now)
	}
	if raw.At.Epoch != "" {
		t.at = raw.At
	}
	if t.local == 0 {
		return nil
	}
	for _, hold := range t.holds {
		h.keep(hold, raw)
	}
	if e.kind == kindDisconnect {
		conns := make([]Conn, len(t.conns))
		for i, m := range t.conns {
			conns[i] = m.conn
		}
		return func() { disconnect(conns, bye) }
	}
	pub := t.publication(e.from.name, p.message(), raw.At)
	except := append(t.spare(raw.At), h.here(p.except)...)
	return func() { h.give(t, pub, except) }
}

func (t *topic) publication(node string, m websocket.Message, at Position) Publication {
	pub := Publication{Node: node, At: at, Message: m}
	if t.room() {
		pub.Room = t.name()
	} else {
		pub.User = t.name()
	}
	return pub
}

// give sends a message to the members here. The caller holds deliver, and not mu.
func (h *Hub) give(t *topic, pub Publication, except []Conn) {
	if m, ok := h.encode(t, pub); ok {
		h.spread(t, pub, m, except)
	}
}

// spread sends WebSockets what was made of a message, and those that are none what EncodeRaw makes.
// The caller holds deliver, and not mu.
func (h *Hub) spread(t *topic, pub Publication, m websocket.Message, except []Conn) {
	var conns []*websocket.Conn
	var raws []*server.Conn
	for _, c := range except {
		switch c := c.(type) {
		case *websocket.Conn:
			conns = append(conns, c)
		case *server.Conn:
			raws = append(raws, c)
		}
	}
	sent, missed := h.rooms.Broadcast(t.subject, m.Data, m.Opcode, conns...)
	h.mu.Lock()
	others := t.raw
	h.mu.Unlock()
	if others != nil {
		if data, ok := h.encodeRaw(t, pub, m); ok {
			more, behind := others.send(data, raws)
			sent, missed = sent+more, missed+behind
		}
	}
	h.mu.Lock()
	h.stats.Delivered += uint64(sent)
	if missed > 0 {
		h.stats.Dropped += uint64(missed)
		h.gap(t, ErrSlow)
	}
	h.mu.Unlock()
}

// encode has Config.Encode make what is sent. It returns false if that has panicked.
func (h *Hub) encode(t *topic, pub Publication) (m websocket.Message, ok bool) {
	if h.config.Encode == nil {
		return pub.Message, true
	}
	ok = h.protect(t, func() { m = h.config.Encode(pub) })
	return m, ok
}

func (h *Hub) encodeRaw(t *topic, pub Publication, m websocket.Message) (data []byte, ok bool) {
	if h.config.EncodeRaw == nil {
		return m.Data, true
	}
	ok = h.protect(t, func() { data = h.config.EncodeRaw(pub) })
	return data, ok
}

// protect calls a function of the program's on a goroutine that must not end by it. A panic becomes
// that of a coroutine, which the runtime reports as it does all, and is a gap.
func (h *Hub) protect(t *topic, fn func()) (ok bool) {
	defer func() {
		if ok {
			return
		}
		err := fmt.Errorf("%w: %v\n\n%s", errEncode, recover(), debug.Stack())
		if _, ended := h.rt.Go(func(context.Context) { panic(err) }); ended != nil {
			h.log.Error("panic in a callback", zap.Error(err))
		}
		h.mu.Lock()
		h.gap(t, errEncode)
		h.mu.Unlock()
	}()
	fn()
	return true
}

var errEncode = errors.New("cluster: Config.Encode or EncodeRaw has panicked")

func disconnect(conns []Conn, bye farewell) {
	reason := cut(bye.reason)
	for _, c := range conns {
		switch c := c.(type) {
		case *websocket.Conn:
			if c.Close(int(bye.code), reason) != nil && c.Established() {
				c.Close(websocket.StatusNormal, reason) // no code that may be sent
			}
		case *server.Conn:
			c.Close()
		}
	}
}
