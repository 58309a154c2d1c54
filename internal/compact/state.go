package compact

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
)

// The types of records (RFC 8446, section 5.1), and of messages of the handshake protocol.
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeData             = 23

	messageTicket    = 4
	messageKeyUpdate = 24
)

// Alerts (RFC 8446, section 6).
const (
	alertCloseNotify       = 0
	alertUnexpectedMessage = 10
	alertBadRecordMAC      = 20
	alertRecordOverflow    = 22
	alertIllegalParameter  = 47
	alertDecodeError       = 50
	alertUserCanceled      = 90
)

const (
	// HeaderSize is how long the header of a record is.
	HeaderSize = 5
	// MaxPlaintext is how much one record carries.
	MaxPlaintext = 1 << 14
	// MaxRecord is how large a record is, its header included (RFC 8446, section 5.2).
	MaxRecord = HeaderSize + MaxPlaintext + 256

	// Overhead is what sealing adds to each MaxPlaintext or part of it.
	Overhead = HeaderSize + 1 + tagSize
	tagSize  = 16

	// keyLimit is how many records a key seals. The bound of RFC 8446, section 5.5, is 2^24.5 full
	// ones for AES-GCM.
	keyLimit = 1 << 23

	// maxIdle is how many empty records, messages of the handshake protocol and warnings may come
	// without data between them. crypto/tls has the same bound.
	maxIdle = 16
	// maxTicket is how long a message of the handshake protocol may be.
	maxTicket = 1 << 17
)

// RecordSize is how large the record is that b begins with, its header included; 0 if the header
// isn't there as a whole.
func RecordSize(b []byte) int {
	if len(b) < HeaderSize {
		return 0
	}
	return HeaderSize + int(b[3])<<8 + int(b[4])
}

// A State is a TLS 1.3 connection after its handshake. One caller at a time may read (Open), and
// one may append. Records have to be sent in the order in which they were appended, so whoever
// appends keeps others from it until they are queued.
type State struct {
	suite    *suite
	identity identity
	keys     keys // those of in, and behind them those of out

	in      direction
	message [4]byte // the header of a handshake message
	headed  uint8   // how much of it is there
	idle    uint8   // empty records, messages and warnings without data between them
	left    int32   // of the message's body
	tickets uint16  // that were dropped
	closed  bool    // by close_notify, or an error

	out      direction
	unsealed uint16 // bytes of the record that Put has left open
	said     bool   // close_notify
}

// direction is what is in or out.
type direction struct {
	seq  uint64 // of the next record
	live *live  // nil while it rests
}

func newState(s *suite, id identity, in, out *half) *State {
	state := &State{
		suite: s, identity: id, keys: make(keys, 2*s.size()),
		in: direction{seq: in.seq}, out: direction{seq: out.seq},
	}
	state.keysOf(&state.in).begin(s, in.secret[:s.secret])
	state.keysOf(&state.out).begin(s, out.secret[:s.secret])
	return state
}

func (s *State) keysOf(d *direction) keys {
	n := s.suite.size()
	if d == &s.out {
		return s.keys[n:]
	}
	return s.keys[:n]
}

// wake expands the key of a direction, unless it is.
func (s *State) wake(d *direction) *live {
	if d.live == nil {
		k := s.keysOf(d)
		d.live = s.suite.wake(k.key(s.suite), k.iv(s.suite))
	}
	return d.live
}

// next goes on to the next keys of a direction.
func (s *State) next(d *direction) {
	s.keysOf(d).next(s.suite)
	d.seq, d.live = 0, nil
}

// An Error is what is wrong with what a peer has sent. The alert is to be sent before the
// connection ends, see State.AppendAlert.
type Error struct {
	Alert uint8
	text  string
}

// Unwrap returns the alert.
func (e *Error) Unwrap() error { return tls.AlertError(e.Alert) }

func (e *Error) Error() string {
	return fmt.Sprintf("tls: %s (%v)", e.text, tls.AlertError(e.Alert))
}

func fail(alert uint8, text string) error { return &Error{alert, text} }

// Open opens the first record of b, into dst if it has room for all that a record of this size may
// carry (Opened), else in place. It may write to all of dst, which doesn't overlap b. n is how many
// bytes of b it takes; 0 says that more is needed. data is what it carries, and may be empty.
// io.EOF is close_notify; an alert is a tls.AlertError; anything that a peer must not send is an
// *Error. All errors are final, and take nothing of b.
//
// answer says that the peer wants a KeyUpdate: the caller sends what AppendKeyUpdate appends.
func (s *State) Open(dst, b []byte) (n int, data []byte, answer bool, err error) {
	if s.closed {
		return 0, nil, false, io.EOF
	}
	n, data, answer, err = s.open(dst, b)
	if err != nil {
		s.closed = true
		s.in.live = nil
		return 0, nil, false, err
	}
	return n, data, answer, nil
}

// Opened is how much room a record of so many bytes needs to be opened: more than it carries.
func Opened(record int) int { return record - HeaderSize - tagSize }

func (s *State) open(dst, b []byte) (n int, data []byte, answer bool, err error) {
	n = RecordSize(b)
	switch {
	case n == 0:
		return 0, nil, false, nil
	case b[0] != typeData:
		return 0, nil, false, fail(alertUnexpectedMessage, "a record that isn't encrypted")
	case n > MaxRecord:
		return 0, nil, false, fail(alertRecordOverflow, "an oversized record")
	case len(b) < n:
		return 0, nil, false, nil
	}
	if len(dst) < Opened(n) {
		dst = b[HeaderSize:n]
	}
	l := s.wake(&s.in)
	plain, err := l.aead.Open(dst[:0], l.nonce(s.in.seq), b[HeaderSize:n], b[:HeaderSize])
	if err != nil {
		return 0, nil, false, fail(alertBadRecordMAC, "a record that doesn't decrypt")
	}
	s.in.seq++
	if len(plain) > MaxPlaintext+1 { // padding included: RFC 8446, section 5.4
		return 0, nil, false, fail(alertRecordOverflow, "an oversized record")
	}
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 { // padding
		end--
	}
	if end < 0 {
		return 0, nil, false, fail(alertUnexpectedMessage, "a record without a type")
	}
	kind := plain[end]
	plain = plain[:end]
	if kind != typeHandshake && (s.headed > 0 || s.left > 0) {
		return 0, nil, false, fail(alertUnexpectedMessage, "half a handshake message")
	}
	if len(plain) > 0 && kind == typeData {
		s.idle = 0
		return n, plain, false, nil
	}
	switch kind {
	case typeData:
		return n, nil, false, s.idles()
	case typeAlert:
		return n, nil, false, s.alert(plain)
	case typeHandshake:
		answer, err = s.messages(plain)
		return n, nil, answer, err
	}
	return 0, nil, false, fail(alertUnexpectedMessage, "a record of an unknown type")
}

// idles counts what has come and carried nothing, or a message of the handshake protocol.
func (s *State) idles() error {
	if s.idle++; s.idle > maxIdle {
		return fail(alertUnexpectedMessage, "too much that carries nothing")
	}
	return nil
}

// alert is the peer's alert.
func (s *State) alert(b []byte) error {
	switch {
	case len(b) != 2:
		return fail(alertDecodeError, "a malformed alert")
	case b[1] == alertCloseNotify:
		return io.EOF
	case b[1] == alertUserCanceled: // close_notify follows (RFC 8446, section 6.1)
		return s.idles()
	}
	return tls.AlertError(b[1])
}

// messages takes messages of the handshake protocol: KeyUpdate, and tickets, which are dropped.
func (s *State) messages(b []byte) (answer bool, err error) {
	if len(b) == 0 {
		return false, fail(alertUnexpectedMessage, "an empty handshake record")
	}
	for len(b) > 0 {
		if s.headed < 4 {
			n := copy(s.message[s.headed:], b)
			s.headed += uint8(n)
			b = b[n:]
			if s.headed < 4 {
				break
			}
			s.left = int32(s.message[1])<<16 | int32(s.message[2])<<8 | int32(s.message[3])
			switch {
			case s.message[0] == messageKeyUpdate && s.left != 1:
				return answer, fail(alertDecodeError, "a malformed KeyUpdate")
			case s.message[0] == messageTicket && s.identity.client() && s.left <= maxTicket:
			case s.message[0] != messageKeyUpdate:
				return answer, fail(alertUnexpectedMessage, "an unexpected handshake message")
			}
		}
		n := min(len(b), int(s.left))
		body := b[:n]
		b = b[n:]
		if s.left -= int32(n); s.left > 0 {
			break
		}
		s.headed = 0
		if err := s.idles(); err != nil {
			return answer, err
		}
		if s.message[0] == messageTicket {
			s.tickets++
			continue
		}
		switch {
		case len(body) != 1 || body[0] > 1:
			return answer, fail(alertIllegalParameter, "a malformed KeyUpdate")
		case len(b) > 0: // RFC 8446, section 5.1
			return answer, fail(alertUnexpectedMessage, "data behind a KeyUpdate, in its record")
		}
		s.next(&s.in)
		answer = body[0] == 1
	}
	return answer, nil
}

// Append appends records that carry p, which may be empty only if there is nothing to send: then
// it appends none.
func (s *State) Append(dst, p []byte) ([]byte, error) {
	dst, err := s.Put(dst, p)
	return s.Seal(dst), err
}

// Put is Append, and leaves the last record open for what comes next. Until Seal it is in
// plaintext; nothing else may be appended to dst meanwhile but by methods of the State.
func (s *State) Put(dst, p []byte) ([]byte, error) {
	if s.said {
		return dst, errSaid
	}
	for len(p) > 0 {
		if s.unsealed == 0 {
			if s.out.seq >= keyLimit {
				dst = s.update(dst)
			}
			dst = append(dst, header[:]...)
		}
		n := min(len(p), MaxPlaintext-int(s.unsealed))
		dst = append(dst, p[:n]...)
		p = p[n:]
		if s.unsealed += uint16(n); s.unsealed == MaxPlaintext {
			dst = s.Seal(dst)
		}
	}
	return dst, nil
}

var errSaid = errors.New("tls: protocol is shutdown")

// Seal seals the record that Put has left open at the end of dst. If the State was wiped meanwhile
// the record is taken off again.
func (s *State) Seal(dst []byte) []byte {
	if s.unsealed == 0 {
		return dst
	}
	start := len(dst) - HeaderSize - int(s.unsealed)
	if s.unsealed = 0; s.said {
		clear(dst[start:])
		return dst[:start]
	}
	return s.encrypt(append(dst, typeData), start)
}

// seal appends a record of p.
func (s *State) seal(dst []byte, kind byte, p []byte) []byte {
	dst = s.Seal(dst)
	start := len(dst)
	dst = append(dst, header[:]...)
	dst = append(dst, p...)
	return s.encrypt(append(dst, kind), start)
}

// header is that of a record but for its length (RFC 8446, section 5.2).
var header = [HeaderSize]byte{typeData, 3, 3}

// encrypt makes a record of what begins at start: room for the header, what it carries, and its
// type.
func (s *State) encrypt(dst []byte, start int) []byte {
	header, body := dst[start:start+HeaderSize], dst[start+HeaderSize:]
	length := len(body) + tagSize
	header[3], header[4] = byte(length>>8), byte(length)
	l := s.wake(&s.out)
	body = l.aead.Seal(body[:0], l.nonce(s.out.seq), body, header)
	s.out.seq++
	return append(dst[:start+HeaderSize], body...)
}

// update appends a KeyUpdate, and goes on to the next key.
func (s *State) update(dst []byte) []byte {
	dst = s.seal(dst, typeHandshake, []byte{messageKeyUpdate, 0, 0, 1, 0})
	s.next(&s.out)
	return dst
}

// AppendKeyUpdate appends a KeyUpdate: the answer to the peer's.
func (s *State) AppendKeyUpdate(dst []byte) []byte {
	if s.said {
		return dst
	}
	return s.update(dst)
}

// AppendAlert appends the alert that an error of Open calls for, if there is one.
func (s *State) AppendAlert(dst []byte, err error) []byte {
	var e *Error
	if !errors.As(err, &e) {
		return dst
	}
	return s.last(dst, 2, e.Alert)
}

// AppendCloseNotify appends the alert that says that nothing more will be sent, once.
func (s *State) AppendCloseNotify(dst []byte) []byte { return s.last(dst, 1, alertCloseNotify) }

func (s *State) last(dst []byte, level, alert byte) []byte {
	if s.said {
		return dst
	}
	dst = s.seal(dst, typeAlert, []byte{level, alert})
	s.said = true
	return dst
}

// Rest drops the expanded keys, until they are needed. Nobody may use the State meanwhile.
func (s *State) Rest() {
	s.in.live = nil
	s.out.live = nil
}

// Wipe forgets all secrets. The connection has ended, and nobody uses it.
func (s *State) Wipe() {
	s.closed, s.said = true, true
	clear(s.keys)
	s.in, s.out = direction{}, direction{}
}

// DroppedTickets returns how many session tickets have come too late for crypto/tls.
func (s *State) DroppedTickets() int { return int(s.tickets) }

// ConnectionState returns what the handshake has agreed on, without the certificates, and without
// ExportKeyingMaterial.
func (s *State) ConnectionState() tls.ConnectionState { return s.identity.state() }
