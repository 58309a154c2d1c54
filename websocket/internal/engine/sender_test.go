package engine

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func rnd() *rand.Rand { return rand.New(rand.NewPCG(7, 8)) }

// The header is compared with the one that is encoded by hand.
func TestAppendHeader(t *testing.T) {
	for role, to := range map[Role]Role{Server: Client, Client: Server} {
		for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
			for _, op := range []Opcode{Continuation, Text, Binary, Close, Ping, Pong} {
				for _, f := range []frame{{}, {more: true}, {rsv: 4}, {more: true, rsv: 4}} {
					f.op, f.data = byte(op), strings.Repeat("x", size)
					want := f.encode(to)
					want = want[:len(want)-size]
					got := AppendHeader([]byte("before"), role, op, !f.more, f.rsv == 4, size, testMask)
					if string(got) != "before"+string(want) {
						t.Fatalf("role %d, op %d, %d bytes: % x, want % x", role, op, size, got, want)
					}
					if len(want) != headerSize(role, size) {
						t.Fatalf("headerSize is %d", headerSize(role, size))
					}
				}
			}
			got := AppendMessage([]byte("before"), role, Binary, bytes.Repeat([]byte("x"), size), testMask)
			if want := (frame{op: 2, data: strings.Repeat("x", size)}).encode(to); string(got) != "before"+string(want) {
				t.Fatalf("role %d, message of %d bytes", role, size)
			}
		}
	}
}

func TestAppendClose(t *testing.T) {
	for role, to := range map[Role]Role{Server: Client, Client: Server} {
		for reason, want := range map[string]string{
			"":                              "",
			"bye ☂":                         "bye ☂",
			strings.Repeat("x", 123):        strings.Repeat("x", 123),
			strings.Repeat("x", 124):        strings.Repeat("x", 123),
			strings.Repeat("x", 122) + "é":  strings.Repeat("x", 122),
			strings.Repeat("x", 120) + "🂡!": strings.Repeat("x", 120),
			strings.Repeat("☂", 99):         strings.Repeat("☂", 41),
			strings.Repeat("\x80", 200):     "",
		} {
			got := AppendClose(nil, role, 1000, reason, testMask)
			if !bytes.Equal(got, frame{op: 8, data: closing(1000, want)}.encode(to)) {
				t.Errorf("role %d, %q: % x", role, reason, got)
			}
			if utf8.ValidString(reason) {
				if o := receive(t, &Params{Role: to}, got); o.err != "" {
					t.Errorf("%q: %s", reason, o)
				}
			}
		}
		if got := AppendClose(nil, role, 0, "not sent", testMask); !bytes.Equal(got, frame{op: 8}.encode(to)) {
			t.Errorf("role %d, without a code: % x", role, got)
		}
	}
}

// split takes a frame apart by hand.
func split(t *testing.T, role Role, b []byte) (first byte, payload, rest []byte) {
	t.Helper()
	first, size, n := b[0], int(b[1]&0x7f), 2
	switch size {
	case 126:
		size, n = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		size, n = int(binary.BigEndian.Uint64(b[2:])), 10
	}
	if role == Client {
		n += 4
	}
	payload = slices.Clone(b[n : n+size])
	if role == Client {
		for i := range payload {
			payload[i] ^= b[n-4+i%4]
		}
	}
	return first, payload, b[n+size:]
}

// expand inflates with the standard library, behind dict.
func expand(t *testing.T, payload, dict []byte) []byte {
	t.Helper()
	r := flate.NewReaderDict(bytes.NewReader(append(payload, "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...)), dict)
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func messages() [][]byte {
	random := rnd()
	all := [][]byte{{}, []byte("Hello"), []byte("Hello"), {}, make([]byte, 100_000)}
	for _, size := range []int{1, 20, 100, 127, 128, 200, 300, 1000, 1024, 5000, 31_000, 40_000, 70_000, 200_000} {
		all = append(all, []byte(words(random, size)), []byte(words(random, min(size, 300))))
		noise := make([]byte, size)
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		all = append(all, noise)
	}
	// What lies far back and nowhere nearer.
	far := append(slices.Clone(all[len(all)-1][:600]), make([]byte, 40_000)...)
	return append(all, append(far, far[:600]...))
}

// Every set of parameters: the standard library inflates behind a window that is kept by hand, a
// decoder of the test's own sees that no reference goes back too far, and a Receiver gets it, too.
func TestCompressedRoundTrip(t *testing.T) {
	for bits := 8; bits <= 15; bits++ {
		for _, takeover := range []bool{false, true} {
			for role, to := range map[Role]Role{Server: Client, Client: Server} {
				t.Run(fmt.Sprintf("%d bits takeover %v %s", bits, takeover, roleNames[role]), func(t *testing.T) {
					p := Params{Role: role, Deflate: &Deflate{SendBits: bits, SendTakeover: takeover}}
					q := Params{Role: to, MaxMessage: 1 << 20}
					q.Deflate = &Deflate{ReceiveBits: bits, ReceiveTakeover: takeover}
					w := wire{t: t, p: &p, q: &q}
					for i, data := range messages() {
						if i%3 == 2 {
							w.pieces(data)
						} else {
							w.whole(data)
						}
					}
					if held := cap(w.s.window.bytes()); (held > 0) != takeover || held > maxHistory {
						t.Errorf("a sender holds %d bytes", held)
					}
					w.s.Release()
					w.r.Release()
				})
			}
		}
	}
}

// wire is a sender, a receiver, and the window as it has to be between them.
type wire struct {
	t      *testing.T
	p, q   *Params
	s      Sender
	r      Receiver
	window []byte
}

func (w *wire) whole(data []byte) {
	stream := w.s.AppendCompressed([]byte("before"), w.p, Binary, data, testMask)
	w.check(stream[len("before"):], data)
}

func (w *wire) pieces(data []byte) {
	var stream []byte
	for rest, first := data, true; first || len(rest) > 0; first = false {
		n := min(len(rest), max(len(data)/3, 50))
		stream = w.s.AppendPiece(stream, w.p, Binary, rest[:n], first, n == len(rest), true, testMask)
		rest = rest[n:]
	}
	w.check(stream, data)
}

func (w *wire) check(stream, data []byte) {
	w.t.Helper()
	var payload []byte
	var compressed, fin bool
	for rest := stream; len(rest) > 0; {
		var first byte
		var part []byte
		isFirst := len(payload) == 0 && len(rest) == len(stream)
		first, part, rest = split(w.t, w.p.Role, rest)
		payload = append(payload, part...)
		if isFirst {
			compressed = first&0x40 != 0
		}
		if fin = first&0x80 != 0; fin != (len(rest) == 0) || (first&0x40 != 0) != (compressed && isFirst) ||
			(first&0x0f == 2) != isFirst {
			w.t.Fatalf("first byte % x", first)
		}
	}
	got := payload
	if compressed {
		got = expand(w.t, payload, w.window)
		if far := furthest(w.t, payload, w.window); far > 1<<w.p.Deflate.SendBits {
			w.t.Fatalf("a message of %d bytes refers %d bytes back", len(data), far)
		}
	} else if w.p.Deflate.SendTakeover {
		w.t.Fatal("not compressed, with takeover")
	}
	if !bytes.Equal(got, data) {
		w.t.Fatalf("a message of %d bytes has become %d", len(data), len(got))
	}
	if compressed && w.p.Deflate.SendTakeover {
		w.window = append(w.window, data...)
		w.window = w.window[max(0, len(w.window)-1<<w.p.Deflate.SendBits):]
	}
	ev, n, err := w.r.Next(w.q, stream)
	if err != nil || n != len(stream) || !bytes.Equal(ev.Data, data) {
		w.t.Fatalf("received %d of %d bytes: %v", len(ev.Data), len(data), err)
	}
}

// With takeover the second message of its kind is a reference to the first one.
func TestTakeoverPays(t *testing.T) {
	for _, bits := range []int{9, 12, 15} {
		p := Params{Deflate: &Deflate{SendBits: bits, SendTakeover: true}}
		var s Sender
		data := []byte(`{"user":17,"text":"a message that nobody has seen before"}`)
		first := len(s.AppendCompressed(nil, &p, Text, data, [4]byte{}))
		second := len(s.AppendCompressed(nil, &p, Text, data, [4]byte{}))
		if second > first/3 {
			t.Errorf("%d bits: %d bytes, then %d", bits, first, second)
		}
		s.Release()
	}
}

// A broadcast is compressed once, and connections with takeover go on behind it.
func TestAppendCompressedOnce(t *testing.T) {
	for bits := 8; bits <= 15; bits++ {
		for _, data := range messages() {
			one := AppendCompressedOnce(nil, Binary, data, bits)
			if two := AppendCompressedOnce(nil, Binary, data, bits); !bytes.Equal(one, two) {
				t.Fatalf("%d bits: a message of %d bytes comes out in two ways", bits, len(data))
			}
			var s Sender
			p := Params{Deflate: &Deflate{SendBits: bits}}
			if single := s.AppendCompressed(nil, &p, Binary, data, [4]byte{}); !bytes.Equal(one, single) {
				t.Fatalf("%d bits: a single message of %d bytes differs", bits, len(data))
			}
			if most := headerSize(Server, len(data)) + len(data); len(one) > most {
				t.Fatalf("%d bits: a message of %d bytes has become %d", bits, len(data), len(one))
			}
		}
		p := Params{Deflate: &Deflate{SendBits: bits, SendTakeover: true}}
		q := Params{Role: Client, MaxMessage: 1 << 20}
		q.Deflate = &Deflate{ReceiveBits: bits, ReceiveTakeover: true}
		w := wire{t: t, p: &p, q: &q}
		for i, data := range messages() {
			if i%2 == 0 {
				w.whole(data)
				continue
			}
			once := AppendCompressedOnce(nil, Binary, data, bits)
			w.s.Sent(&p, once, data)
			if once[0]&0x40 != 0 {
				w.check(once, data)
			} else if _, _, err := w.r.Next(&q, once); err != nil {
				t.Fatal(err)
			}
		}
		w.s.Release()
		w.r.Release()
	}
}

func TestWithoutAgreementNothingIsCompressed(t *testing.T) {
	var s Sender
	data := make([]byte, 1000)
	for role, to := range map[Role]Role{Server: Client, Client: Server} {
		p := Params{Role: role}
		got := s.AppendCompressed(nil, &p, Text, data, testMask)
		got = s.AppendPiece(got, &p, Text, data, true, false, true, testMask)
		got = s.AppendPiece(got, &p, Text, data, false, true, true, testMask)
		all := string(data)
		want := encode(to, frame{op: 1, data: all}, frame{op: 1, more: true, data: all}, frame{data: all})
		if !bytes.Equal(got, want) {
			t.Errorf("role %d", role)
		}
	}
}
