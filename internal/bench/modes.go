package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/socket"
)

// resumes reports whether the i-th handshake is one that resumes a session, so that the share of
// those is what was asked for at any time.
func resumes(i int64, share float64) bool {
	return int64(float64(i+1)*share) > int64(float64(i)*share)
}

// handshakes is the work of mode Handshake.
func (r *run) handshakes(ctx context.Context, w *worker) {
	r.each(ctx, w, func(ctx context.Context, w *worker, t *trial) error {
		number := r.handshakesBegun.Add(1) - 1
		resume := resumes(number, r.options.Resume)
		s, err := r.dialer.open(ctx, w.lane, t, number, resume)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := r.firstByte(ctx, s, t); err != nil {
			return err
		}
		if t.ended == 0 {
			t.ended = clock.Now()
		}
		if resume && !t.agreed.resumed {
			// The server didn't want the session, or a failure has used it up. If there is no other
			// one, the report says how many were resumed.
			awaitTicket(ctx, w.lane, s)
		}
		return nil
	})
}

// firstByte waits for what the server says first over TLS.
func (r *run) firstByte(ctx context.Context, s *socket.Socket, t *trial) error {
	if !r.options.FirstByte {
		return nil
	}
	began := clock.Now()
	if opening := r.options.Opening; len(opening) > 0 {
		if _, err := s.SendSoon(ctx, opening); err != nil {
			return failedIn(phaseFirstByte, r.dialer.refusal(err))
		}
		t.bytes += int64(len(opening))
	}
	if _, err := s.RecvPacket(ctx); err != nil {
		return failedIn(phaseFirstByte, r.dialer.refusal(err))
	}
	t.note(phaseFirstByte, clock.Now()-began)
	return nil
}

// establish opens the i-th connection of a mode that sends messages.
func (r *run) establish(ctx context.Context, l *lane, t *trial, i int64) (*socket.Socket, error) {
	s, err := r.dialer.open(ctx, l, t, i, resumes(i, r.options.Resume))
	if err != nil {
		return nil, err
	}
	if r.options.webSocket() {
		return s, nil // a frame is a message
	}
	framer, err := r.options.Framing.Framer(r.options.Size)
	if err == nil {
		err = s.SetProtocol(framer)
	}
	if err != nil {
		s.Abort()
		return nil, err
	}
	return s, nil
}

// connect opens a worker's connection before measuring begins. If that fails, the worker tries
// again with its first operation.
func (r *run) connect(ctx context.Context, w *worker) {
	var t trial
	s, err := r.establish(ctx, w.lane, &t, w.index)
	if err != nil {
		w.lane.fail(classify(err), err)
		return
	}
	w.lane.notePhases(&t)
	w.socket = s
}

// roundTrips is the work of mode PingPong.
func (r *run) roundTrips(ctx context.Context, w *worker) {
	defer func() {
		if w.socket != nil {
			w.socket.Close()
		}
	}()
	r.each(ctx, w, r.roundTrip)
}

func (r *run) roundTrip(ctx context.Context, w *worker, t *trial) error {
	if w.socket == nil {
		s, err := r.establish(ctx, w.lane, t, w.index)
		if err != nil {
			return err
		}
		w.socket = s
		if r.options.Rate == 0 {
			// in a closed loop a round trip is one; in an open one, who wanted it had to wait for
			// the connection too
			t.intended = clock.Now()
		}
	}
	greetings := 0
	if r.options.Mode == WebSocketEcho && !w.greeted {
		greetings = maxGreetings
	}
	err := r.exchange(ctx, w.lane, w.socket, t, greetings)
	if w.greeted = err == nil; err != nil {
		w.socket.Abort() // the answer may still come, and would be taken for the next one's
		w.socket = nil
	}
	return err
}

// maxGreetings is how many messages a WebSocket server may send by itself before its first echo:
// many welcome a client.
const maxGreetings = 16

// exchange sends a message and receives its echo. Before that come so many messages that aren't, at
// most.
func (r *run) exchange(ctx context.Context, l *lane, s *socket.Socket, t *trial,
	greetings int) error {
	frame := r.nextMessage(l)
	message := r.messages[l.sends%uint(len(r.messages))]
	if _, err := s.SendSoon(ctx, frame); err != nil {
		return err
	}
	answer, err := r.receiveMessage(ctx, s)
	for ; err == nil && !bytes.Equal(answer, message); greetings-- {
		other := fmt.Errorf("%w, but %s", errNoEcho, reply.Quote(answer))
		if greetings == 0 || len(answer) == len(message) { // no greeting
			return other
		}
		if answer, err = r.receiveMessage(ctx, s); timedOut(err) {
			return fmt.Errorf("%w, and no other came in time", other)
		}
	}
	if err != nil {
		return err
	}
	t.bytes += int64(len(message) + len(answer))
	if t.measured {
		l.sent.Add(int64(len(message)))
		l.received.Add(int64(len(answer)))
	}
	return nil
}

// errNoEcho says that a peer is no echo, or gives one connection what is another's.
var errNoEcho = errors.New("the answer is not the message that was sent")

// messagesInTurn is how many different messages there are: at most 64, or a mebibyte of them.
func messagesInTurn(size int) int { return min(max(2, 1<<20/size), 64) }

// nextMessage returns a message, as it is sent, that differs from the lane's last ones. It must not
// be written to.
func (r *run) nextMessage(l *lane) []byte {
	l.sends++
	return r.frames[l.sends%uint(len(r.frames))]
}
