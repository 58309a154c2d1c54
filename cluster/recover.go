package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// A hold keeps messages that come while those before them are fetched.
type hold struct {
	kept     []Stored
	size     int
	overflow bool
}

// maxHeld is how many bytes a hold keeps, maxHolding how many all of a Hub do.
const (
	maxHeld    = 1 << 20
	maxHolding = 64 << 20
)

// keep adds a message to a hold. The caller holds mu, as it does for free.
func (h *Hub) keep(k *hold, m Stored) {
	n := len(m.Message) + 128
	switch {
	case k.overflow:
	case k.size+n > maxHeld, len(k.kept) >= h.config.MaxMissed, h.holding+n > maxHolding:
		h.free(k)
		k.overflow = true
	default:
		k.kept = append(k.kept, m)
		k.size += n
		h.holding += n
	}
}

// free empties a hold.
func (h *Hub) free(k *hold) {
	h.holding -= k.size
	k.kept, k.size = nil, 0
}

// behind returns those that are not among the ones up to a position.
func (k *hold) behind(top Position) []Stored {
	var rest []Stored
	for _, m := range k.kept {
		if m.At.Epoch != top.Epoch || m.At.Offset > top.Offset {
			rest = append(rest, m)
		}
	}
	return rest
}

// A recovery fetches what a topic has lost. Messages wait for it.
type recovery struct {
	hold
	why   error
	begun time.Time
	marks []owed

	// What is lost once the history was asked may not be in its answer: it is asked again.
	asked, again bool
}

// The history may take so long to answer, a topic's messages wait so long for those before them,
// and so many topics are recovered at a time.
const (
	answerTimeout  = 10 * time.Second
	recoverTimeout = 30 * time.Second
	maxHealing     = 8
)

// recover begins to recover a topic, or goes on. It returns false if there is nothing to recover
// from. The caller holds mu.
func (h *Hub) recover(t *topic, why error) bool {
	switch {
	case h.history == nil || t.at.Epoch == "" || h.phase != phaseRunning:
		return false
	case t.recovery != nil:
		t.recovery.again = t.recovery.asked
		return true
	}
	t.recovery = &recovery{why: why, begun: time.Now()}
	h.queue = append(h.queue, t)
	if h.healing < maxHealing {
		h.healing++
		go h.heal()
	}
	return true
}

// heal recovers topics until none is left.
func (h *Hub) heal() {
	for {
		h.mu.Lock()
		if len(h.queue) == 0 || h.phase != phaseRunning {
			h.healing--
			h.mu.Unlock()
			return
		}
		t := h.queue[0]
		h.queue = h.queue[1:]
		at, r := t.at, t.recovery
		r.asked = true
		h.mu.Unlock()
		fetched, top, err := h.since(t, at, r.begun.Add(recoverTimeout))
		h.healed(t, fetched, top, err)
	}
}

// since asks the history, until a deadline.
func (h *Hub) since(t *topic, at Position, deadline time.Time) ([]Stored, Position, error) {
	ctx, cancel := context.WithDeadline(h.ctx, deadline)
	defer cancel()
	if ctx.Err() != nil {
		return nil, Position{}, ctx.Err()
	}
	ctx, cancel = context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return h.history.Since(ctx, t.subject, at, h.config.MaxMissed)
}

// healed delivers what was fetched, and what has come meanwhile.
func (h *Hub) healed(t *topic, fetched []Stored, top Position, err error) {
	h.deliver.Lock()
	defer h.deliver.Unlock()
	h.mu.Lock()
	r := t.recovery
	t.recovery = nil
	kept := r.kept
	switch {
	case err != nil:
		h.gap(t, errors.Join(r.why, err))
		fetched = nil
	case r.overflow:
		h.gap(t, errors.Join(r.why, ErrSlow))
	default:
		h.stats.Recovered += uint64(len(fetched))
		kept = r.behind(top)
	}
	h.free(&r.hold)
	h.tidy(t)
	h.mu.Unlock()
	for _, m := range fetched {
		h.take(t.subject, m.Message, m.At, stored)
	}
	for _, m := range kept {
		h.take(t.subject, m.Message, m.At, held)
	}
	h.mu.Lock()
	again := r.again && err == nil && t.local > 0 && h.recover(t, r.why)
	for _, o := range r.marks {
		if again {
			t.recovery.marks = append(t.recovery.marks, o)
		} else {
			h.owes(t, o, time.Now())
		}
	}
	h.mu.Unlock()
	h.signal()
}

// JoinSince is Join for a client that was in the room before, here or on another node, and has the
// position of the last message that it got: what was said since is sent to it first, as Encode
// makes it, and then what is said from now on, without a hole and nothing twice. What it was
// excepted from is among that, as it is another connection now.
//
// It returns the position behind what was sent, for a client that has none yet: with a since that
// is zero nothing is sent. ErrUnrecoverable says that the connection has joined, but can't be given
// all, and was given nothing: too much was said, or too long ago, or the Broker has no History; or
// the first part only, as it can't be pushed to. It waits, for the Broker: callbacks call it in a
// coroutine (runtime.Go). When ctx is done the connection may yet join, and a Leave meanwhile
// doesn't keep it from that. A connection that is in the room is sent nothing.
func (h *Hub) JoinSince(
	ctx context.Context, c Conn, room string, meta []byte, since Position,
) (Position, error) {
	if err := h.fits(room, meta); err != nil {
		return Position{}, err
	}
	if h.history == nil {
		err := h.Join(c, room, meta)
		if err == nil && since.Epoch != "" {
			err = ErrUnrecoverable
		}
		return Position{}, err
	}
	return runtime.Await(ctx, func() (Position, error) {
		return h.joinSince(ctx, c, room, meta, since)
	})
}

func (h *Hub) joinSince(
	ctx context.Context, c Conn, room string, meta []byte, since Position,
) (Position, error) {
	own := new(hold)
	h.mu.Lock()
	if err := h.running(ctx); err != nil {
		h.mu.Unlock()
		return Position{}, err
	}
	t := h.topic(subjectRoom + room)
	h.held(t)
	t.holds = append(t.holds, own)
	at := t.at
	h.mu.Unlock()

	var stored []Stored
	var top Position
	err := h.barrier(ctx) // from then on nothing is missed
	if err == nil {
		stored, top, err = h.caughtUp(ctx, t.subject, since, at)
	}

	h.deliver.Lock()
	defer h.deliver.Unlock()
	defer h.signal()
	defer func() {
		h.mu.Lock()
		h.released(t)
		h.tidy(t)
		h.mu.Unlock()
	}()
	h.mu.Lock()
	t.drop(own)
	switch {
	case h.isIn(c, t):
		stored = nil // it gets all that is said
		if errors.Is(err, ErrUnrecoverable) {
			err = nil
		}
	case err == nil && since.Epoch != "" && own.overflow:
		err = ErrUnrecoverable
	case err == nil && since.Epoch != "":
		if h.sow(t, stored) {
			h.gap(t, ErrMissed)
		}
		stored = append(stored, own.behind(top)...)
	}
	h.free(own)
	if t.at.Epoch == "" && t.local == 1 {
		t.at = top // nobody else waits for anything before it
	}
	if t.at.Epoch == top.Epoch && t.at.Offset > top.Offset {
		top = t.at // what has come meanwhile was delivered here
	}
	h.mu.Unlock()
	if err != nil && !errors.Is(err, ErrUnrecoverable) {
		return Position{}, err
	}
	for i := 0; i < len(stored) && err == nil; i++ {
		if failed := h.resend(c, t, stored[i]); failed != nil {
			err = fmt.Errorf("%w: it can't be sent: %w", ErrUnrecoverable, failed)
		}
	}
	if joined := h.Join(c, room, meta); joined != nil {
		return Position{}, joined
	}
	h.mu.Lock()
	if m := h.members[c]; m != nil && top.Epoch != "" && top != t.at {
		if t.ahead == nil {
			t.ahead = map[*member]Position{}
		}
		t.ahead[m] = top
	}
	h.mu.Unlock()
	return top, err
}

// caughtUp asks the history until it knows what this node knows already: a server that was away may
// have less yet.
func (h *Hub) caughtUp(
	ctx context.Context, subject string, since, known Position,
) (stored []Stored, top Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	for {
		stored, top, err = h.history.Since(ctx, subject, since, h.config.MaxMissed)
		if err != nil || since.Epoch == "" || top.Epoch != known.Epoch ||
			top.Offset >= known.Offset {
			return stored, top, err
		}
		select {
		case <-ctx.Done():
			return nil, top, fmt.Errorf("cluster: the history is behind: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sow notes what was the last that each node had said, as the history has it, for a topic that has
// not heard them long enough to know. It reports whether something didn't get into the history, as
// a message's predecessor isn't there. The caller holds mu.
func (h *Hub) sow(t *topic, all []Stored) (holes bool) {
	t.seeds = map[origin]uint64{}
	for _, m := range all {
		in := reader{b: m.Message, limits: &h.limits}
		e := in.envelope()
		if in.failed {
			continue
		}
		last := t.seeds[e.from]
		holes = holes || last > 0 && e.before > last
		t.seeds[e.from] = max(last, e.number)
	}
	return holes
}

// spare returns those who have a message already, which is the next that is delivered.
func (t *topic) spare(at Position) (conns []Conn) {
	for m, had := range t.ahead {
		has := had.Epoch == at.Epoch && had.Offset >= at.Offset
		if has && !m.ended {
			conns = append(conns, m.conn)
		}
		if !has || had.Offset == at.Offset {
			delete(t.ahead, m)
		}
	}
	return conns
}

func (t *topic) drop(own *hold) {
	t.holds = slices.DeleteFunc(t.holds, func(other *hold) bool { return other == own })
}

// resend sends a message that was kept to one connection. The caller holds deliver.
func (h *Hub) resend(c Conn, t *topic, m Stored) (err error) {
	in := reader{b: m.Message, limits: &h.limits}
	e := in.envelope()
	p := in.packet()
	if in.end() != nil || e.kind != kindMessage {
		return nil
	}
	pub := t.publication(e.from.name, p.message(), m.At)
	out, ok := h.encode(t, pub)
	if !ok {
		return errEncode
	}
	switch c := c.(type) {
	case *websocket.Conn:
		_, err = c.Push(out.Data, out.Opcode)
	case *server.Conn:
		data, ok := h.encodeRaw(t, pub, out)
		if !ok {
			return errEncode
		}
		if err = c.Server().Send(c.ID(), data); err != nil {
			c.Abort()
		}
	}
	return err
}
