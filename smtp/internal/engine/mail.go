package engine

import (
	"fmt"
	"strconv"

	"github.com/whorl-go/whorl/internal/reply"
)

// Body is what a message's bytes are.
type Body uint8

// Kinds of bodies.
const (
	SevenBit Body = iota
	EightBit      // lines of any bytes: 8BITMIME, RFC 6152
	Binary        // any bytes, in which line ends have no meaning: BINARYMIME, RFC 3030
)

// An Envelope is what Mail is told.
type Envelope struct {
	From string // empty: the null reverse-path, "<>"
	To   []string

	Size       int64 // bytes of the message; 0: not known
	Body       Body
	UTF8       bool // the header has characters beyond ASCII
	Chunked    bool // by BDAT, which has to be offered; Binary always is
	RequireTLS bool
	Priority   int // MT-PRIORITY, -9 to 9; 0 is what mails have without

	// DSN, RFC 3461. Notify is NEVER, or some of SUCCESS, FAILURE, DELAY; Return is FULL or HDRS.
	Return, EnvelopeID string
	Notify             []string
}

// window is how many commands may be unanswered with PIPELINING. A server that doesn't read on
// until its replies are read can hold all of them, RFC 2920, section 3.1.
const window = 128

// transaction is the state of Mail. Its commands are numbered: 0 is MAIL, 1 to len(to) are the
// recipients, and then DATA, unless the message goes by BDAT.
type transaction struct {
	*Envelope
	params     string   // of MAIL
	rcptParams string   // of each RCPT
	reports    bool     // delivery reports are asked for
	from       string   // as it is sent
	to         []string // as they are sent; nil: as in the Envelope

	resetting bool // RSET is unanswered
	written   int  // commands
	answered  int
	ended     int // replies to the end of the message
	chunk     bool
	last      bool // the chunk is the last one
	content   bool // the message is being sent, or was

	accepted []bool // recipients
	count    int    // of them
	refused  []*Error
	failed   *Error // MAIL, DATA or the message was refused
	text     string // of the acceptance
}

// Mail begins a transaction. What the server can't do or mustn't be told is found out before
// anything is sent.
func (e *Engine) Mail(envelope *Envelope) error {
	e.mail = transaction{Envelope: envelope}
	t := &e.mail
	if err := e.prepare(t); err != nil {
		e.mail = transaction{}
		return err
	}
	t.accepted = make([]bool, len(envelope.To))
	if e.dirty {
		t.resetting = true
		e.say("RSET")
	}
	e.write()
	return nil
}

// Chunked reports whether the message goes by BDAT.
func (e *Engine) Chunked() bool { return e.mail.Chunked }

// Accepted reports whether a recipient was accepted, by its place in the Envelope.
func (e *Engine) Accepted(i int) bool { return e.mail.accepted[i] }

// MayHave returns how many recipients weren't refused: they have the message, or may have it once
// it was sent.
func (e *Engine) MayHave() int { return e.mail.count }

// Refused returns the recipients that were refused.
func (e *Engine) Refused() []*Error { return e.mail.refused }

// Text returns what the server has said when it accepted the message.
func (e *Engine) Text() string { return e.mail.text }

// Forget forgets the transaction, which is done. What Refused has returned stays.
func (e *Engine) Forget() { e.mail = transaction{} }

// ContentBegun reports whether the server was ready to take the message. Only before that can it be
// sent again without a danger that it comes twice, unless the server has refused it.
func (e *Engine) ContentBegun() bool { return e.mail.content }

// write writes as many commands as may be unanswered.
func (e *Engine) write() {
	t := &e.mail
	most := 1
	if e.offers.Pipelining {
		most = window
	}
	unanswered := t.written - t.answered
	if t.resetting {
		unanswered++
	}
	for ; unanswered < most && e.writeOne(); unanswered++ {
	}
	e.awaitNext()
}

// writeOne writes the next command. It reports whether there is one.
func (e *Engine) writeOne() bool {
	t := &e.mail
	switch n := t.written; {
	case n == 0:
		e.say("MAIL FROM:<", t.from, ">", t.params)
	case n <= len(t.To):
		if t.answered > 0 && t.failed != nil {
			return false
		}
		to := t.To
		if t.to != nil {
			to = t.to
		}
		e.say("RCPT TO:<", to[n-1], ">", t.rcptParams, t.original(to[n-1]))
	case n == len(t.To)+1 && !t.Chunked:
		// The last of its group. When all was refused already it has no use.
		if t.answered == n && (t.failed != nil || t.count == 0) {
			return false
		}
		e.say("DATA")
	default:
		return false
	}
	t.written++
	return true
}

// awaitNext waits for the reply to the first command that is unanswered.
func (e *Engine) awaitNext() {
	t := &e.mail
	switch n := t.answered; {
	case t.resetting:
		e.await(Reset, (*Engine).onReset)
	case n == t.written:
		e.envelopeDone()
	case n == 0:
		e.await(Mail, (*Engine).onMail)
	case n <= len(t.To):
		e.await(Rcpt, (*Engine).onRcpt)
	default:
		e.await(DataInit, (*Engine).onData)
	}
}

// envelopeDone is when all commands are answered, and DATA, if it was among them, was not accepted.
func (e *Engine) envelopeDone() {
	t := &e.mail
	if t.Chunked && t.failed == nil && t.count > 0 {
		t.content = true
		e.action = Content
		return
	}
	e.action = Done
}

func (e *Engine) onReset(r *reply.Reply) error {
	if r.Code != 250 {
		e.broken = true
		return e.refusal(r)
	}
	e.mail.resetting, e.dirty = false, false
	e.write()
	return nil
}

func (e *Engine) onMail(r *reply.Reply) error {
	switch {
	case r.Code >= 400:
		e.mail.failed = e.refused(r)
	case r.Code != 250:
		return e.unexpected(r)
	default:
		e.dirty = true
	}
	e.mail.answered++
	e.write()
	return nil
}

func (e *Engine) onRcpt(r *reply.Reply) error {
	t := &e.mail
	i := t.answered - 1
	switch {
	case t.failed != nil: // whatever it says, there is no transaction
	case r.Code >= 400:
		e.refuse(i, r)
	case r.Code != 250 && r.Code != 251 && r.Code != 252:
		return e.unexpected(r)
	default:
		t.accepted[i] = true
		t.count++
	}
	t.answered++
	e.write()
	return nil
}

func (e *Engine) refuse(i int, r *reply.Reply) {
	refused := e.refused(r)
	refused.Recipient = e.mail.To[i]
	e.mail.refused = append(e.mail.refused, refused)
	e.mail.accepted[i] = false
}

func (e *Engine) onData(r *reply.Reply) error {
	t := &e.mail
	t.answered++
	switch {
	case r.Code == 354 && t.failed == nil && t.count > 0:
		t.content = true
		e.action = Content
	case r.Code == 354 && e.config.LMTP:
		return e.unexpected(r) // which ends nowhere, RFC 2033, section 4.2
	case r.Code == 354:
		// Nobody is to get the message, which therefore is an empty one: RFC 2920, section 3.1.
		e.say(".")
		e.await(DataEnd, (*Engine).onNothing)
	case r.Code < 400:
		return e.unexpected(r)
	default:
		if t.failed == nil && t.count > 0 {
			t.failed = e.refused(r)
		}
		e.action = Done
	}
	return nil
}

// onNothing takes the reply to a message without content and recipients.
func (e *Engine) onNothing(*reply.Reply) error {
	e.dirty = false
	e.action = Done
	return nil
}

// Chunk begins a chunk of so many bytes, which have to be sent after the Output. The answer is due
// then.
func (e *Engine) Chunk(size int, last bool) {
	t := &e.mail
	t.chunk, t.last = true, last
	e.out = append(e.out, "BDAT "...)
	e.out = strconv.AppendInt(e.out, int64(size), 10)
	if last {
		e.out = append(e.out, " LAST"...)
	}
	e.out = append(e.out, "\r\n"...)
	if last {
		e.ContentSent()
		return
	}
	e.due++
	e.await(DataBlock, (*Engine).onChunk)
}

// onChunk takes the reply to a chunk that isn't the last one. A server that refuses one and takes
// the rest of it for commands can't be spoken to any more, and which one does can't be told: so the
// connection is given up.
func (e *Engine) onChunk(r *reply.Reply) error {
	if r.Code != 250 {
		e.broken = true
		return e.refusal(r)
	}
	e.action = Content
	return nil
}

// ContentSent tells the Engine that the message was sent, with its end.
func (e *Engine) ContentSent() {
	e.mail.ended = 0
	e.due = 1
	if e.config.LMTP {
		e.due = e.mail.count
	}
	e.await(DataEnd, (*Engine).onEnd)
}

// onEnd takes the reply to the message, or one of them.
func (e *Engine) onEnd(r *reply.Reply) error {
	t := &e.mail
	if r.Code != 250 && r.Code < 400 {
		return e.unexpected(r)
	}
	if e.config.LMTP {
		return e.onRecipientEnd(r)
	}
	if r.Code != 250 {
		t.failed = e.refused(r)
		e.broken = e.broken || t.chunk // see onChunk
	} else {
		t.text = words(r)
	}
	e.dirty = false
	e.action = Done
	return nil
}

// onRecipientEnd takes one recipient's reply. They come for those that were accepted, in that
// order: RFC 2033, section 4.2.
func (e *Engine) onRecipientEnd(r *reply.Reply) error {
	t := &e.mail
	for !t.accepted[t.ended] {
		t.ended++
	}
	if r.Code == 250 {
		t.text = words(r)
	} else {
		e.refuse(t.ended, r)
		t.count--
		e.broken = e.broken || t.chunk
	}
	for t.ended++; t.ended < len(t.To); t.ended++ {
		if t.accepted[t.ended] {
			return nil // its reply is due
		}
	}
	e.dirty = false
	e.action = Done
	return nil
}

// Outcome returns what has become of a transaction that is done: nil if the message was accepted
// for at least one recipient. It is a [RecipientsError] when all were refused.
func (e *Engine) Outcome() error {
	t := &e.mail
	switch {
	case t.failed != nil:
		return t.failed
	case t.count == 0:
		return &RecipientsError{t.refused}
	}
	return nil
}

// RecipientsError says that all recipients of a mail were refused. errors.As finds the first
// [Error] that is temporary, if there is one: who asks only that, asks for the mail.
type RecipientsError struct{ Refused []*Error }

// Error has the first refusal, and how many there are.
func (e *RecipientsError) Error() string {
	if len(e.Refused) == 1 {
		return e.Refused[0].Error()
	}
	return fmt.Sprintf("all %d recipients were refused: %v", len(e.Refused), e.Refused[0])
}

// Unwrap returns the refusals, those that may pass first.
func (e *RecipientsError) Unwrap() []error {
	var passing, lasting []error
	for _, refused := range e.Refused {
		if refused.Temporary() {
			passing = append(passing, refused)
		} else {
			lasting = append(lasting, refused)
		}
	}
	return append(passing, lasting...)
}

// Temporary reports whether the same may succeed later, for one of them at least.
func (e *RecipientsError) Temporary() bool {
	for _, refused := range e.Refused {
		if refused.Temporary() {
			return true
		}
	}
	return false
}
