package cluster

import (
	"encoding/binary"
	"errors"

	"github.com/whorl-go/whorl/websocket"
)

// What nodes say to each other. Numbers are varints as encoding/binary has them, strings and lists
// have their length before them. The first byte is the version, the second the kind.
const wireVersion = 1

type kind uint8

const (
	kindMessage    kind = iota + 1 // "room." and "user.": for the members
	kindDisconnect                 // "user.": all connections of a user are to be closed
	kindHello                      // "nodes": a node begins, without members
	kindDiff                       // "nodes": members that have come and gone
	kindBeat                       // "nodes": it lives; what it has published since the last one
	kindBye                        // "nodes": it ends
	kindAsk                        // "node.": the other one's members are wanted
	kindState                      // "node.": all members, in parts
)

// An envelope is what all of it begins with.
type envelope struct {
	kind kind
	from origin
	// Of messages: a number that grows with all that the node publishes, and that of the message
	// before on the same subject, 0 if the node doesn't know it any more. Of what goes to "nodes":
	// a number that grows by one, and the last of those of messages.
	number, before uint64
}

// An origin is a node, in one of its lives.
type origin struct {
	name        string
	incarnation uint64 // a later life has a greater one
}

// An ID is that of a member: a connection in a cluster.
type ID struct {
	Node   string // its name
	Number uint64 // of the connection, on this node
}

// packet is the body of a kindMessage.
type packet struct {
	op     websocket.Opcode
	except []ID
	data   []byte
}

func (p *packet) message() websocket.Message {
	return websocket.Message{Opcode: p.op, Data: p.data}
}

// farewell is the body of a kindDisconnect.
type farewell struct {
	code   uint64
	reason string
}

// diff is the body of a kindDiff.
type diff struct {
	left   []place
	joined []newcomer
}

// A place is a connection in a room, on a node that is known.
type place struct {
	number uint64
	room   string
}

type newcomer struct {
	place
	user string
	meta []byte
}

// A mark says what number the last message had that a node has published on a subject.
type mark struct {
	subject string
	number  uint64
}

// state is the body of a kindState: a part of the members as of a number of what went to "nodes".
type state struct {
	number      uint64
	part, parts uint64
	members     []newcomer
}

func appendEnvelope(b []byte, e envelope) []byte {
	b = append(b, wireVersion, byte(e.kind))
	b = appendString(b, e.from.name)
	b = binary.AppendUvarint(b, e.from.incarnation)
	b = binary.AppendUvarint(b, e.number)
	return binary.AppendUvarint(b, e.before)
}

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendPacket(b []byte, p packet) []byte {
	b = append(b, byte(p.op))
	b = binary.AppendUvarint(b, uint64(len(p.except)))
	for _, id := range p.except {
		b = appendString(b, id.Node)
		b = binary.AppendUvarint(b, id.Number)
	}
	return append(b, p.data...)
}

func appendFarewell(b []byte, f farewell) []byte {
	return appendString(binary.AppendUvarint(b, f.code), f.reason)
}

func appendPlace(b []byte, p place) []byte {
	return appendString(binary.AppendUvarint(b, p.number), p.room)
}

func appendNewcomer(b []byte, n newcomer) []byte {
	return appendString(appendString(appendPlace(b, n.place), n.user), n.meta)
}

func appendDiff(b []byte, d diff) []byte {
	b = binary.AppendUvarint(b, uint64(len(d.left)))
	for _, p := range d.left {
		b = appendPlace(b, p)
	}
	b = binary.AppendUvarint(b, uint64(len(d.joined)))
	for _, n := range d.joined {
		b = appendNewcomer(b, n)
	}
	return b
}

func appendMarks(b []byte, marks []mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = binary.AppendUvarint(appendString(b, m.subject), m.number)
	}
	return b
}

func appendState(b []byte, s state) []byte {
	b = binary.AppendUvarint(b, s.number)
	b = binary.AppendUvarint(b, s.part)
	b = binary.AppendUvarint(b, s.parts)
	b = binary.AppendUvarint(b, uint64(len(s.members)))
	for _, n := range s.members {
		b = appendNewcomer(b, n)
	}
	return b
}

// errWire is what is wrong with bytes that no node of this version sends.
var errWire = errors.New("cluster: what came from another node can't be read")

// A reader reads what another node has sent, which isn't trusted: after the first thing that is
// wrong it has failed, and returns nothing but zeroes. Lists are no longer than their bytes allow.
type reader struct {
	b      []byte
	limits *limits
	failed bool
}

func (r *reader) fail() { r.failed, r.b = true, nil }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

// bytes returns bytes that share the memory of what is read.
func (r *reader) bytes(limit int) []byte {
	n := r.number()
	if n > uint64(limit) || n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) name() string {
	name := string(r.bytes(MaxName))
	if !r.failed && CheckName(name) != nil {
		r.fail()
	}
	return name
}

// count reads the length of a list whose elements have at least so many bytes.
func (r *reader) count(least int) int {
	n := r.number()
	if n > uint64(len(r.b)/least) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) envelope() envelope {
	if r.byte() != wireVersion {
		r.fail()
	}
	e := envelope{kind: kind(r.byte())}
	e.from = origin{r.name(), r.number()}
	e.number = r.number()
	e.before = r.number()
	return e
}

func (r *reader) packet() packet {
	p := packet{op: websocket.Opcode(r.byte())}
	if p.op != websocket.Text && p.op != websocket.Binary {
		r.fail()
	}
	n := r.count(3)
	if n > maxExcept {
		r.fail()
		n = 0
	}
	for range n {
		p.except = append(p.except, ID{r.name(), r.number()})
	}
	if len(r.b) > r.limits.message {
		r.fail()
	}
	p.data = r.b
	r.b = nil
	return p
}

func (r *reader) farewell() farewell {
	return farewell{r.number(), string(r.bytes(maxReason))}
}

func (r *reader) place() place { return place{r.number(), r.name()} }

func (r *reader) newcomer() newcomer {
	n := newcomer{place: r.place()}
	if n.user = string(r.bytes(MaxName)); n.user != "" && CheckName(n.user) != nil {
		r.fail()
	}
	if meta := r.bytes(r.limits.meta); len(meta) > 0 {
		n.meta = append([]byte(nil), meta...)
	}
	return n
}

func (r *reader) diff() (d diff) {
	for range r.count(3) {
		d.left = append(d.left, r.place())
	}
	for range r.count(5) {
		d.joined = append(d.joined, r.newcomer())
	}
	return d
}

func (r *reader) marks() (marks []mark) {
	for range r.count(3) {
		marks = append(marks, mark{string(r.bytes(MaxSubject)), r.number()})
	}
	return marks
}

func (r *reader) state() state {
	s := state{number: r.number(), part: r.number(), parts: r.number()}
	for range r.count(5) {
		s.members = append(s.members, r.newcomer())
	}
	if s.part >= s.parts {
		r.fail()
	}
	return s
}

// end returns errWire if something was wrong, or something is left.
func (r *reader) end() error {
	if r.failed || len(r.b) > 0 {
		return errWire
	}
	return nil
}
