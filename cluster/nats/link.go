package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/cluster"
)

// A link is one connection to a server. When it ends, the Broker makes another one: nats.go's own
// reconnection dials with the lock held that Publish takes, and gives up for good after some
// errors, "maximum payload violation" among them.
//
// All its subscriptions share one channel, so that none of them has a goroutine of its own. nats.go
// drops what comes when such a channel is full, and tells only of the first message that it drops
// of a subscription until one gets through again: a drop after that report stays silent. Therefore
// the channel must never be full. Between two reads of the connection, which take all that is in
// it, no more can get into it than the messages that have room in what is read.
type link struct {
	nc     *natsgo.Conn
	out    *outbox
	target target
	server string        // its name, and where it is
	limit  atomic.Int64  // how many bytes the server takes in one message
	closed chan struct{} // when nats.go has ended the connection
	acks   string        // how the subjects of a history's answers begin; "" without one

	broker  *Broker
	mu      sync.Mutex // of those who take from in
	in      chan *natsgo.Msg
	entries []entry
}

const (
	readSize   = 32 << 10 // how much is read at once
	tlsRecord  = 17 << 10 // what TLS may have kept of what was read before
	minMessage = len("MSG a 1 0\r\n\r\n")
	inbox      = 2 * (readSize + tlsRecord) / minMessage
)

// dial connects to one server, which must be there within the Config's ConnectTimeout.
func (b *Broker) dial(ctx context.Context, target target) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.ConnectTimeout)
	defer cancel()
	l := &link{
		broker: b,
		target: target,
		closed: make(chan struct{}),
		in:     make(chan *natsgo.Msg, inbox),
	}
	d := &dialer{Context: ctx, link: l, custom: b.options.CustomDialer, net: b.options.Dialer,
		process: b.process}
	o := b.options
	o.Url, o.Servers = target.url, nil
	o.AllowReconnect, o.RetryOnFailedConnect = false, false
	if target.tlsName != "" && o.TLSConfig != nil && o.TLSConfig.ServerName == "" {
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.ServerName = target.tlsName
	}
	o.CustomDialer, o.SkipHostLookup, o.InProcessServer = d, true, nil
	theirs := o.AsyncErrorCB
	o.AsyncErrorCB = func(nc *natsgo.Conn, sub *natsgo.Subscription, err error) {
		l.failed(sub, err)
		if theirs != nil {
			theirs(nc, sub, err)
		}
	}
	closed := o.ClosedCB
	o.ClosedCB = func(nc *natsgo.Conn) {
		if closed != nil {
			closed(nc)
		}
		close(l.closed)
	}
	duck := o.LameDuckModeHandler
	o.LameDuckModeHandler = func(nc *natsgo.Conn) {
		b.config.Logger.Info("the NATS server is going to end", zap.String("server", target.shown))
		if duck != nil {
			duck(nc)
		}
	}
	nc, err := o.Connect()
	if d.stop != nil {
		d.stop()
	}
	if err != nil {
		if l.out != nil {
			l.out.Close()
			go l.out.linger()
			l.out.abort()
		}
		return nil, fmt.Errorf("%s: %w", target.shown, d.why(err))
	}
	l.limit.Store(nc.MaxPayload())
	l.nc, l.server = nc, nc.ConnectedServerName()+" ("+target.shown+")"
	return l, nil
}

// A dialer makes the connection of a link.
type dialer struct {
	context.Context
	link    *link
	custom  natsgo.CustomDialer
	net     *net.Dialer
	process natsgo.InProcessConnProvider
	err     error
	stop    func() bool
}

func (d *dialer) Dial(network, address string) (conn net.Conn, err error) {
	switch {
	case d.process != nil:
		conn, err = d.process.InProcessConn()
	case d.custom != nil:
		conn, err = d.custom.Dial(network, address)
	case d.net != nil:
		conn, err = d.net.DialContext(d, network, address)
	default:
		conn, err = new(net.Dialer).DialContext(d, network, address)
	}
	if err != nil {
		d.err = err
		return nil, err
	}
	out := newOutbox(conn, d.link.broker.config.WriteTimeout, d.link.take)
	d.link.out = out
	d.stop = context.AfterFunc(d, func() { out.Close() })
	return out, nil
}

// SkipTLSHandshake is asked by nats.go.
func (d *dialer) SkipTLSHandshake() bool {
	custom, ok := d.custom.(interface{ SkipTLSHandshake() bool })
	return ok && custom.SkipTLSHandshake()
}

// why returns what went wrong, which nats.go hides if there is nobody who listens.
func (d *dialer) why(err error) error {
	switch {
	case d.err != nil:
		return d.err
	case d.Err() != nil:
		return fmt.Errorf("the server hasn't answered: %w", context.Cause(d))
	}
	return err
}

// take passes on what has been parsed. It is called by the goroutine that reads.
func (l *link) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		select {
		case m := <-l.in:
			if e, ok := l.broker.entry(l, m); ok {
				l.entries = append(l.entries, e)
			}
			continue
		default:
		}
		break
	}
	if len(l.entries) > 0 {
		l.broker.queue.put(l.entries...)
		clear(l.entries)
		l.entries = l.entries[:0]
	}
}

// failed takes what nats.go reports of a connection that goes on.
func (l *link) failed(sub *natsgo.Subscription, err error) {
	b := l.broker
	if errors.Is(err, natsgo.ErrSlowConsumer) && sub != nil {
		subject, _ := b.subject(sub.Subject)
		b.queue.dropped.Add(1)
		b.queue.put(entry{subject: subject, lost: cluster.ErrSlow})
		return
	}
	b.config.Logger.Warn("the NATS server complains",
		zap.String("server", l.target.shown), zap.Error(err))
	if errors.Is(err, natsgo.ErrPermissionViolation) {
		// It is `… permissions violation for publish to "whorl.room.x"`, in lower case or not.
		subject := ""
		if _, rest, ok := strings.Cut(err.Error(), `"`); ok {
			quoted, _, _ := strings.Cut(rest, `"`)
			subject, _ = b.subject(quoted)
			subject = strings.TrimPrefix(subject, kept)
		}
		b.rejected.Add(1)
		b.queue.put(entry{subject: subject, lost: fmt.Errorf("cluster/nats: %w", err)})
	}
}

// flush waits until the server has seen all that was sent.
func (l *link) flush(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return l.nc.FlushWithContext(ctx)
}

// end ends the link. Nothing of it comes afterwards; the connection lingers.
func (l *link) end() {
	l.nc.Close()
	<-l.closed
	go l.out.linger()
	<-l.out.done
	l.take()
}
