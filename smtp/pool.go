package smtp

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// PoolConfig says what a Pool may do. 0 means the default, which is given in parentheses.
type PoolConfig struct {
	Address string // of the server: "host:port", or the path of a Unix socket
	Config  Config // of the sessions

	MaxConns    int           // connections at a time (5)
	MaxMessages int           // mails on each; negative: any number (100)
	MaxAge      time.Duration // how long a connection is used; negative: without end (1 hour)
	MaxIdle     time.Duration // how long one is kept that nobody uses (30 seconds)

	// CheckAfter is after how long without use a connection has to show by NOOP that the server is
	// still there before it gets a mail (10 seconds). That the server has closed is noticed anyway.
	CheckAfter time.Duration

	MaxQueue int // mails that wait for a connection; more are ErrPoolFull (10,000)

	// Rate is how many mails may be sent in a second, over all connections; 0: any number. They
	// begin at equal distances.
	Rate float64

	// Attempts is how often a mail is tried at most, when what went wrong may pass (3). There is a
	// random delay before each further attempt, of up to FirstDelay (1 second) before the second,
	// and up to twice as much before each next one, at most MaxDelay (1 minute).
	Attempts             int
	FirstDelay, MaxDelay time.Duration
}

func (c *PoolConfig) setDefaults() {
	for _, n := range []struct {
		value *int
		usual int
	}{{&c.MaxConns, 5}, {&c.MaxMessages, 100}, {&c.MaxQueue, 10_000}, {&c.Attempts, 3}} {
		if *n.value == 0 {
			*n.value = n.usual
		}
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.MaxAge, time.Hour}, {&c.MaxIdle, 30 * time.Second}, {&c.CheckAfter, 10 * time.Second},
		{&c.FirstDelay, time.Second}, {&c.MaxDelay, time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
}

// A Pool sends mails over connections to one server, which it opens as they are needed and keeps
// for the next mails. Its methods may be called from any coroutine and any goroutine.
//
// A mail is never sent again to somebody for whom the server may have accepted it: further attempts
// are for what the server has refused for now, by a code of 400 to 499, and for connections that
// are lost before the server has begun to take the message.
//
// When the server refuses a login for good, mails that need a new connection fail with the same
// error for a minute, and the server isn't asked. Then one of them asks, for all.
//
// A connection lives on the loop of the coroutine that has opened it. Another loop's coroutines can
// use it, too, at more cost: with very many mails a Pool for each loop, or one loop, is better.
type Pool struct {
	config PoolConfig
	dialer *Dialer

	active  runtime.WaitGroup          // Sends
	stopped *runtime.Channel[struct{}] // never has anything; closed when the Pool is cut short

	mu      sync.Mutex // guards what follows
	closed  bool
	cut     bool
	busy    int // places that are taken; each is for one connection at most
	dialing int
	waiting list.List // of *turn
	idle    []*pooled // the last one was used last
	open    map[*pooled]struct{}
	next    time.Time   // when the next mail may begin, by Rate
	reaper  *time.Timer // ends connections that were idle for too long

	refusal   error     // the last login that the server has refused for good
	refusedAt time.Time // and when it has
	stats     PoolStats
}

// PoolStats are a Pool's figures.
type PoolStats struct {
	Open, Idle int // connections
	Waiting    int // mails that wait for one

	Dialed   int64 // connections that were opened
	Lost     int64 // of them, those that were found closed or mute
	Accepted int64 // mails that the server has accepted, for some recipients at least
	Failed   int64 // mails that it hasn't
	InDoubt  int64 // of them, those that it may have; and of the accepted, for some recipients
	Refused  int64 // recipients that don't get a mail that was accepted
	Retried  int64 // further attempts
}

// pooled is a connection of a Pool.
type pooled struct {
	*Client
	born  time.Time
	mails int
}

// turn is a mail that waits for a connection. What is in it is guarded by the Pool's lock.
type turn struct {
	came    runtime.WaitGroup
	granted bool
}

// NewPool makes a Pool. The error says what is wrong with the configuration.
func NewPool(config PoolConfig) (*Pool, error) {
	config.setDefaults()
	if config.MaxConns < 0 || config.MaxQueue < 0 || config.Attempts < 0 || !(config.Rate >= 0) {
		return nil, fmt.Errorf("smtp: PoolConfig: %w: a negative number, or not a number", ErrInvalid)
	}
	if config.Address == "" {
		return nil, fmt.Errorf("smtp: PoolConfig: %w: there is no Address", ErrInvalid)
	}
	d, err := NewDialer(config.Config)
	if err != nil {
		return nil, err
	}
	return &Pool{
		config: config, dialer: d,
		stopped: runtime.NewChannel[struct{}](1),
		open:    make(map[*pooled]struct{}),
	}, nil
}

// Send sends a mail, see [Client.Send], on a connection of the Pool. It waits for one, and for
// further attempts, as the configuration says; the errors are those of the last attempt. ctx bounds
// all of it.
func (p *Pool) Send(ctx context.Context, mail *Mail) (Receipt, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Receipt{}, name(p.config.Address, ErrPoolClosed)
	}
	p.active.Add(1)
	p.mu.Unlock()
	defer p.active.Done()

	d := delivery{pool: p, mail: mail, to: mail.To}
	receipt, err := d.run(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.stats.Accepted++
		p.stats.Refused += int64(len(receipt.Refused))
		if len(receipt.InDoubt) > 0 {
			p.stats.InDoubt++
		}
	case errors.Is(err, ErrInDoubt):
		p.stats.InDoubt++
		fallthrough
	default:
		p.stats.Failed++
	}
	return receipt, err
}

// Stats returns the Pool's figures.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.stats
	stats.Open, stats.Idle, stats.Waiting = len(p.open), len(p.idle), p.waiting.Len()
	return stats
}

// Close ends the Pool: no further mails are taken, and those that were taken are sent, with all
// their attempts. Then the connections are ended by QUIT. When ctx is done before that, the
// connections are closed as they are, the Sends that are left return errors, and Close returns the
// error of ctx.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.active.Wait(ctx)
	p.mu.Lock()
	if p.reaper != nil {
		p.reaper.Stop()
	}
	if err == nil {
		gone := p.forget(len(p.idle))
		p.mu.Unlock()
		leave(gone)
		return nil
	}
	defer p.mu.Unlock()
	p.cut = true
	p.stopped.Close()
	for e := p.waiting.Front(); e != nil; e = e.Next() {
		e.Value.(*turn).came.Done() // not granted: see enter
	}
	p.waiting.Init()
	for c := range p.open {
		c.Close()
	}
	clear(p.open)
	p.idle = nil
	return err
}
