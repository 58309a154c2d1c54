package smtp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A delivery is one mail on its way through a Pool.
type delivery struct {
	pool *Pool
	mail *Mail
	to   []string // who it is still for

	accepted bool // for somebody
	text     string
	refused  []*Error // for good
	later    []*Error // for now
	doubtful []string // recipients that may have it
}

func (d *delivery) run(ctx context.Context) (Receipt, error) {
	if d.mail.Message == nil {
		return Receipt{}, fmt.Errorf("smtp: %w: a mail without a message", ErrInvalid)
	}
	mail := *d.mail
	if _, ok := seeker(mail.Message); ok && placeOf(mail.Message).seeker == nil {
		mail.Message = &once{WriterTo: mail.Message} // a file that is a pipe, say
	}
	d.mail = &mail
	again := false
	for attempt := 1; ; {
		o, reused := d.pool.attempt(ctx, d.mail, d.to, again)
		d.note(&o)
		if len(o.again) == 0 {
			return d.end(o.err)
		}
		d.to, again = o.again, true
		// A connection that had died while nobody used it isn't an attempt.
		refused, ok := errors.AsType[*Error](o.err)
		if !reused || o.err == nil || ok && !refused.Lost {
			if attempt == d.pool.config.Attempts || ctx.Err() != nil {
				return d.end(o.err)
			}
			if err := d.pool.sleep(ctx, d.pool.delay(attempt)); err != nil {
				return d.end(errors.Join(o.err, err))
			}
			attempt++
		}
		d.pool.count(func(s *PoolStats) { s.Retried++ })
	}
}

// delay returns how long to wait after so many attempts: exponential backoff with full jitter, so
// that mails that were refused together don't come back together.
func (p *Pool) delay(attempts int) time.Duration {
	most := p.config.FirstDelay
	for ; attempts > 1 && most < p.config.MaxDelay; attempts-- {
		most *= 2
	}
	return time.Duration(rand.Int64N(int64(max(min(most, p.config.MaxDelay), 0)) + 1))
}

// note keeps what an attempt has come to.
func (d *delivery) note(o *outcome) {
	if o.err == nil {
		d.accepted, d.text = true, o.receipt.Text
	}
	all := errors.As(o.err, new(*RecipientsError))
	if o.err == nil || all {
		d.later = nil
	}
	if errors.Is(o.err, ErrInDoubt) {
		d.doubtful = slices.DeleteFunc(slices.Clone(d.to), func(recipient string) bool {
			return refusedIn(o.receipt.Refused, recipient)
		})
		d.later = slices.DeleteFunc(d.later, func(refused *Error) bool {
			return slices.Contains(d.doubtful, refused.Recipient)
		})
	}
	for _, refused := range o.receipt.Refused {
		switch {
		case !refused.Temporary():
			d.refused = append(d.refused, refused)
		case o.err == nil || all:
			d.later = append(d.later, refused)
		}
	}
}

func refusedIn(all []*Error, recipient string) bool {
	return slices.ContainsFunc(all, func(r *Error) bool { return r.Recipient == recipient })
}

// end returns what the attempts have come to, the last one with err.
func (d *delivery) end(err error) (Receipt, error) {
	all := append(d.refused, d.later...)
	if d.accepted {
		return Receipt{Text: d.text, Refused: all, InDoubt: d.doubtful}, nil
	}
	if _, ok := errors.AsType[*RecipientsError](err); ok {
		err = &RecipientsError{Refused: all}
	}
	if err == nil {
		return Receipt{}, nil
	}
	return Receipt{}, name(d.pool.config.Address, err)
}

// attempt sends a mail once; again says that it was tried before, so that the connection has to be
// new. reused says that the connection had had mails before.
func (p *Pool) attempt(
	ctx context.Context, mail *Mail, to []string, again bool,
) (o outcome, reused bool) {
	if err := p.enter(ctx, again); err != nil {
		return outcome{err: err}, false
	}
	defer p.exit()
	if err := p.begin(ctx); err != nil {
		return outcome{err: err}, false
	}
	c, reused, err := p.take(ctx, again)
	if err != nil {
		o.err = err
		if Temporary(err) && !errors.Is(err, ErrPoolClosed) {
			o.again = to
		}
		return o, false
	}
	defer p.put(c)
	return c.try(ctx, mail, to), reused
}
