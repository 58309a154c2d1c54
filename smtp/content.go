package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// How much of a message is gathered before it is sent, in bytes. The first piece is also what is
// known of a message before its envelope is sent: all of it, mostly.
const (
	piece = 64 << 10
	chunk = 1 << 20 // by BDAT, where each costs a round trip
)

// errNobody ends a message that nobody wants.
var errNobody = errors.New("the mail was refused")

// content takes a message as it is written, mends its line ends, and sends it: first the envelope,
// when a piece is there or the message is complete, and if that was accepted the message.
type content struct {
	client   *Client
	ctx      context.Context
	mail     *Mail
	began    place // the message
	envelope engine.Envelope
	err      error // of the session; Write fails with it

	out   *[]byte // what is gathered
	limit int     // of it
	dots  bool    // lines that begin with a dot get a second one

	header    header
	lineBegun bool
	cr        bool  // the last byte was a CR, whose line isn't ended yet
	eight     bool  // there was a byte beyond ASCII
	stuffed   int64 // dots
	complete  bool  // the message is
	begun     bool  // the envelope was sent, or a part of it
	ended     bool  // the end of the message was handed to the connection
}

// buffers are for small messages; what large ones have grown isn't kept.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const keptBuffer = 16 << 10

func newContent(ctx context.Context, c *Client, mail *Mail, to []string) *content {
	w := &content{
		client: c, ctx: ctx, mail: mail, began: placeOf(mail.Message), limit: piece,
		out: buffers.Get().(*[]byte),
	}
	w.envelope = engine.Envelope{
		From: mail.From, To: to,
		RequireTLS: mail.RequireTLS, Priority: mail.Priority,
		Return: mail.DSN.Return, EnvelopeID: mail.DSN.EnvelopeID, Notify: mail.DSN.Notify,
		Chunked: mail.Binary || c.dialer.chunking && c.engine.Offers().Chunking,
	}
	w.dots = !w.envelope.Chunked
	if w.envelope.Chunked {
		w.limit = chunk
	}
	return w
}

// release gives the buffer back.
func (w *content) release() {
	if cap(*w.out) <= keptBuffer {
		*w.out = (*w.out)[:0]
		buffers.Put(w.out)
	}
	w.out = nil
}

// Write takes a part of the message.
func (w *content) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.err = w.header.check(p); w.err != nil {
		return 0, w.err
	}
	if w.mail.Binary {
		w.err = w.add(p)
	} else {
		w.err = w.lines(p)
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// lines adds a part of the message, whose line ends it mends: each CR LF, LF and CR is one.
func (w *content) lines(p []byte) error {
	for len(p) > 0 {
		if w.cr {
			if err := w.endLine(); err != nil {
				return err
			}
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		span := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			span = p[:i]
		}
		if i := bytes.IndexByte(span, '\r'); i >= 0 {
			span = span[:i]
		}
		if err := w.text(span); err != nil {
			return err
		}
		if p = p[len(span):]; len(p) == 0 {
			return nil
		}
		if p[0] == '\r' {
			w.cr = true
		} else if err := w.endLine(); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

func (w *content) endLine() error {
	w.cr, w.lineBegun = false, false
	return w.add([]byte("\r\n"))
}

// text adds a part of a line.
func (w *content) text(span []byte) error {
	if len(span) == 0 {
		return nil
	}
	if !w.lineBegun && w.dots && span[0] == '.' {
		w.stuffed++
		if err := w.add([]byte{'.'}); err != nil {
			return err
		}
	}
	w.lineBegun = true
	w.eight = w.eight || !ascii(span)
	return w.add(span)
}

func ascii(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if (p[0]|p[1]|p[2]|p[3]|p[4]|p[5]|p[6]|p[7])&0x80 != 0 {
			return false
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// add gathers what is ready to be sent, and sends it when it is much.
func (w *content) add(p []byte) error {
	for {
		n := min(len(p), w.limit-len(*w.out))
		*w.out = append(*w.out, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}

// flush sends what is gathered, which isn't the end.
func (w *content) flush() error {
	if err := w.begin(); err != nil {
		return err
	}
	c := w.client
	// 8-bit characters that come late, to a server that doesn't take any.
	if w.eight && !w.mail.Binary && !c.engine.Offers().EightBit {
		return &engine.ExtensionError{Keyword: "8BITMIME", For: "a message with 8-bit characters"}
	}
	if w.envelope.Chunked {
		c.engine.Chunk(len(*w.out), false)
		if err := c.say(w.ctx); err != nil {
			return err
		}
	}
	if err := w.send(); err != nil {
		return err
	}
	*w.out = (*w.out)[:0]
	if w.envelope.Chunked {
		return c.drive(w.ctx) // the answer to the chunk
	}
	return nil
}

// send sends what is gathered.
func (w *content) send() error {
	w.client.dialer.trace.message(len(*w.out))
	return w.client.send(w.ctx, engine.DataBlock, *w.out)
}

// begin sends the envelope, if that wasn't done yet, and returns when the server wants the message.
// If it doesn't, the error is errNobody.
func (w *content) begin() error {
	if w.begun {
		return nil
	}
	c := w.client
	if w.complete {
		w.envelope.Size = int64(len(*w.out)) - w.stuffed
	} else if size, err := w.size(); err == nil {
		w.envelope.Size = size
	} else {
		return &unsent{err}
	}
	w.envelope.Body = w.body()
	head, _, _ := bytes.Cut(*w.out, []byte("\r\n\r\n"))
	w.envelope.UTF8 = w.header.eight && utf8.Valid(head)
	if err := c.engine.Mail(&w.envelope); err != nil {
		return &unsent{err}
	}
	w.begun = true
	if err := c.drive(w.ctx); err != nil {
		return err
	}
	if c.engine.Next() != engine.Content {
		return errNobody
	}
	if c.conn.arrived() { // it would be taken for the answer to the message
		return c.silent()
	}
	return nil
}

// size returns what is known of a message's size while it is written, in bytes: of what writes all
// that is between where it was and its end.
func (w *content) size() (int64, error) {
	switch m := w.mail.Message.(type) {
	case *bytes.Buffer:
		return int64(m.Len()), nil
	case *reader, *os.File, *bytes.Reader, *strings.Reader:
		return w.began.left()
	}
	return 0, nil
}

// finish sends the end of the message, after the envelope if that is still due, and waits for the
// answer.
func (w *content) finish() error {
	if !w.mail.Binary && (w.cr || w.lineBegun) {
		if err := w.endLine(); err != nil {
			return err
		}
	}
	w.complete = true
	if err := w.begin(); err != nil {
		return err
	}
	c := w.client
	if w.envelope.Chunked {
		c.engine.Chunk(len(*w.out), true)
		if err := c.say(w.ctx); err != nil {
			return err
		}
	} else {
		*w.out = append(*w.out, ".\r\n"...)
	}
	w.ended = true
	if err := w.send(); err != nil {
		return err
	}
	if !w.envelope.Chunked {
		c.engine.ContentSent()
	}
	return c.drive(w.ctx)
}

// header looks at the header of a message as it passes: it is what somebody else's words get into,
// a subject, a name, and a line end in them would begin a field of its own. Programs end all lines
// alike, so one that ends otherwise is such a line end.
type header struct {
	over  bool
	eight bool // there was a byte beyond ASCII
	line  int  // bytes of this line
	cr    bool // the last byte was a CR
	ends  byte // what lines end with: '\r' for CR LF, '\n' for LF; 0: there was none
}

func (h *header) check(p []byte) error {
	if h.over {
		return nil
	}
	for _, c := range p {
		switch {
		case c == '\n':
			end := byte('\n')
			if h.cr {
				end = '\r'
			}
			if h.ends == 0 {
				h.ends = end
			}
			if end != h.ends {
				return fmt.Errorf("%w: line ends of two kinds in the message's header", ErrInvalid)
			}
			if h.line == 0 {
				h.over = true
				return nil
			}
			h.line, h.cr = 0, false
		case h.cr || c == 0:
			return fmt.Errorf("%w: a stray CR or a NUL in the message's header", ErrInvalid)
		case c == '\r':
			h.cr = true
		default:
			h.eight = h.eight || c >= 0x80
			h.line++
		}
	}
	return nil
}
