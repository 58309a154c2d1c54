package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/cluster"
)

const (
	// settle is how long the servers of a cluster are given to tell each other of subscriptions,
	// which no one tells the client of.
	settle = 100 * time.Millisecond

	// doubtful is how long it takes, at least, from one look at the history's stream to the next.
	doubtful = time.Second
)

// run keeps the Broker connected until ctx is done.
func (b *Broker) run(ctx context.Context, l *link) {
	defer close(b.ended)
	for {
		b.keep(ctx, l)
		others := b.others(l)
		why := l.out.failure()
		b.drop(l)
		if ctx.Err() != nil {
			l.out.abort()
			return
		}
		b.queue.hold()
		b.config.Logger.Warn("the connection to NATS has ended", zap.String("server", l.server),
			zap.NamedError("why", errors.Join(l.nc.LastError(), why)))
		if l = b.redial(ctx, l, others); l == nil {
			return
		}
	}
}

// drop ends a link.
func (b *Broker) drop(l *link) {
	b.link.Store(nil)
	l.end()
}

// keep waits until the link ends, or ctx is done, and looks after the history.
func (b *Broker) keep(ctx context.Context, l *link) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.closed:
			return
		case <-b.suspect:
		}
		b.look(ctx, l)
		select {
		case <-ctx.Done():
			return
		case <-l.closed:
			return
		case <-time.After(doubtful):
		}
	}
}

// redial connects until it has succeeded, and says that messages may have been lost: when the
// server knows the subscriptions, so that whoever asks for the history then misses none.
func (b *Broker) redial(ctx context.Context, last *link, targets []target) *link {
	wait := min(b.config.ReconnectWait, 100*time.Millisecond)
	for ; ; wait = b.config.ReconnectWait {
		select {
		case <-ctx.Done():
			last.out.abort()
			return nil
		case <-time.After(wait/2 + rand.N(wait)):
		}
		l, err := b.dialAny(ctx, targets)
		if err != nil {
			b.config.Logger.Warn("can't connect to NATS", zap.Error(err))
			continue
		}
		b.part(ctx, last, l)
		epoch, err := b.ready(ctx, l)
		if err != nil && epoch == nil {
			b.config.Logger.Warn("can't connect to NATS", zap.String("server", l.server),
				zap.Error(err))
			b.drop(l)
			b.queue.hold()
			last = l
			continue
		}
		b.reconnects.Add(1)
		b.config.Logger.Info("connected to NATS again", zap.String("server", l.server))
		if err != nil {
			b.config.Logger.Error("the history can't be used", zap.Error(err))
			b.doubt()
		}
		b.queue.release(entry{lost: cluster.ErrReconnected, epoch: epoch})
		return l
	}
}

// part waits until the server of the last connection has read what was sent on it: one that stands
// still, for as long as it may take to connect to it, or less if this is another one.
func (b *Broker) part(ctx context.Context, last, next *link) {
	wait := b.config.ConnectTimeout
	if last.target.shown != next.target.shown {
		wait = min(wait, time.Second)
	}
	select {
	case <-ctx.Done():
	case <-last.out.ended:
	case <-time.After(wait):
	}
	last.out.abort()
}

// dialAny connects to the first server that it can connect to.
func (b *Broker) dialAny(ctx context.Context, targets []target) (*link, error) {
	var failures []error
	for _, t := range targets {
		l, err := b.dial(ctx, t)
		if err == nil {
			return l, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// ready has a link subscribe to all, be what Publish uses, and know the history, whose epoch it
// returns. If it is only the history that fails, the epoch is "", which isn't nil.
func (b *Broker) ready(ctx context.Context, l *link) (epoch *string, err error) {
	if err := b.adopt(l); err != nil {
		return nil, err
	}
	if err := l.flush(ctx, b.config.ConnectTimeout); err != nil {
		return nil, err
	}
	if l.nc.ConnectedClusterName() != "" && b.Stats().Subscriptions > 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(settle):
		}
	}
	epoch = new(string)
	if b.stream != "" {
		*epoch, err = b.ensure(ctx, l)
	}
	return epoch, err
}

// adopt subscribes to what the Broker is subscribed to.
func (b *Broker) adopt(l *link) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stream != "" {
		l.acks = l.nc.NewInbox() + "."
		if _, err := l.nc.ChanSubscribe(l.acks+">", l.in); err != nil {
			return err
		}
	}
	for subject, s := range b.subjects {
		if err := b.subscribe(l, subject, s); err != nil {
			return err
		}
	}
	b.link.Store(l)
	return nil
}

// others returns all servers, that of the link last: it has just ended the connection. The servers
// of a cluster have told of each other.
func (b *Broker) others(l *link) []target {
	var all []target
	seen := map[string]bool{l.target.shown: true}
	add := func(t target) {
		if !seen[t.shown] {
			seen[t.shown] = true
			all = append(all, t)
		}
	}
	for _, t := range b.targets {
		add(t)
	}
	if b.process == nil {
		for _, s := range l.nc.DiscoveredServers() {
			t, err := parse(s)
			u, _ := url.Parse(l.target.url)
			if err != nil || u == nil {
				continue
			}
			if mine := u.Hostname(); net.ParseIP(mine) == nil {
				t.tlsName = mine
			}
			v, _ := url.Parse(t.url)
			v.User, v.Scheme = l.target.user, u.Scheme
			t.url, t.user, t.shown = v.String(), v.User, v.Scheme+"://"+v.Host
			add(t)
		}
	}
	return append(all, l.target)
}

// doubt has the history's stream be looked at.
func (b *Broker) doubt() {
	select {
	case b.suspect <- struct{}{}:
	default:
	}
}
