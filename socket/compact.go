package socket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/compact"
)

// A TLS 1.3 connection goes on without crypto/tls, and is kept in a few hundred bytes while it is
// quiet, if its socket is asked to (Timeouts.CompactTLS): package compact says how. Here is when.
// Connections that do something are on their loop's list, which the loop looks at from time to time
// (quiet.go). Some time after the handshake a connection goes from crypto/tls to a compact.State,
// whether it is quiet or not, as that costs a busy one less, too. Each time that it has been quiet
// from then on, the State's expanded keys are dropped, and the connection is off the list.
//
// That may happen while somebody waits in Recv: what counts is that nobody is within TLS at the
// moment (secure.enter).

// compactible is what a connection has that may become compact.
type compactible struct {
	using  atomic.Uint32 // who is within TLS, and resting
	active atomic.Bool   // since the list was looked at last
	listed atomic.Bool
	doomed atomic.Bool
	list   *quiet
	passed time.Duration // since the handshake, then of each silence; the list's
	wiped  bool          // of whoever keeps everybody out
	given  bool          // up: it stays with crypto/tls, and on no list; likewise
	state  atomic.Pointer[compactTLS]

	settings CompactTLS
}

// resting is the bit of using that keeps everybody out.
const resting = 1 << 31

// enter begins to use the TLS of a connection, for a moment and without waiting; leave ends that.
func (t *secure) enter() {
	c := t.compactible
	if c == nil {
		return
	}
	for {
		if v := c.using.Load(); v&resting == 0 && c.using.CompareAndSwap(v, v+1) {
			break
		}
		goruntime.Gosched() // for some microseconds
	}
	if !c.active.Load() {
		c.active.Store(true)
	}
	if !c.listed.Load() && c.listed.CompareAndSwap(false, true) {
		c.list.add(t)
	}
}

func (t *secure) leave() {
	if c := t.compactible; c != nil && c.using.Add(^uint32(0)) == 0 && c.doomed.Load() {
		t.wipe()
	}
}

// doom has the keys wiped as soon as nobody is within TLS: the socket is closed.
func (t *secure) doom() {
	if c := t.compactible; c != nil && !c.doomed.Swap(true) {
		t.wipe()
	}
}

func (t *secure) wipe() {
	c := t.compactible
	if !c.using.CompareAndSwap(0, resting) {
		return // whoever leaves does it, or has put the connection to rest
	}
	defer c.using.Store(0)
	if c.wiped {
		return
	}
	c.wiped = true
	if k := c.state.Load(); k != nil {
		c.list.compact.Add(-1)
		ticketsDropped.Add(int64(k.DroppedTickets()))
		t.fd.sealed(k.Wipe) // what lingers is still delivered
	} else if t.link.capture != nil {
		t.link.capture.Wipe()
	}
}

// compacted returns the compact state, nil if crypto/tls has the connection.
func (t *secure) compacted() *compactTLS {
	if t.compactible == nil {
		return nil
	}
	return t.compactible.state.Load()
}

// toRest makes the connection compact, or drops its expanded keys, if nothing is in flight. It
// returns false if somebody is within TLS; all else that changes something comes through enter, and
// puts the connection on the list again.
func (t *secure) toRest() bool {
	c := t.compactible
	if !c.using.CompareAndSwap(0, resting) {
		return false
	}
	if k := c.state.Load(); k != nil {
		t.fd.sealed(k.Rest)
		k.shrink()
	} else if !c.doomed.Load() {
		t.takeOver()
	}
	c.using.Store(0)
	if c.doomed.Load() {
		t.wipe() // who closed it meanwhile couldn't
	}
	return true
}

// takeOver has a compact.State go on where crypto/tls is, if it can be. The caller keeps everybody
// out.
func (t *secure) takeOver() {
	c, link := t.compactible, t.link
	if link.decide(false); link.capture.Useless() {
		link.giveUp()
		c.given = true
		return
	}
	if link.headed > 0 {
		return // crypto/tls has half a record
	}
	cs := t.conn.Load().ConnectionState()
	state, err := link.capture.State(&cs)
	if err != nil {
		return
	}
	k := &compactTLS{State: *state, in: new(arrived)}
	if t.rest && !link.leftover(t.conn.Load(), k) {
		return
	}
	k.in.raw = link.shaking.ahead
	k.shrink()
	link.capture.Wipe()
	if c.settings.KeepCertificates {
		k.kept = &cs
	}
	c.state.Store(k)
	t.conn.Store(nil)
	t.link = nil
	c.list.compact.Add(1)
}

// giveUp has the connection go on as any other.
func (l *link) giveUp() {
	notCompact[l.capture.Why()].Add(1)
	l.capture.Wipe()
	l.capture = nil
}

// leftover hands over what crypto/tls has decrypted and nobody has read. It reports false if the
// connection has ended.
func (l *link) leftover(conn *tls.Conn, k *compactTLS) bool {
	buf := borrow()
	defer giveBack(buf)
	l.dry = true
	n, err := conn.Read(buf)
	l.dry = false
	k.in.plain = bytes.Clone(buf[:n])
	return n > 0 || err == errWait
}

var (
	ticketsDropped atomic.Int64
	notCompact     [compact.Unclear + 1]atomic.Int64
)

// NotCompact returns how many connections of the process, since its beginning, were to become
// compact (see CompactTLS) and stay with crypto/tls, by the reason for it: "version" is below TLS
// 1.3; with "ech", Encrypted Client Hello, their secrets can't be told from others'; the peer has
// changed its keys, "key update", before they were compact; and with "unclear" their secrets, or
// the numbers of their records, aren't known for certain.
func NotCompact() map[string]int64 {
	return map[string]int64{
		"version":    notCompact[compact.OldVersion].Load(),
		"ech":        notCompact[compact.EncryptedHello].Load(),
		"key update": notCompact[compact.ChangedKeys].Load(),
		"unclear":    notCompact[compact.Unclear].Load(),
	}
}

// Compact returns how many connections of the process are compact now, see CompactTLS, and how many
// session tickets have come too late for those that were and have ended.
func Compact() (connections, lateTickets int64) {
	for list := range quiets.All() {
		connections += list.compact.Load()
	}
	return connections, ticketsDropped.Load()
}

// compactTLS is the TLS of a compact connection.
type compactTLS struct {
	compact.State
	in  *arrived // nil: nothing; of the reader
	err error    // how the reading side has ended; likewise

	kept *tls.ConnectionState // with the certificates; nil: not kept
}

// arrived is what a compact connection has received and nobody has read yet.
type arrived struct {
	raw   input  // records that are not opened yet
	plain []byte // was opened; of raw, or crypto/tls's
}

// take hands out what was opened.
func (a *arrived) take(p []byte) int {
	n := copy(p, a.plain)
	a.plain = a.plain[n:]
	return n
}

// whole reports whether there is a whole record to be opened, or one that Open refuses.
func (a *arrived) whole() bool {
	size := compact.RecordSize(a.raw.unread())
	return size > 0 && (len(a.raw.unread()) >= size || size > compact.MaxRecord)
}

// shrink keeps no more than was received. Nobody reads.
func (k *compactTLS) shrink() {
	if k.in == nil || len(k.in.plain) > 0 {
		return
	}
	if k.in.raw.shrink(); k.in.raw.buf == nil {
		k.in = nil
	}
}

// connectionState is what the handshake has agreed on.
func (k *compactTLS) connectionState() tls.ConnectionState {
	if k.kept != nil {
		return *k.kept
	}
	return k.ConnectionState()
}

// PeerIdentity is what is known of a peer's certificate when it isn't kept.
type PeerIdentity struct {
	SHA256   [32]byte // of the certificate, in DER
	Names    []string // of DNS, and IP addresses, that it is for
	NotAfter time.Time
	Verified bool // against trusted roots
}

// PeerIdentity returns whose certificate the peer has shown, also when a compact connection has
// kept none. ok is false without TLS, and if the peer has shown none.
func (s *Socket) PeerIdentity() (p PeerIdentity, ok bool) {
	t := s.secure.Load()
	if t == nil {
		return p, false
	}
	t.enter()
	defer t.leave()
	if k := t.compacted(); k != nil {
		id, ok := k.Peer()
		return PeerIdentity(id), ok
	}
	cs := t.conn.Load().ConnectionState()
	id, ok := compact.PeerOf(&cs)
	return PeerIdentity(id), ok
}

// tryRead is secure.tryRead. What fits is opened into p, without a copy.
func (k *compactTLS) tryRead(t *secure, f *fd, p []byte) (int, error) {
	if k.in == nil {
		if k.err == nil && f.exhausted() {
			t.rest = false
			return 0, errWait
		}
		k.in = new(arrived)
	}
	in := k.in
	n := in.take(p)
	for n < len(p) && k.err == nil && (n == 0 || in.whole()) {
		room := p[n:]
		if n > 0 && len(room) < compact.Opened(compact.RecordSize(in.raw.unread())) {
			break // there may be room for all of it the next time
		}
		opened, err := k.open(f, room)
		if err == errWait { // there was no record, so nothing was read before
			t.rest = false
			return 0, errWait
		}
		k.err = err // of the next call, if something was read
		n += opened
	}
	t.rest = len(in.plain) > 0 || k.err != nil || in.whole()
	if len(in.plain) == 0 {
		in.raw.release()
	}
	if n == 0 {
		return 0, k.err
	}
	return n, nil
}

// open opens the next record, and reads as long as there is none. It returns how much of it is in
// p; if there is more, that is in in.plain.
func (k *compactTLS) open(f *fd, p []byte) (int, error) {
	in := k.in
	for !in.whole() {
		if len(in.raw.unread()) == 0 && f.exhausted() {
			in.raw.release()
			return 0, errWait
		}
		n, err := f.tryRead(in.raw.room(compact.RecordSize(in.raw.unread())))
		if err == io.EOF {
			return 0, ErrTruncated // between records, or within one
		}
		if err != nil {
			in.raw.release()
			return 0, err
		}
		in.raw.received(n)
	}
	record := in.raw.unread()
	into := len(p) >= compact.Opened(compact.RecordSize(record))
	n, data, answer, err := k.Open(p, record)
	switch {
	case err == io.EOF:
		return 0, io.EOF
	case err != nil:
		k.say(f, func(dst []byte) []byte { return k.AppendAlert(dst, err) })
		op := "remote error"
		if _, local := errors.AsType[*compact.Error](err); local {
			op = "local error"
		}
		// As with crypto/tls, it isn't an OpError itself: the socket puts one of its own around it.
		return 0, fmt.Errorf("%w", &net.OpError{Op: op, Err: err})
	}
	if answer {
		k.say(f, k.AppendKeyUpdate)
	}
	in.raw.start += n
	if into {
		return len(data), nil
	}
	in.plain = data
	return in.take(p), nil
}

// say queues what a function of the State appends, and has the kernel take it. What can't be queued
// is an error of the next that is sent.
func (k *compactTLS) say(f *fd, fn func(dst []byte) []byte) {
	err := f.enqueueWith(2*compact.Overhead, k, func(dst []byte) ([]byte, error) {
		return fn(dst), nil
	})
	if err == nil {
		f.flush()
	}
}

// enqueue is secure.enqueue. What is sent before the queue goes to the kernel shares a record.
func (k *compactTLS) enqueue(f *fd, p []byte) (int, error) {
	size := len(p) + (len(p)/compact.MaxPlaintext+2)*compact.Overhead
	err := f.enqueueWith(size, k, func(dst []byte) ([]byte, error) { return k.Put(dst, p) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
