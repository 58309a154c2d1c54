package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/cluster"
)

// A Broker is a [cluster.Broker] on NATS, and a [cluster.History] if its Config says so; without,
// Since answers that there is none (Position.Epoch is "").
//
// Its methods may be called from any goroutine, and none but Start, Since and Close waits for the
// server: a server that stands still, or can't be reached, costs Publish an error and no time. It
// has a few goroutines, and none for a subscription.
type Broker struct {
	config  Config
	options natsgo.Options
	targets []target
	process natsgo.InProcessConnProvider
	prefix  string // with a dot
	stream  string // that keeps the history; "" if there is none

	receiver cluster.Receiver
	queue    *queue
	link     atomic.Pointer[link] // nil while there is no connection
	suspect  chan struct{}        // the history may be another one

	// Counters, see Stats.
	messagesIn, bytesIn, messagesOut, bytesOut  atomic.Uint64
	invalid, strays, duplicates, rejected, gaps atomic.Uint64
	reconnects                                  atomic.Uint64

	mu       sync.Mutex // may be held while nats.go subscribes, which doesn't wait
	subjects map[string]*subscription
	known    history // what is known of it
	state    int
	cancel   context.CancelFunc // ends run
	ended    chan struct{}      // run has ended
	quiet    chan struct{}      // deliver has ended
}

const (
	fresh = iota
	starting
	started
	closed
)

// A subscription is what the Broker knows of a subject.
type subscription struct {
	sub *natsgo.Subscription // of the link there is, or was

	// Of a room with a history. The newest message that was received, so that none comes twice, and
	// up to where nothing is missing that the Receiver wasn't told of; 0 if there is no such place.
	offset, floor uint64
	era, told     uint32 // what these are of, see history
}

var (
	errBacklog = fmt.Errorf("cluster/nats: the server takes less than is published, %w for now",
		cluster.ErrDisconnected)
	errClosed = fmt.Errorf("cluster/nats: the Broker is closed, %w", cluster.ErrDisconnected)
)

// Start connects, to one of the servers: each is tried once, and the error has what was wrong with
// each. It may be called again after an error. With a History, its stream is made or brought up to
// date.
//
// From then on the Broker connects again whenever a connection ends, without end.
func (b *Broker) Start(ctx context.Context, r cluster.Receiver) error {
	b.mu.Lock()
	state := b.state
	if state == fresh {
		b.state, b.receiver = starting, r
	}
	b.mu.Unlock()
	if state == closed {
		return errClosed
	} else if state != fresh {
		return errors.New("cluster/nats: the Broker was started before")
	}
	err := b.start(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && b.state == starting {
		b.state = fresh
	}
	return err
}

func (b *Broker) start(ctx context.Context) error {
	l, err := b.dialAny(ctx, b.targets)
	if err != nil {
		return fmt.Errorf("cluster/nats: %w", err)
	}
	epoch, err := b.ready(ctx, l)
	if err != nil {
		b.drop(l)
		l.out.abort()
		return fmt.Errorf("cluster/nats: %s: %w", l.server, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == closed {
		cancel()
		b.mu.Unlock()
		b.drop(l)
		l.out.abort()
		b.mu.Lock()
		return errClosed
	}
	b.state, b.cancel = started, cancel
	b.known.set(*epoch)
	b.ended, b.quiet = make(chan struct{}), make(chan struct{})
	go b.run(run, l)
	go b.deliver()
	b.config.Logger.Info("connected to NATS", zap.String("server", l.server))
	return nil
}

// Subscribe has messages of a subject arrive. Without a connection it is done with the next one.
func (b *Broker) Subscribe(subject string) error {
	if err := checkSubject(subject); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == closed {
		return errClosed
	}
	if b.subjects[subject] != nil {
		return nil
	}
	s := &subscription{}
	if l := b.link.Load(); l != nil {
		if err := b.subscribe(l, subject, s); err != nil {
			return fmt.Errorf("cluster/nats: %w", err)
		}
		if s.sub != nil {
			subject = s.sub.Subject[len(b.prefix):] // one copy of it for both
		}
	}
	b.subjects[subject] = s
	return nil
}

// subscribe does it on a link. One that has ended is no error: there will be another one.
func (b *Broker) subscribe(l *link, subject string, s *subscription) error {
	sub, err := l.nc.ChanSubscribe(b.prefix+subject, l.in)
	if err != nil && !errors.Is(err, natsgo.ErrConnectionClosed) {
		return err
	}
	s.sub = sub
	return nil
}

// Unsubscribe ends that messages of a subject arrive. No call of the Receiver begins afterwards for
// one.
func (b *Broker) Unsubscribe(subject string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subjects[subject]
	delete(b.subjects, subject)
	if s != nil && s.sub != nil {
		// An error says that the connection has ended, and the subscription with it.
		s.sub.Unsubscribe() //nolint:errcheck
	}
	return nil
}

// Publish sends a message. The error is or wraps cluster.ErrDisconnected if there is no connection,
// or more than Config.MaxPending waits for a server that doesn't take it.
func (b *Broker) Publish(subject string, message []byte) error {
	if err := checkSubject(subject); err != nil {
		return err
	}
	l := b.link.Load()
	if l == nil {
		return cluster.ErrDisconnected
	}
	if limit := b.maxMessage(l.limit.Load()); len(message) > limit {
		return fmt.Errorf("cluster/nats: a message of %d bytes, the server takes %d", len(message),
			limit)
	}
	if l.out.queued.Load()+int64(len(message)) > int64(b.config.MaxPending) {
		return errBacklog
	}
	var err error
	if b.stream != "" && strings.HasPrefix(subject, rooms) {
		err = l.nc.PublishRequest(b.prefix+kept+subject, l.acks+subject, message)
	} else {
		err = l.nc.Publish(b.prefix+subject, message)
	}
	if err != nil {
		if errors.Is(err, natsgo.ErrMaxPayload) { // the server takes less than before
			l.limit.Store(l.nc.MaxPayload())
			return fmt.Errorf("cluster/nats: %w", err)
		}
		// All others are of a connection that has ended, or ends.
		return fmt.Errorf("%w: %w", cluster.ErrDisconnected, err)
	}
	b.messagesOut.Add(1)
	b.bytesOut.Add(uint64(len(message)))
	return nil
}

// MaxMessage returns how many bytes the server takes, less what the history adds; without a
// connection, what servers take unless they are told otherwise.
func (b *Broker) MaxMessage() int {
	if l := b.link.Load(); l != nil {
		return b.maxMessage(l.limit.Load())
	}
	return b.maxMessage(1 << 20)
}

// Close sends what was published before, for as long as ctx lasts, and at most for the Config's
// ConnectTimeout, and ends. What was received and not delivered yet is dropped. Nothing is called
// afterwards, unless the Receiver still hasn't returned at ctx's end, which is the error then.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	before := b.state
	b.state = closed
	b.mu.Unlock()
	b.queue.close()
	if before != started {
		return nil
	}
	var err error
	if l := b.link.Load(); l != nil {
		if err = l.flush(ctx, b.config.ConnectTimeout); err != nil {
			err = fmt.Errorf("cluster/nats: what was published may not have been sent: %w", err)
		}
	}
	b.cancel()
	<-b.ended
	select {
	case <-b.quiet:
	case <-ctx.Done():
		select {
		case <-b.quiet:
		default:
			err = errors.Join(err, fmt.Errorf("cluster/nats: the Receiver hasn't returned: %w",
				context.Cause(ctx)))
		}
	}
	return err
}

// deliver calls the Receiver.
func (b *Broker) deliver() {
	defer close(b.quiet)
	for batch := b.queue.take(nil); batch != nil; batch = b.queue.take(batch) {
		for i := range batch {
			if b.queue.ended() {
				return
			}
			b.call(&batch[i])
			b.queue.done(&batch[i])
			batch[i] = entry{}
		}
	}
}

// call calls the Receiver once, or twice: a message may show that others are missing before it.
func (b *Broker) call(e *entry) {
	if e.lost != nil {
		b.mu.Lock()
		if s := b.subjects[e.subject]; s != nil || e.subject == "" {
			b.known.tell(s)
		}
		if e.epoch != nil {
			b.known.set(*e.epoch)
		}
		b.mu.Unlock()
		b.receiver.Lost(e.subject, e.lost)
		return
	}
	b.mu.Lock()
	s := b.subjects[e.subject]
	var at cluster.Position
	fate := pass
	if s != nil && e.stamp.offset != 0 {
		at, fate = b.known.place(s, e.stamp)
	}
	b.mu.Unlock()
	switch {
	case s == nil:
		b.strays.Add(1)
		return
	case fate == again:
		b.duplicates.Add(1)
		return
	case fate == gap:
		b.gaps.Add(1)
		b.doubt()
		b.receiver.Lost(e.subject, errGap)
	case fate == restarted:
		b.doubt()
	}
	b.messagesIn.Add(1)
	b.bytesIn.Add(uint64(len(e.message)))
	b.receiver.Receive(e.subject, e.message, at)
}

// entry makes an entry of a message. What isn't as this package sends it is dropped: others may
// have sent it.
func (b *Broker) entry(l *link, m *natsgo.Msg) (entry, bool) {
	if l.acks != "" && strings.HasPrefix(m.Subject, l.acks) {
		return b.answer(m.Subject[len(l.acks):], m)
	}
	subject, ok := b.subject(m.Subject)
	e := entry{subject: subject, message: m.Data}
	if ok && b.stream != "" && len(m.Header) > 0 && strings.HasPrefix(subject, rooms) {
		e.stamp, ok = parseStamp(m.Header)
	}
	if !ok {
		b.invalid.Add(1)
	}
	return e, ok
}

// subject returns a subject without the prefix.
func (b *Broker) subject(s string) (string, bool) {
	subject, ok := strings.CutPrefix(s, b.prefix)
	if !ok || checkSubject(subject) != nil {
		return "", false
	}
	return subject, true
}

// maxMessage returns how many bytes a message may have, of as many as the server takes.
func (b *Broker) maxMessage(limit int64) int {
	if b.stream != "" {
		limit -= reserve
	}
	return max(0, int(limit))
}

// number parses a header's.
func number(h natsgo.Header, key string) (uint64, bool) {
	n, err := strconv.ParseUint(h.Get(key), 10, 64)
	return n, err == nil
}
