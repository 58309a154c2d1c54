package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/whorl-go/whorl/cluster"
)

// maxBatch is how many messages Since returns at most, whatever its limit.
const maxBatch = 1 << 16

// Since returns what the history has behind a position, see [cluster.History]. It waits for the
// server, until ctx is done or for three times the Config's ConnectTimeout.
//
// A message is known to be kept if the one at the position still is, or if the stream has dropped
// nothing of what is behind it. In a room that is quiet for longer than History.MaxAge neither may
// be known: that is ErrUnrecoverable, too.
func (b *Broker) Since(ctx context.Context, subject string, since cluster.Position, limit int) (
	stored []cluster.Stored, top cluster.Position, err error) {
	if err := checkSubject(subject); err != nil {
		return nil, top, err
	}
	if b.stream == "" || !strings.HasPrefix(subject, rooms) {
		if since.Epoch == "" {
			return nil, top, nil
		}
		return nil, top, fmt.Errorf("%w: there is no history", cluster.ErrUnrecoverable)
	}
	l := b.link.Load()
	if l == nil {
		return nil, top, cluster.ErrDisconnected
	}
	ctx, cancel := context.WithTimeout(ctx, 3*b.config.ConnectTimeout)
	defer cancel()
	q := &query{link: l, stream: b.stream, subject: b.prefix + kept + subject}
	stored, top, err = q.since(ctx, since, max(0, min(limit, maxBatch)))
	if top.Epoch != "" {
		b.seen(subject, top)
	}
	return stored, top, err
}

// seen takes note of an epoch, and where a subject begins of which nothing was received yet: what
// is missing from there to the first message is a gap.
func (b *Broker) seen(subject string, top cluster.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if top.Epoch != b.known.epoch {
		b.doubt()
		return
	}
	if s := b.subjects[subject]; s != nil {
		b.known.enter(s, top)
	}
}

// A query asks a stream for messages of a subject.
//
// The order of its requests matters. The newest message is asked for first, at the stream's leader;
// then all are got, from any of its servers, which may be behind, until the newest is among them;
// then it is asked what the stream has dropped: nothing that it still has then was dropped before.
type query struct {
	link    *link
	stream  string
	subject string
}

// since puts together what Since returns.
func (q *query) since(ctx context.Context, since cluster.Position, limit int) (
	stored []cluster.Stored, top cluster.Position, err error) {
	last, got, state, err := q.ask(ctx, since, limit)
	if err != nil {
		return nil, top, err
	}
	top = cluster.Position{Offset: last, Epoch: epochOf(state.Created)}
	if last == 0 {
		top.Offset = state.State.LastSeq // no message behind it is known, so none can be missing
	}
	unrecoverable := func(why string) ([]cluster.Stored, cluster.Position, error) {
		return nil, top, fmt.Errorf("%w: %s", cluster.ErrUnrecoverable, why)
	}
	switch {
	case since.Epoch == "":
		return nil, top, nil
	case since.Epoch != top.Epoch:
		return unrecoverable("it is of another history")
	case since.Offset > state.State.LastSeq:
		return unrecoverable("the history has lost its end")
	}
	exact := len(got.messages) > 0 && got.messages[0].At.Offset == since.Offset
	if exact {
		got.messages = got.messages[1:]
	} else if last == 0 || last > since.Offset { // otherwise the newest is known, and isn't behind
		if since.Offset+1 < state.State.FirstSeq {
			return unrecoverable("the oldest are dropped")
		}
		if perRoom := state.Config.MaxMsgsPerSubject; perRoom > 0 &&
			state.State.Subjects[q.subject] >= uint64(perRoom) && last > since.Offset {
			return unrecoverable("the oldest of the room are dropped")
		}
	}
	switch {
	case len(got.messages) > limit:
		return unrecoverable(fmt.Sprintf("there are more than %d", limit))
	case got.missing:
		return unrecoverable("there are too many, or some are dropped just now")
	case len(got.messages) == 0:
		return nil, since, nil
	}
	for i := range got.messages {
		got.messages[i].At.Epoch = top.Epoch
	}
	top.Offset = got.messages[len(got.messages)-1].At.Offset
	return got.messages, top, nil
}

// ask asks for all that Since needs.
func (q *query) ask(ctx context.Context, since cluster.Position, limit int) (
	last uint64, got batch, state streamState, err error) {
	for {
		if last, err = q.last(ctx); err != nil {
			return last, got, state, err
		}
		if since.Epoch != "" && last > since.Offset {
			got, err = q.upTo(ctx, max(since.Offset, 1), last, limit+1)
			if err != nil {
				return last, got, state, err
			}
		}
		state, err = q.state(ctx)
		if err != nil || last != 0 || state.State.Subjects[q.subject] == 0 {
			return last, got, state, err
		}
		// The first has come meanwhile.
	}
}

// last returns the offset of the newest message, 0 if there is none. The leader answers that.
func (q *query) last(ctx context.Context) (uint64, error) {
	var reply struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Offset uint64 `json:"seq"`
		} `json:"message"`
	}
	err := q.request(ctx, "STREAM.MSG.GET", map[string]string{"last_by_subj": q.subject}, &reply)
	switch e := reply.Error; {
	case err != nil:
		return 0, err
	case e != nil && e.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil
	case e != nil:
		return 0, fmt.Errorf("cluster/nats: %w", e)
	}
	return reply.Message.Offset, nil
}

// streamState is of the stream, with how many messages it has of the subject.
type streamState struct {
	Error   *jetstream.APIError    `json:"error"`
	Created time.Time              `json:"created"`
	Config  jetstream.StreamConfig `json:"config"`
	State   jetstream.StreamState  `json:"state"`
}

func (q *query) state(ctx context.Context) (reply streamState, err error) {
	err = q.request(ctx, "STREAM.INFO", map[string]string{"subjects_filter": q.subject}, &reply)
	if err == nil && reply.Error != nil {
		err = fmt.Errorf("cluster/nats: %w", reply.Error)
	}
	return reply, err
}

func (q *query) request(ctx context.Context, what string, request map[string]string, to any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := q.link.nc.RequestWithContext(ctx, "$JS.API."+what+"."+q.stream, body)
	if err != nil {
		return fmt.Errorf("cluster/nats: the history doesn't answer: %w", err)
	}
	if err := json.Unmarshal(m.Data, to); err != nil {
		return fmt.Errorf("cluster/nats: the history's answer: %w", err)
	}
	return nil
}

// A batch is what a server has of a subject.
type batch struct {
	messages []cluster.Stored // without an epoch
	missing  bool             // there are more, or there were when it began
}

// upTo gets messages until last is among them.
func (q *query) upTo(ctx context.Context, first, last uint64, limit int) (batch, error) {
	for {
		got, err := q.get(ctx, first, limit)
		n := len(got.messages)
		if err != nil || got.missing || n > 0 && got.messages[n-1].At.Offset >= last {
			return got, err
		}
		// A server that is behind; or the newest was dropped meanwhile.
		select {
		case <-ctx.Done():
			return got, fmt.Errorf("cluster/nats: the history doesn't catch up: %w",
				context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
		if now, err := q.last(ctx); err != nil {
			return got, err
		} else if now == 0 {
			return batch{}, nil
		}
	}
}

// get gets up to limit messages from an offset on, at any server that has them.
func (q *query) get(ctx context.Context, first uint64, limit int) (batch, error) {
	body, err := json.Marshal(map[string]any{
		"seq": first, "next_by_subj": q.subject, "batch": limit,
	})
	if err != nil {
		return batch{}, err
	}
	answers := make(chan *natsgo.Msg, limit+1)
	inbox := q.link.nc.NewInbox()
	sub, err := q.link.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return batch{}, fmt.Errorf("%w: %w", cluster.ErrDisconnected, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection has ended then
	err = q.link.nc.PublishRequest("$JS.API.DIRECT.GET."+q.stream, inbox, body)
	if err != nil {
		return batch{}, fmt.Errorf("%w: %w", cluster.ErrDisconnected, err)
	}
	var got batch
	var total uint64 // as the first of them says
	for {
		select {
		case <-ctx.Done():
			return got, fmt.Errorf("cluster/nats: the history doesn't answer: %w",
				context.Cause(ctx))
		case <-q.link.closed:
			return got, cluster.ErrDisconnected
		case m := <-answers:
			switch status := m.Header.Get("Status"); status {
			case "":
			case "404":
				return got, nil
			case "204":
				got.missing = uint64(len(got.messages)) != total
				return got, nil
			default:
				return got, fmt.Errorf("cluster/nats: the history answers %s %s", status,
					m.Header.Get("Description"))
			}
			s, pending, ok := stored(m)
			n := len(got.messages)
			if !ok || n > 0 && s.At.Offset <= got.messages[n-1].At.Offset || n == limit {
				return got, fmt.Errorf("cluster/nats: the history's answer is malformed")
			}
			if n == 0 {
				total = pending + 1
			}
			got.messages = append(got.messages, s)
		}
	}
}

func stored(m *natsgo.Msg) (s cluster.Stored, pending uint64, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	offset, hasOffset := number(m.Header, "Nats-Sequence")
	pending, hasPending := number(m.Header, "Nats-Num-Pending")
	s = cluster.Stored{At: cluster.Position{Offset: offset}, Time: t, Message: m.Data}
	return s, pending, err == nil && hasOffset && hasPending
}
