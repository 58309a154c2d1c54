package compact

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	mathrand "math/rand/v2"
	"net"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
)

var operations = flag.Int("operations", 10_000, "random operations for each suite and role")

// A State does what crypto/tls does. Both go on from the same handshake, with the same secrets, and
// get the same bytes, cut in any way: what they read, the bytes that they send and the way in which
// they end are the same.
func TestTwin(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		tlstest.OnlySuite(t, id)
		for _, asClient := range []bool{true, false} {
			r := mathrand.New(mathrand.NewPCG(uint64(id), 2))
			ends := make(map[string]int)
			for left := *operations; left > 0; {
				did, end := twins(t, asClient, r, left)
				left -= did
				ends[end]++
			}
			t.Logf("as client %v, connections ended by: %v", asClient, ends)
		}
	})
}

// FuzzTwin is TestTwin with operations that are found.
func FuzzTwin(f *testing.F) {
	f.Add([]byte("some operations"), true)
	f.Fuzz(func(t *testing.T, choices []byte, asClient bool) {
		source := &choiceSource{choices, mathrand.NewPCG(1, 1)}
		twins(t, asClient, mathrand.New(source), min(1000, 4*len(choices)))
	})
}

// memory is what crypto/tls has for a connection, behind the handshake: it never waits.
type memory struct {
	net.Conn
	in, out []byte
	ended   bool
}

func (m *memory) Read(p []byte) (int, error) {
	n := copy(p, m.in)
	m.in = m.in[n:]
	switch {
	case n > 0:
		return n, nil
	case m.ended:
		return 0, io.EOF
	}
	return 0, errLater
}

func (m *memory) Write(p []byte) (int, error) {
	m.out = append(m.out, p...)
	return len(p), nil
}

// errLater is one after which crypto/tls goes on.
var errLater error = later{}

type later struct{}

func (later) Error() string   { return "nothing has come" }
func (later) Timeout() bool   { return true }
func (later) Temporary() bool { return true }

// pairOfTwins are crypto/tls and a State behind the same handshake.
type pairOfTwins struct {
	t    *testing.T
	r    *mathrand.Rand
	peer *State // of both
	sent []byte // by the peer, and not delivered

	own  *tls.Conn
	wire *memory
	got  []byte
	err  error

	state    *State
	raw, out []byte
	read     []byte
	stateErr error

	loose    bool   // what is sent differs from here on, and why is said there
	expected []byte // is to be read
	toPeer   []byte // what the peer is to read
}

// twins makes a pair and has it do what r says, up to its end or so many operations.
func twins(t *testing.T, asClient bool, r *mathrand.Rand, limit int) (did int, end string) {
	w, own, _ := shake(t, asClient, func(client, server *tls.Config) {
		server.SessionTicketsDisabled = true
		client.DynamicRecordSizingDisabled, server.DynamicRecordSizingDisabled = true, true
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	})
	cs := own.ConnectionState()
	state, err := w.c.State(&cs)
	if err != nil {
		t.Fatal(err)
	}
	w.Conn.Close()
	w.memory = &memory{Conn: w.Conn}
	p := &pairOfTwins{
		t: t, r: r, own: own, wire: w.memory, state: state,
		peer: newState(state.suite, identify(&cs, !asClient), w.c.own(), w.c.peers()),
	}
	for did < limit && end == "" {
		did++
		if end = p.operate(asClient); end == "" || r.IntN(2) == 0 {
			p.deliver(end != "")
		}
		if end == "" && p.err != nil {
			end = "too much that carries nothing"
		}
	}
	p.deliver(true)
	p.say([]byte("behind the end"))
	return did, end
}

// operate does one thing. It returns what it was if it may have been the last.
func (p *pairOfTwins) operate(asClient bool) (end string) {
	r, peer := p.r, p.peer
	send := func(kind byte, b []byte) {
		p.sent = append(p.sent, peer.sealed(kind, b, r.IntN(4)*r.IntN(50))...)
	}
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		size := r.IntN(300)
		if r.IntN(20) == 0 {
			size = MaxPlaintext - 200
		}
		data := bytes.Repeat([]byte{byte(r.Uint32())}, size)
		send(typeData, data)
		p.expected = append(p.expected, data...)
	case 4, 5:
		ask := byte(r.IntN(2))
		update := []byte{messageKeyUpdate, 0, 0, 1, ask}
		cut := r.IntN(5)
		if cut > 0 {
			send(typeHandshake, update[:cut])
		}
		send(typeHandshake, update[cut:])
		peer.next(&peer.out)
	case 6:
		if asClient {
			p.tickets(send)
		}
	case 7:
		send(typeAlert, []byte{1, alertUserCanceled})
	case 8:
		p.state.Rest()
	case 9, 10:
		size := 1 + r.IntN(300)
		if r.IntN(20) == 0 {
			size = r.IntN(3 * MaxPlaintext)
		}
		p.say(bytes.Repeat([]byte{byte(r.Uint32())}, size))
	case 11:
		if r.IntN(10) > 0 {
			break
		}
		return p.end(send)
	}
	return ""
}

// tickets sends some, in one record or in several.
func (p *pairOfTwins) tickets(send func(kind byte, b []byte)) {
	var all []byte
	for range 1 + p.r.IntN(3) {
		body := append([]byte{0, 0, 1, 0, 1, 2, 3, 4, 1, 0, 0, 40}, make([]byte, 42)...)
		all = append(append(all, messageTicket, 0, 0, byte(len(body))), body...)
	}
	for len(all) > 0 {
		n := 1 + p.r.IntN(len(all))
		if p.r.IntN(2) == 0 {
			n = len(all)
		}
		send(typeHandshake, all[:n])
		all = all[n:]
	}
}

// end does what ends a connection, or half of it.
func (p *pairOfTwins) end(send func(kind byte, b []byte)) string {
	r, peer := p.r, p.peer
	switch r.IntN(15) {
	case 0:
		send(typeAlert, []byte{1, alertCloseNotify})
		send(typeData, []byte("behind close_notify"))
		return "close_notify"
	case 1:
		send(typeAlert, []byte{byte(1 + r.IntN(2)), byte(1 + r.IntN(80))})
		return "alert"
	case 2:
		record, _ := peer.Append(nil, []byte("forged"))
		record[HeaderSize+r.IntN(len(record)-HeaderSize)] ^= 1 << r.IntN(8)
		p.sent = append(p.sent, record...)
		return "forged"
	case 3:
		record, _ := peer.Append(nil, []byte("twice"))
		p.expected = append(p.expected, "twice"...)
		p.sent = append(append(p.sent, record...), record...)
		return "replay"
	case 4:
		peer.Append(nil, []byte("lost"))
		send(typeData, []byte("behind what was lost"))
		return "lost"
	case 5:
		p.sent = append(p.sent, typeData, 3, 3, 0x41, byte(1+r.IntN(255)))
		return "oversized"
	case 6:
		p.sent = append(
			p.sent,
			peer.sealed(typeData, make([]byte, MaxPlaintext+r.IntN(3)), r.IntN(3))...)
		return "oversized within"
	case 7:
		send(byte(24+r.IntN(200)), []byte("x"))
		return "unknown type"
	case 8:
		send(typeHandshake, nil)
		return "empty handshake record"
	case 9:
		kinds := []byte{0, 1, 2, 5, 8, 11, 13, 15, 20, 25, 67, 254}
		send(typeHandshake, []byte{kinds[r.IntN(len(kinds))], 0, 0, 1, 0})
		p.loose = true // crypto/tls reads the message first, and says that it can't
		return "unexpected message"
	case 10:
		send(typeHandshake, []byte{messageKeyUpdate, 0, 0, 1})
		send(typeData, []byte("x"))
		return "half a message"
	case 11:
		for range r.IntN(2 * maxIdle) {
			send(typeData, nil)
		}
		return ""
	case 12:
		send(typeData, []byte("truncated"))
		p.sent = p.sent[:len(p.sent)-1-r.IntN(20)]
		return "truncated"
	case 13:
		p.own.CloseWrite()
		p.out = p.state.AppendCloseNotify(p.out)
		p.compare()
		p.loose = true // crypto/tls goes on to answer KeyUpdates and to send alerts
		return ""
	default:
		send(typeHandshake, []byte{messageKeyUpdate, 0, 0, 1, 0, messageKeyUpdate})
		return "data behind a KeyUpdate"
	}
}

// say has both send.
func (p *pairOfTwins) say(data []byte) {
	n, err := p.own.Write(data)
	var stateErr error
	p.out, stateErr = p.state.Append(p.out, data)
	if (err == nil) != (stateErr == nil) {
		p.t.Fatalf("crypto/tls has %v, the State %v", err, stateErr)
	}
	p.toPeer = append(p.toPeer, data[:n]...)
	p.compare()
}

// deliver has both read some of what was sent, or all.
func (p *pairOfTwins) deliver(all bool) {
	chunk := max(1, p.r.IntN(1+len(p.sent)))
	switch {
	case len(p.sent) < 2000 && p.r.IntN(4) == 0:
		chunk = 1
	case p.r.IntN(2) == 0:
		chunk = len(p.sent)
	}
	for len(p.sent) > 0 && (all || p.r.IntN(5) > 0) {
		n := min(chunk, len(p.sent))
		p.feed(p.sent[:n])
		p.sent = p.sent[n:]
	}
	if all {
		p.wire.ended = true
		p.feed(nil)
	}
}

func (p *pairOfTwins) feed(b []byte) {
	p.wire.in = append(p.wire.in, b...)
	buf := make([]byte, 4096)
	for p.err == nil {
		n, err := p.own.Read(buf)
		p.got = append(p.got, buf[:n]...)
		if err == errLater {
			break
		}
		p.err = err
	}
	p.raw = append(p.raw, b...)
	for p.stateErr == nil {
		n, data, answer, err := p.state.Open(p.room(), p.raw)
		if p.stateErr = err; err != nil {
			p.out = p.state.AppendAlert(p.out, err)
			break
		}
		if n == 0 {
			if p.wire.ended {
				p.stateErr = io.ErrUnexpectedEOF
			}
			break
		}
		p.read = append(p.read, data...)
		p.raw = p.raw[n:]
		if answer {
			p.out = p.state.AppendKeyUpdate(p.out)
		}
	}
	p.compare()
}

// room is what the State may open a record into, often enough of it.
func (p *pairOfTwins) room() []byte { return make([]byte, p.r.IntN(600)) }

// way is how a connection has ended, without the words.
func way(err error) string {
	var ours *Error
	var alert tls.AlertError
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case err == nil:
		return ""
	case err == io.EOF:
		return "EOF"
	case err == io.ErrUnexpectedEOF:
		return "truncated"
	case isOp && op.Op == "remote error":
		return op.Err.Error()
	case errors.As(err, &ours):
		return "local" // its alert is compared
	case errors.As(err, &alert):
		return alert.Error()
	}
	return "local"
}

func (p *pairOfTwins) compare() {
	p.t.Helper()
	theirs, ours := way(p.err), way(p.stateErr)
	if p.wire.ended && theirs == "EOF" && ours == "truncated" && len(p.raw) == 0 {
		ours = "EOF" // between records crypto/tls doesn't tell; the socket does
	}
	if theirs != ours {
		p.t.Fatalf("crypto/tls has ended with %v, the State with %v", p.err, p.stateErr)
	}
	if !bytes.Equal(p.got, p.read) || !bytes.HasPrefix(p.expected, p.read) {
		p.t.Fatalf(
			"crypto/tls has read %d bytes, the State %d, of %d",
			len(p.got),
			len(p.read),
			len(p.expected),
		)
	}
	if p.loose {
		p.wire.out = p.out
	}
	if !bytes.Equal(p.wire.out, p.out) {
		p.t.Fatalf("crypto/tls has sent\n%x, the State\n%x; they have ended with %v, %v",
			p.wire.out, p.out, p.err, p.stateErr)
	}
	for p.stateErr == nil && len(p.out) > 0 {
		p.peer.idle = 0 // there are more answers than is reasonable
		n, data, _, err := p.peer.Open(nil, p.out)
		if n == 0 || err != nil || !bytes.HasPrefix(p.toPeer, data) {
			if err == io.EOF {
				break
			}
			p.t.Fatalf("the peer has %d bytes, %v", len(data), err)
		}
		p.out, p.toPeer = p.out[n:], p.toPeer[len(data):]
	}
	p.expected = p.expected[len(p.read):]
	p.got, p.read = p.got[:0], p.read[:0]
	p.wire.out, p.out = nil, p.out[:0]
}
