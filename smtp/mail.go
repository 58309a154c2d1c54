package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// A Mail is a message and its envelope. It isn't changed by being sent, and may be sent by several
// callers at a time if its Message may be written by them.
type Mail struct {
	From string   // who is told when it can't be delivered; empty: nobody
	To   []string // who gets it, whatever the message's header says

	// Message is header and body, in lines that end by CR LF or LF; what it writes is sent as it
	// comes. For a mail that is sent again, by a Pool or by you, it is called again: an io.Seeker
	// is set back afterwards, a *bytes.Buffer isn't emptied, and everything else has to write the
	// same once more, as go-mail's Msg does. [Reader] makes one of an io.Reader.
	//
	// It is called on the loop, so what blocks belongs elsewhere: read files before, or by
	// runtime.Await.
	Message io.WriterTo

	// Binary has the message sent byte by byte, by BDAT and BINARYMIME, which the server has to
	// offer. Without it line ends are mended.
	Binary bool

	// RequireTLS has the mail go over TLS all the way or not at all: REQUIRETLS, RFC 8689.
	RequireTLS bool

	// Priority is from -9 to 9: MT-PRIORITY, RFC 6710. 0 is that of all mails.
	Priority int

	// DSN asks for delivery reports, RFC 3461.
	DSN DSN
}

// DSN says which delivery reports the sender of a mail gets. The zero one asks for what is usual.
// With another one, reports have the recipients' addresses as they are in To (ORCPT), wherever the
// mail was passed on to; those with UTF-8 excepted.
type DSN struct {
	Notify     []string // "NEVER", or some of "SUCCESS", "FAILURE", "DELAY"
	Return     string   // what of the mail: "FULL" or "HDRS"
	EnvelopeID string   // which the report names
}

// A Receipt is what has become of a mail that was accepted.
type Receipt struct {
	Text    string   // the server's words, which often have its name for the mail
	Refused []*Error // the recipients that don't get it

	// InDoubt are recipients that may get it or not, see [ErrInDoubt]: a [Pool] had tried it again
	// for them. All others do get it.
	InDoubt []string
}

// Reader makes a Message of a Reader. If that is an io.Seeker, it is sent from where it is at
// first, any number of times; else it can be sent once.
func Reader(r io.Reader) io.WriterTo { return &reader{Reader: r} }

type reader struct {
	io.Reader
	used bool
}

// WriteTo copies in pieces of its own: what the Reader's own WriteTo does is nothing to rely on.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	if r.used && placeOf(r).seeker == nil {
		return 0, ErrMessageGone
	}
	r.used = true
	return io.CopyBuffer(w, struct{ io.Reader }{r.Reader}, make([]byte, 16<<10))
}

// once is a message that can be written once.
type once struct {
	io.WriterTo
	used bool
}

// WriteTo writes the message the first time.
func (o *once) WriteTo(w io.Writer) (int64, error) {
	if o.used {
		return 0, ErrMessageGone
	}
	o.used = true
	return o.WriterTo.WriteTo(w)
}

// seeker returns what a message can be set back by.
func seeker(message io.WriterTo) (s io.Seeker, ok bool) {
	if r, is := message.(*reader); is {
		s, ok = r.Reader.(io.Seeker)
		return s, ok
	}
	s, ok = message.(io.Seeker)
	return s, ok
}

// A place is where a message began before it was sent.
type place struct {
	seeker io.Seeker // nil: it can't be set back, or needn't
	at     int64
}

func placeOf(message io.WriterTo) (p place) {
	if s, ok := seeker(message); ok {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			p = place{s, at}
		}
	}
	return p
}

// left returns how many bytes there are from the place to the end; 0 if that isn't known. An error
// says that the message can't be read on.
func (p place) left() (int64, error) {
	if p.seeker == nil {
		return 0, nil
	}
	now, err := p.seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, nil
	}
	end, err := p.seeker.Seek(0, io.SeekEnd)
	if _, back := p.seeker.Seek(now, io.SeekStart); back != nil {
		return 0, &messageError{back}
	}
	if err != nil {
		return 0, nil
	}
	return max(end-p.at, 0), nil
}

// back sets the message back.
func (p place) back() error {
	if p.seeker == nil {
		return nil
	}
	_, err := p.seeker.Seek(p.at, io.SeekStart)
	return err
}

// Send sends a mail. It returns an error if nobody gets it: a [*RecipientsError] when all
// recipients were refused, an [*Error] when the mail was, errors about what can't be sent
// ([ErrInvalid], [*ExtensionError], [*SizeError], those of Message), and those of the connection,
// with [ErrInDoubt] where it can't be told whether the mail was accepted.
func (c *Client) Send(ctx context.Context, mail *Mail) (Receipt, error) {
	o := c.try(ctx, mail, mail.To)
	if o.err != nil {
		return Receipt{}, c.wrap(o.err)
	}
	return o.receipt, nil
}

// An outcome is what has become of one attempt to send a mail.
type outcome struct {
	receipt Receipt
	err     error
	again   []string // recipients that the mail may be sent to once more, for it can't come twice
}

// try sends a mail to some of its recipients.
func (c *Client) try(ctx context.Context, mail *Mail, to []string) (o outcome) {
	if mail.Message == nil {
		return outcome{err: fmt.Errorf("%w: a mail without a message", ErrInvalid)}
	}
	if err := c.acquire(); err != nil {
		return outcome{err: err, again: to}
	}
	proper := false
	defer func() { c.release(proper, o.err) }()
	w := newContent(ctx, c, mail, to)
	o.err = w.run()
	w.release()
	if errors.As(o.err, new(*runtime.PanicError)) {
		return o
	}
	proper = true
	o.judge(c, w)
	c.engine.Forget()
	if w.began.back() != nil {
		o.again = nil
	}
	return o
}

// judge finds out what an attempt has come to.
func (o *outcome) judge(c *Client, w *content) {
	if !w.begun {
		// The message couldn't be made, or the session had ended.
		o.err = &unsent{o.err}
		return
	}
	o.receipt = Receipt{Text: c.engine.Text(), Refused: c.engine.Refused()}
	if o.err == nil {
		o.err = c.engine.Outcome()
	}
	refused, answered := errors.AsType[*Error](o.err)
	lmtp := c.dialer.engine.LMTP
	if lmtp && w.ended && answered && refused.Lost && c.engine.MayHave() > 1 {
		answered = false // the answer is for one of them
	}
	switch {
	case o.err == nil || errors.As(o.err, new(*RecipientsError)):
		// Who was refused for now may be tried again.
		o.again = temporary(o.receipt.Refused)
	case answered && !refused.Temporary() || errors.Is(o.err, errUnsent):
	case !w.ended || answered:
		if c.engine.ContentBegun() && !answered {
			break // the server may have been satisfied with what it got
		}
		for _, recipient := range w.envelope.To {
			if !permanently(o.receipt.Refused, recipient) {
				o.again = append(o.again, recipient)
			}
		}
	}
	if w.ended && o.err != nil && !answered {
		o.err = fmt.Errorf("%w; %w", o.err, ErrInDoubt)
	}
}

func temporary(refused []*Error) (recipients []string) {
	for _, r := range refused {
		if r.Temporary() {
			recipients = append(recipients, r.Recipient)
		}
	}
	return recipients
}

func permanently(refused []*Error, recipient string) bool {
	return slices.ContainsFunc(refused, func(r *Error) bool {
		return r.Recipient == recipient && !r.Temporary()
	})
}

// run has the message written. That may need a deep stack, which a session should not keep.
func (w *content) run() error {
	var err error
	returned := false
	detour := runtime.Detour(w.ctx, func(context.Context) {
		if buffer, ok := w.mail.Message.(*bytes.Buffer); ok {
			_, err = w.Write(buffer.Bytes())
		} else {
			_, err = w.mail.Message.WriteTo(w)
		}
		returned = true
	})
	switch {
	case detour != nil:
		return detour
	case !returned:
		return runtime.ErrGoexit
	case w.err == nil && err != nil:
		return &messageError{err}
	case w.err == nil:
		w.err = w.finish()
	}
	if w.err == errNobody {
		return nil
	}
	return w.err // whatever the message has made of it
}

// body returns what the message's bytes are, as far as they are known.
func (w *content) body() engine.Body {
	switch {
	case w.mail.Binary:
		return engine.Binary
	case w.eight:
		return engine.EightBit
	case !w.complete && w.client.engine.Offers().EightBit:
		return engine.EightBit // what is to come may be; it does no harm
	}
	return engine.SevenBit
}
