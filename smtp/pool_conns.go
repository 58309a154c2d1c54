package smtp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// checkTime is how long a server may take to show that it is still there, and how long a Pool that
// was closed waits for nothing else.
const checkTime = 10 * time.Second

// enter takes a place for a connection, and waits for one in the order of arrival. Mails that were
// let in already, which are tried again, are not turned away.
func (p *Pool) enter(ctx context.Context, again bool) error {
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return ErrPoolClosed
	}
	if p.busy < p.config.MaxConns && p.waiting.Len() == 0 {
		p.busy++
		p.mu.Unlock()
		return nil
	}
	if p.waiting.Len() >= p.config.MaxQueue && !again {
		p.mu.Unlock()
		return ErrPoolFull
	}
	t := new(turn)
	t.came.Add(1)
	place := p.waiting.PushBack(t)
	p.mu.Unlock()

	err := t.came.Wait(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && t.granted:
		return nil
	case t.granted: // and not wanted any more
		p.pass()
	case err == nil:
		return ErrPoolClosed
	case !p.cut:
		p.waiting.Remove(place)
	}
	return err
}

// exit gives a place back.
func (p *Pool) exit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
}

// pass passes a place on to who has waited longest. p.mu is held.
func (p *Pool) pass() {
	first := p.waiting.Front()
	if first == nil {
		p.busy--
		return
	}
	t := p.waiting.Remove(first).(*turn)
	t.granted = true
	t.came.Done()
}

// take returns a connection for a mail, one that was used before unless it has to be fresh. Whoever
// takes one has a place.
func (p *Pool) take(ctx context.Context, fresh bool) (c *pooled, reused bool, err error) {
	for !fresh {
		if c = p.pop(); c == nil {
			break
		}
		if p.usable(ctx, c) {
			return c, true, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err // the others are for those who still wait
		}
	}
	if c, err = p.dial(ctx); err != nil {
		return nil, false, err
	}
	return c, false, nil
}

// pop takes the connection off the idle ones that was used last.
func (p *Pool) pop() *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// usable finds out whether a connection that was idle may be used on, and ends it if not.
func (p *Pool) usable(ctx context.Context, c *pooled) (alive bool) {
	now := time.Now()
	idle := now.Sub(c.used)
	if p.worn(c, now) || idle > p.config.MaxIdle {
		p.discard(c, true)
		return false
	}
	defer func() {
		if !alive { // also after a panic, of Config.Trace for instance
			p.discard(c, false)
		}
	}()
	there := idle < pauseTime || c.silent() == nil
	if there && idle > p.config.CheckAfter {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		there = c.Noop(ctx) == nil
		cancel()
	}
	if !there && ctx.Err() == nil {
		p.count(func(s *PoolStats) { s.Lost++ })
	}
	return there
}

// worn reports whether a connection has done what it may do.
func (p *Pool) worn(c *pooled, now time.Time) bool {
	return p.config.MaxMessages > 0 && c.mails >= p.config.MaxMessages ||
		p.config.MaxAge > 0 && now.Sub(c.born) > p.config.MaxAge
}

func (p *Pool) dial(ctx context.Context) (c *pooled, err error) {
	// Connections that are kept while others are opened count as well: a place is free, so one of
	// them has to go if there are as many as there may be.
	p.mu.Lock()
	refusedAt, askedAt := p.refusedAt, time.Time{}
	if err := p.refusal; err != nil {
		if time.Since(refusedAt) < refusalPause {
			p.mu.Unlock()
			return nil, fmt.Errorf("%w (it isn't asked again within %v)", err, refusalPause)
		}
		askedAt = time.Now()
		p.refusedAt = askedAt // one asks, for all
	}
	var oldest []*pooled
	if len(p.open)+p.dialing >= p.config.MaxConns && len(p.idle) > 0 {
		oldest = p.forget(1)
	}
	p.dialing++
	p.mu.Unlock()
	leave(oldest)
	var client *Client
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing-- // also after a panic, of a Mechanism for instance
		refused, ok := errors.AsType[*Error](err)
		switch {
		case ok && !refused.Temporary() && strings.HasPrefix(refused.Command, "AUTH "):
			p.refusal, p.refusedAt = err, time.Now()
		case client != nil:
			p.refusal = nil
		case p.refusedAt == askedAt:
			p.refusedAt = refusedAt // it wasn't told
		}
		switch {
		case client == nil:
			return
		case p.cut:
			client.Close()
			c, err = nil, ErrPoolClosed
		default:
			c = &pooled{Client: client, born: time.Now()}
			p.open[c] = struct{}{}
		}
		p.stats.Dialed++
	}()
	client, err = p.dialer.Dial(ctx, p.config.Address)
	return nil, err
}

// refusalPause is for how long a Pool doesn't log in after the server has refused that for good:
// with a wrong password each mail would be a failed login, which locks accounts.
const refusalPause = time.Minute

// put gives a connection back after a mail.
func (p *Pool) put(c *pooled) {
	c.mails++
	worn := p.worn(c, c.used)
	p.mu.Lock()
	if c.ended.Load() || p.cut || worn {
		delete(p.open, c)
		p.mu.Unlock()
		if worn {
			c.leave(context.Background())
		}
		return
	}
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.config.MaxIdle, p.reap)
	}
}

// discard ends a connection, in good order or not.
func (p *Pool) discard(c *pooled, orderly bool) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	if orderly {
		c.leave(context.Background())
	} else {
		c.Close()
	}
}

// forget takes the first n idle connections off the Pool. p.mu is held; whoever holds it must not
// wait or yield, which is why they are left to the caller.
func (p *Pool) forget(n int) []*pooled {
	gone := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	for _, c := range gone {
		delete(p.open, c)
	}
	return gone
}

// leave ends connections in good order.
func leave(connections []*pooled) {
	for _, c := range connections {
		c.leave(context.Background())
	}
}

// reap ends the connections that were idle for too long. It is called by a timer.
func (p *Pool) reap() {
	p.mu.Lock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].used) >= p.config.MaxIdle {
		n++
	}
	gone := p.forget(n)
	if p.reaper = nil; len(p.idle) > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.config.MaxIdle-now.Sub(p.idle[0].used), p.reap)
	}
	p.mu.Unlock()
	leave(gone)
}

// begin waits until the next mail may begin, by Rate.
func (p *Pool) begin(ctx context.Context) error {
	if p.config.Rate == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	const longest = float64(math.MaxInt64 / 2)
	p.next = at.Add(time.Duration(min(float64(time.Second)/p.config.Rate, longest)))
	p.mu.Unlock()
	return p.sleep(ctx, at.Sub(now))
}

// sleep waits. It ends early with the error of ctx, or when the Pool is cut short.
func (p *Pool) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	switch _, err := p.stopped.PopTimeout(ctx, d); {
	case errors.Is(err, runtime.ErrChannelTimeout):
		return nil
	case errors.Is(err, runtime.ErrChannelClosed):
		return ErrPoolClosed
	default:
		return err
	}
}

func (p *Pool) count(change func(s *PoolStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
}
