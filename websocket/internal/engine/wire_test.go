package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A frame is what a peer sends, legal or not. It is encoded here without the package's own code.
type frame struct {
	op     byte
	more   bool // FIN isn't set
	rsv    byte // 4: RSV1, 2: RSV2, 1: RSV3
	data   string
	length uint64 // what the header says, if it isn't len(data)
	form   int    // bytes of extended length, if it isn't the shortest form
	mask   string // "wrong": masked if it may not be, and the other way round
	keep   int    // of the header's bytes, if the stream ends within it
}

var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// encode is the frame as the receiver in this role should get it.
func (f frame) encode(role Role) []byte {
	first := f.op | f.rsv<<4
	if !f.more {
		first |= 0x80
	}
	length, form := uint64(len(f.data)), f.form
	if f.length != 0 {
		length = f.length
	}
	if form == 0 && length > 125 {
		if form = 2; length > 65535 {
			form = 8
		}
	}
	var second byte
	masked := (role == Server) != (f.mask == "wrong")
	if masked {
		second = 0x80
	}
	var b []byte
	switch form {
	case 0:
		b = append(b, first, second|byte(length))
	case 2:
		b = append(b, first, second|126, byte(length>>8), byte(length))
	case 8:
		b = binary.BigEndian.AppendUint64(append(b, first, second|127), length)
	}
	if masked {
		b = append(b, testMask[:]...)
	}
	if f.keep > 0 {
		return b[:f.keep]
	}
	for i := range len(f.data) {
		c := f.data[i]
		if masked {
			c ^= testMask[i%4]
		}
		b = append(b, c)
	}
	return b
}

func encode(role Role, frames ...frame) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f.encode(role)...)
	}
	return b
}

// An outcome is what a receiver has made of a stream.
type outcome struct {
	events []string
	err    string // code and section; "" for none
}

func (o outcome) String() string { return fmt.Sprintf("%q, error %q", o.events, o.err) }

func (o outcome) equal(other outcome) bool {
	return slices.Equal(o.events, other.events) && o.err == other.err
}

var kinds = map[Kind]string{PingReceived: "ping", PongReceived: "pong"}
var opcodes = map[Opcode]string{Text: "text", Binary: "binary"}

// A feeder feeds a receiver and writes down what comes of it.
type feeder struct {
	t       testing.TB
	r       Receiver
	p       *Params
	outcome outcome
	pieces  []byte
}

// feed feeds one read. The memory is its own, and is overwritten afterwards.
func (f *feeder) feed(stream []byte) {
	in := slices.Clone(stream)
	for rest := in; ; {
		ev, n, err := f.r.Next(f.p, rest)
		rest = rest[n:]
		if err != nil {
			e := err.(*ProtocolError)
			said := fmt.Sprintf("%d %s", e.Code, e.Section)
			if f.outcome.err != "" && f.outcome.err != said {
				f.t.Fatalf("the error has changed from %q to %q", f.outcome.err, said)
			}
			f.outcome.err = said
			if f.r.part != nil || f.r.window != nil {
				f.t.Fatal("a receiver that has ended holds something")
			}
			break
		}
		if ev.Kind == None {
			if len(rest) > 0 {
				f.t.Fatalf("None, and %d bytes are left", len(rest))
			}
			break
		}
		f.event(ev)
	}
	for i := range in {
		in[i] = 0xa5
	}
}

func (f *feeder) event(ev Event) {
	if f.outcome.err != "" {
		f.t.Fatalf("event %v after an error", ev)
	}
	said := ""
	switch ev.Kind {
	case Message:
		said = fmt.Sprintf("%s %s", opcodes[ev.Opcode], ev.Data)
	case Piece:
		if len(ev.Data) == 0 && !ev.Final {
			f.t.Fatal("an empty piece that isn't the last one")
		}
		if f.pieces = append(f.pieces, ev.Data...); !ev.Final {
			return
		}
		said = fmt.Sprintf("%s %s", opcodes[ev.Opcode], f.pieces)
		f.pieces = nil
	case PingReceived, PongReceived:
		said = fmt.Sprintf("%s %s", kinds[ev.Kind], ev.Data)
	case Closed:
		said = strings.TrimSpace(fmt.Sprintf("close %d %s", ev.Code, ev.Reason))
	default:
		f.t.Fatalf("unknown event %v", ev)
	}
	f.outcome.events = append(f.outcome.events, said)
}

// receive feeds a new receiver with what each cuts of the stream.
func receive(t testing.TB, p *Params, stream []byte, sizes ...int) outcome {
	f := &feeder{t: t, p: p}
	defer f.r.Release()
	f.all(stream, sizes...)
	return f.outcome
}

// all feeds the stream in reads of these sizes in turn; without sizes, in one read.
func (f *feeder) all(stream []byte, sizes ...int) {
	if len(sizes) == 0 {
		f.feed(stream)
		return
	}
	for i := 0; len(stream) > 0; i++ {
		n := min(len(stream), max(1, sizes[i%len(sizes)]))
		f.feed(stream[:n])
		stream = stream[n:]
	}
}

// everyWay receives a stream in one read, byte by byte, and cut in two at every byte, as messages
// and as pieces: it has to come to the same.
func everyWay(t *testing.T, p Params, stream []byte, want outcome) {
	t.Helper()
	for _, p.Pieces = range []bool{false, true} {
		check := func(how string, sizes ...int) {
			t.Helper()
			if got := receive(t, &p, stream, sizes...); !got.equal(want) {
				t.Fatalf("%s, pieces %v:\ngot  %.300s\nwant %.300s", how, p.Pieces, got, want)
			}
		}
		check("in one read")
		check("byte by byte", 1)
		for i := 1; i < len(stream) && i < 400; i++ {
			check(fmt.Sprintf("cut at byte %d", i), i, len(stream))
		}
	}
}

var roleNames = map[Role]string{Server: "server", Client: "client"}
