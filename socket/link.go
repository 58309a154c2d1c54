package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// link is what crypto/tls has for a connection.
type link struct {
	socket *Socket
	fd     *fd
	eof    bool // the descriptor has ended; of the reader

	// What crypto/tls has been given, of the reader; see feed.
	several bool // more than one record at the last time
	header  [recordHeader]byte
	headed  uint8 // how much of header is there
	body    int   // how much of the record is still to come

	// During the handshake, and until what it has read ahead is used up; of the reader. With
	// capture, as long as crypto/tls has the connection.
	shaking *shaking

	// Of a connection that may become compact. crypto/tls is handed one record at a time then.
	capture *compact.Capture
	record  []byte // the last one since the handshake, of which isn't known what it was
	large   bool   // it was too large to be kept
	pending bool   // there is such a record
	dry     bool   // Read reads nothing
}

// shaking is what a handshake needs.
type shaking struct {
	ctx      context.Context // nil when it is over
	deadline sched.Deadline
	gate     house.Gate // nil: none
	inside   bool       // the gate

	// ahead is what has arrived and crypto/tls hasn't asked for yet: it reads the messages of a
	// handshake in small pieces, each of which would be a call.
	ahead input

	// The last record, if it was an alert in plaintext: its level and its number.
	alert     [2]byte
	alertSize int
}

// note keeps the last record if it is an alert in plaintext. Body is a part of the record.
func (h *shaking) note(header [recordHeader]byte, body []byte, whole int) {
	switch {
	case header[0] != recordAlert || whole != len(h.alert):
		h.alertSize = 0
	case h.alertSize == len(h.alert):
		h.alertSize = copy(h.alert[:], body)
	default:
		h.alertSize += copy(h.alert[h.alertSize:], body)
	}
}

// clearAlert adds to the error of a handshake an alert in plaintext that came where all is
// encrypted already: crypto/tls answers it with an alert of its own, that it can't decrypt it.
func (h *shaking) clearAlert(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if h.alertSize != len(h.alert) || !ok || op.Op != "local error" {
		return err
	}
	return explain.ClearAlert(err, h.alert[1])
}

func (h *shaking) enter(ctx context.Context) error {
	if h.gate == nil || h.inside {
		return nil
	}
	err := h.gate.Enter(ctx, h.deadline)
	h.inside = err == nil
	return err
}

func (h *shaking) leave() {
	if h.inside {
		h.inside = false
		h.gate.Leave()
	}
}

func (l *link) Read(p []byte) (int, error) {
	var n int
	var err error
	switch {
	case l.dry:
		return 0, errWait
	case l.shaking == nil:
		n, err = l.fd.tryRead(p) // from here, as stacks are small
	default:
		n, err = l.readAhead(p)
	}
	switch err {
	case nil:
		l.feed(p[:n])
	case io.EOF:
		l.eof = true
	}
	return n, err
}

// readAhead is Read during the handshake, when it waits, and for what has arrived behind it.
func (l *link) readAhead(p []byte) (int, error) {
	shaking := l.shaking
	ahead := &shaking.ahead
	if l.capture != nil { // no more than to the end of the record
		left := l.body
		if l.headed < recordHeader {
			left = recordHeader - int(l.headed)
		}
		p = p[:min(len(p), left)]
	}
	for len(ahead.unread()) == 0 {
		n, err := l.fd.tryRead(ahead.room(smallBufferSize))
		if err == nil {
			if ahead.end = n; shaking.ctx == nil {
				ahead.large = n > smallBufferSize/2
			}
			break
		}
		ahead.release() // a peer that takes its time costs no buffer meanwhile
		if err == errWait && shaking.ctx == nil {
			return 0, errWait
		}
		if err == errWait {
			shaking.leave()
			err = l.fd.waitRead(shaking.ctx, reasonRecv, shaking.deadline)
		}
		if err == nil {
			err = shaking.enter(shaking.ctx)
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, ahead.unread())
	ahead.start += n
	if ahead.release(); ahead.buf == nil && shaking.ctx == nil && l.capture == nil {
		l.shaking = nil
	}
	return n, nil
}

// more reports whether there may be records that crypto/tls hasn't looked at.
func (l *link) more() bool {
	if l.capture != nil {
		return len(l.shaking.ahead.unread()) > 0
	}
	return l.several || l.shaking != nil
}

const (
	recordHeader    = 5  // type, version, length of what follows: RFC 8446, section 5.1
	recordHandshake = 22 // a record's type
	recordAlert     = 21 // likewise; two bytes in plaintext, more when encrypted
	// A record's type: without effect in TLS 1.3, and crypto/tls reads on behind it.
	changeCipherSpec = 20
)

// whole is the length of the record's body.
func (l *link) whole() int { return int(l.header[3])<<8 | int(l.header[4]) }

// feed notes how many whole records crypto/tls has, after p. When it asks for more it has used up
// all that it had before, so if this makes no more than one, it has none left once that is read.
func (l *link) feed(p []byte) {
	if l.capture != nil {
		l.follow(p)
	}
	records := 0
	for len(p) > 0 {
		n := min(len(p), l.body)
		if l.headed < recordHeader {
			n = copy(l.header[l.headed:], p)
			if l.headed += uint8(n); l.headed == recordHeader {
				l.body = l.whole()
			}
		} else {
			if l.shaking != nil {
				l.shaking.note(l.header, p[:n], l.whole())
			}
			l.body -= n
		}
		p = p[n:]
		if l.headed == recordHeader && l.body == 0 {
			l.headed = 0
			if l.header[0] != changeCipherSpec {
				records++
			}
		}
	}
	l.several = records > 1
}

// keptRecord is how large a record is that is kept until it is known what it was.
const keptRecord = 4 << 10

// follow follows what crypto/tls is handed: after the handshake, a record that is followed by
// another one has brought nothing to read.
func (l *link) follow(p []byte) {
	if l.shaking.ctx != nil {
		if l.socket.accepted {
			l.capture.Hello(p)
		}
		return
	}
	if l.headed == 0 {
		l.decide(false)
	}
	if l.headed < recordHeader || len(l.record)+len(p) <= keptRecord {
		l.record = append(l.record, p...)
	} else {
		l.large = true
	}
	l.pending = true
}

// decide tells the Capture of the last record: whether it has brought something to read.
func (l *link) decide(data bool) {
	if !l.pending || l.headed > 0 {
		return
	}
	if len(l.record) > 0 && l.record[0] != changeCipherSpec {
		record := l.record
		if l.large {
			record = nil
		}
		l.capture.Received(record, data)
	}
	l.record, l.large, l.pending = l.record[:0], false, false
}

func (l *link) Write(p []byte) (int, error) {
	if c := l.capture; c != nil {
		if !l.socket.accepted {
			c.Hello(p)
		}
		c.Sent(p)
	}
	return l.fd.enqueue(p)
}

// Close does nothing: the socket closes itself.
func (l *link) Close() error { return nil }

func (l *link) LocalAddr() net.Addr  { return l.socket.LocalAddr() }
func (l *link) RemoteAddr() net.Addr { return l.socket.RemoteAddr() }

// The deadlines that crypto/tls sets around its alerts have no meaning for a link that doesn't
// wait.
func (l *link) SetDeadline(time.Time) error      { return nil }
func (l *link) SetReadDeadline(time.Time) error  { return nil }
func (l *link) SetWriteDeadline(time.Time) error { return nil }
