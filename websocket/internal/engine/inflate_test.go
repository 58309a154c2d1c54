package engine

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// squeeze compresses with the standard library, behind dict, as a message carries it.
func squeeze(data, dict string) string {
	b := squeezePiece(data, dict)
	return b[:len(b)-len(marker)]
}

// squeezePiece is squeeze for a fragment that isn't the last one.
func squeezePiece(data, dict string) string {
	var b bytes.Buffer
	w, err := flate.NewWriterDict(&b, flate.DefaultCompression, []byte(dict))
	if err != nil {
		panic(err)
	}
	io.WriteString(w, data)
	w.Flush()
	return b.String()
}

// stored is data as a block that isn't compressed.
func stored(data string) string {
	n := len(data)
	return string([]byte{0, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}) + data
}

// Section numbers are of RFC 7692.
var compressedCases = []conformance{
	{
		name:   "7.2.3.1 one block",
		frames: []frame{{op: 1, rsv: 4, data: "\xf2\x48\xcd\xc9\xc9\x07\x00"}},
		events: []string{"text Hello"},
	},
	{
		name: "7.2.3.1 two fragments",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: "\xf2\x48\xcd"},
			{data: "\xc9\xc9\x07\x00"},
		},
		events: []string{"text Hello"},
	},
	{
		name:   "7.2.3.3 stored block",
		frames: []frame{{op: 1, rsv: 4, data: "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"}},
		events: []string{"text Hello"},
	},
	{
		name:   "7.2.3.4 last block",
		frames: []frame{{op: 1, rsv: 4, data: "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}},
		events: []string{"text Hello"},
	},
	{
		name: "7.2.3.5 two blocks",
		frames: []frame{
			{op: 1, rsv: 4, data: "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"},
		},
		events: []string{"text Hello"},
	},
	{
		name:   "7.2.3.6 empty",
		frames: []frame{{op: 1, rsv: 4, data: "\x00"}, {op: 2, rsv: 4, data: "\x00"}},
		events: []string{"text ", "binary "},
	},
	{
		name:   "empty, as zlib makes it",
		frames: []frame{{op: 1, rsv: 4, data: "\x02\x00"}},
		events: []string{"text "},
	},
	{
		name: "not compressed in between",
		frames: []frame{
			{op: 1, data: "a"},
			{op: 1, rsv: 4, data: squeeze("b", "")},
			{op: 2, data: "c"},
		},
		events: []string{"text a", "text b", "binary c"},
	},
	{
		name: "two last blocks",
		frames: []frame{
			{
				op:   2,
				rsv:  4,
				data: "\xf3\x48\xcd\xc9\xc9\x07\x00" + "\xf3\x48\xcd\xc9\xc9\x07\x00" + "\x00",
			},
		},
		events: []string{"binary HelloHello"},
	},
	{
		name: "reference behind a last block",
		frames: []frame{
			{op: 2, rsv: 4, data: "\xf3\x48\xcd\xc9\xc9\x07\x00" + "\xf2\x00\x11\x00\x00"},
		},
		events: []string{"binary HelloHello"},
	},
	{
		name: "fragments cut at every byte",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: "\xf2"},
			{more: true, data: "\x48"},
			{more: true},
			{more: true, data: "\xcd"},
			{op: 9, data: "p"},
			{more: true, data: "\xc9"},
			{more: true, data: "\xc9"},
			{more: true, data: "\x07"},
			{more: true, data: "\x00"},
			{},
		},
		events: []string{"ping p", "text Hello"},
	},
	{
		name: "a block for each fragment",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: squeezePiece("Hel", "")},
			{op: 10},
			{data: squeeze("lo", "")},
		},
		events: []string{"pong ", "text Hello"},
	},
	{
		name: "character over two blocks",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: stored("\xe2\x98")},
			{data: stored("\x82") + "\x00"},
		},
		events: []string{"text ☂"},
	},
	{
		name: "fragment that seems to be flushed",
		frames: []frame{
			{op: 2, rsv: 4, more: true, data: "\x00\x0c\x00\xf3\xff" + marker},
			{more: true, data: marker},
			{data: "abcd\x00"},
		},
		events: []string{"binary " + marker + marker + "abcd"},
	},
	{
		name: "flushed fragments with history",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: squeezePiece("again and ", "")},
			{more: true, data: squeezePiece("again ", "again and ")},
			{op: 9},
			{more: true, data: squeezePiece("", "")},
			{more: true},
			{data: squeeze("and again", "again and again ")},
		},
		events: []string{"ping ", "text again and again and again"},
	},
	{
		name: "sum of flushed fragments too large",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: squeezePiece("abc", "")},
			{more: true, data: squeezePiece("def", "")},
		},
		max: 5,
		err: "1009 " + s741,
	},
	{
		name:   "as large as allowed",
		frames: []frame{{op: 2, rsv: 4, data: squeeze(strings.Repeat("x", 1000), "")}},
		events: []string{"binary " + strings.Repeat("x", 1000)},
	},
	{
		name:   "as large as allowed, not compressible",
		frames: []frame{{op: 2, rsv: 4, data: stored(long[:100]) + stored(long[:100]) + "\x00"}},
		events: []string{"binary " + long[:100] + long[:100]},
		max:    200,
	},
	{
		name: "limit anew for each message",
		frames: []frame{
			{op: 2, rsv: 4, data: squeeze("abcde", "")},
			{op: 2, rsv: 4, data: squeeze("fghij", "")},
		},
		events: []string{"binary abcde", "binary fghij"},
		max:    5,
	},

	{
		name: "6.1 RSV1 on a continuation",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: squeezePiece("a", "")},
			{rsv: 4, keep: 1},
		},
		err: "1002 " + d61,
	},
	{
		name:   "6.1 RSV1 on the continuation of plain text",
		frames: []frame{{op: 1, more: true, data: "a"}, {rsv: 4, keep: 1}},
		err:    "1002 " + d61,
	},
	{name: "6.1 RSV1 on a ping", frames: []frame{{op: 9, rsv: 4, keep: 1}}, err: "1002 " + d61},
	{name: "6.1 RSV1 on a pong", frames: []frame{{op: 10, rsv: 4, keep: 1}}, err: "1002 " + d61},
	{name: "6.1 RSV1 on a close", frames: []frame{{op: 8, rsv: 4, keep: 1}}, err: "1002 " + d61},
	{name: "RSV1 and RSV2", frames: []frame{{op: 1, rsv: 6, keep: 1}}, err: "1002 " + s52},
	{
		name:   "text that isn't UTF-8",
		frames: []frame{{op: 1, rsv: 4, data: stored("a\xff")}},
		err:    "1007 " + s81,
	},
	{
		name:   "in a first fragment",
		frames: []frame{{op: 1, rsv: 4, more: true, data: stored("a\xff")}},
		err:    "1007 " + s81,
	},
	{
		name:   "in a frame that hasn't ended",
		frames: []frame{{op: 1, rsv: 4, data: stored("a\xff"), length: 900}},
		err:    "1007 " + s81,
	},
	{
		name: "in a second fragment",
		frames: []frame{
			{op: 1, rsv: 4, more: true, data: stored("a\xe2")},
			{more: true, data: stored("\x98a"), length: 900},
		},
		err: "1007 " + s81,
	},
	{
		name:   "end within a character",
		frames: []frame{{op: 1, rsv: 4, data: stored("a\xe2") + "\x00"}},
		err:    "1007 " + s81,
	},
	{
		name:   "reserved block",
		frames: []frame{{op: 2, rsv: 4, more: true, data: "\x06"}},
		err:    "1007 " + d722,
	},
	{
		name:   "reserved block in a frame that hasn't ended",
		frames: []frame{{op: 2, rsv: 4, data: stored("abc") + "\x06", length: 100}},
		err:    "1007 " + d722,
	},
	{
		name:   "stored block of a wrong length",
		frames: []frame{{op: 2, rsv: 4, data: "\x00\x05\x00\xff\xff", length: 100}},
		err:    "1007 " + d722,
	},
	{
		name:   "reference to before the beginning",
		frames: []frame{{op: 2, rsv: 4, data: "\xf2\x00\x11\x00\x00"}},
		err:    "1007 " + d722,
	},
	{
		name:   "a block that hasn't ended",
		frames: []frame{{op: 2, rsv: 4, data: "\xf2\x48\xcd"}},
		err:    "1007 " + d722,
	},
	{
		name:   "most of what is allowed, then a reserved block",
		frames: []frame{{op: 2, rsv: 4, data: stored(long) + "\x06"}},
		err:    "1007 " + d722,
		max:    200,
	},
	{name: "no data at all", frames: []frame{{op: 2, rsv: 4}}, err: "1007 " + d722},
	{
		name:   "too large",
		frames: []frame{{op: 2, rsv: 4, data: squeeze(strings.Repeat("x", 1001), "")}},
		err:    "1009 " + s741,
	},
	{
		name:   "too large in a frame that hasn't ended",
		frames: []frame{{op: 2, rsv: 4, data: stored(long), length: 900}},
		max:    129,
		err:    "1009 " + s741,
	},
	{
		name:   "too large in a first fragment",
		frames: []frame{{op: 2, rsv: 4, more: true, data: stored(long)}},
		max:    129,
		err:    "1009 " + s741,
	},
	{
		name:   "not UTF-8, then too large",
		frames: []frame{{op: 1, rsv: 4, data: squeeze("\xff"+strings.Repeat("x", 1001), "")}},
		err:    "1007 " + s81,
	},
	{
		name:   "too large, then not UTF-8",
		frames: []frame{{op: 1, rsv: 4, data: squeeze(strings.Repeat("x", 1001)+"\xff", "")}},
		err:    "1009 " + s741,
	},
	{
		name:   "far too large while compressed",
		frames: []frame{{op: 2, rsv: 4, length: 1 << 20, keep: 10}},
		err:    "1009 " + s741,
	},
	{
		name:   "not UTF-8, then an illegal header",
		frames: []frame{{op: 1, rsv: 4, more: true, data: stored("\xff")}, {op: 3, keep: 1}},
		err:    "1007 " + s81,
	},
}

func TestConformanceCompressed(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		for _, bits := range []int{8, 9, 12, 15} {
			for role, name := range roleNames {
				t.Run(fmt.Sprintf("%s %d takeover %v", name, bits, takeover), func(t *testing.T) {
					for _, c := range compressedCases {
						t.Run(c.name, func(t *testing.T) {
							deflate := &Deflate{ReceiveBits: bits, ReceiveTakeover: takeover}
							p := Params{Role: role, MaxMessage: c.max, Deflate: deflate}
							if c.max == 0 {
								p.MaxMessage = 1000
							}
							everyWay(t, p, encode(role, c.frames...), outcome{c.events, c.err})
						})
					}
				})
			}
		}
	}
}

func TestRSV1WithoutCompression(t *testing.T) {
	for role := range roleNames {
		stream := frame{op: 1, rsv: 4, keep: 1}.encode(role)
		everyWay(t, Params{Role: role, MaxMessage: 1000}, stream, outcome{err: "1002 " + s52})
	}
}

// RFC 7692, section 7.2.3.2: the second message is a reference to the first one.
func TestInflateWithTakeover(t *testing.T) {
	hello := frame{op: 1, rsv: 4, data: "\xf2\x48\xcd\xc9\xc9\x07\x00"}
	again := frame{op: 1, rsv: 4, data: "\xf2\x00\x11\x00\x00"}
	for role := range roleNames {
		stream := encode(role, hello, again, frame{op: 1, data: "plain text is not for the window"}, again)
		p := Params{Role: role, MaxMessage: 1000, Deflate: &Deflate{ReceiveBits: 15, ReceiveTakeover: true}}
		everyWay(t, p, stream, outcome{events: []string{
			"text Hello", "text Hello", "text plain text is not for the window", "text Hello",
		}})
		p.Deflate = &Deflate{ReceiveBits: 15}
		everyWay(t, p, stream, outcome{events: []string{"text Hello"}, err: "1007 " + d722})
	}
}

// The dictionary is kept by hand, as long as the window, and the standard library compresses.
func TestInflateWithTakeoverOfEveryWindow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for bits := 8; bits <= 15; bits++ {
		var frames []frame
		var want []string
		history := ""
		for range 25 {
			data := words(random, random.IntN(1<<bits/2))
			dict := history[max(0, len(history)-(1<<bits-len(data))):]
			f := frame{op: 1, rsv: 4, data: squeeze(data, dict)}
			frames = append(frames, f)
			want = append(want, "text "+data)
			history += data
		}
		for role := range roleNames {
			p := Params{Role: role, MaxMessage: 1 << 20, Deflate: &Deflate{ReceiveBits: bits, ReceiveTakeover: true}}
			stream := encode(role, frames...)
			for _, sizes := range [][]int{nil, {1}, {7, 100, 3}, {4096}} {
				if got := receive(t, &p, stream, sizes...); !got.equal(outcome{events: want}) {
					t.Fatalf("%d bits, reads of %v: %.300s", bits, sizes, got)
				}
			}
		}
	}
}

// words is text that compresses as text does.
func words(random *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		text := []string{"hello", "wörld", "☂", "again and again"}[random.IntN(4)]
		fmt.Fprintf(&b, `{"user":%d,"text":"%s"},`, random.IntN(50), text)
	}
	return strings.ToValidUTF8(b.String()[:size], "")
}

// A peer that goes back further than the window holds gets an error and no wrong data.
func TestReferenceBeyondTheWindow(t *testing.T) {
	first := strings.Repeat("a", 10) + strings.Repeat("b", 600)
	second := squeeze("aaaaaaaaaa"+"tail", first)
	p := Params{Role: Client, MaxMessage: 1000, Deflate: &Deflate{ReceiveBits: 9, ReceiveTakeover: true}}
	stream := encode(Client, frame{op: 1, rsv: 4, data: squeeze(first, "")}, frame{op: 1, rsv: 4, data: second})
	everyWay(t, p, stream, outcome{events: []string{"text " + first}, err: "1007 " + d722})
}

// A message that a sender makes in pieces comes in pieces, and what is held doesn't grow with it.
func TestCompressedPiecesComeOneByOne(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		p := Params{Role: Server, Deflate: &Deflate{SendBits: 15, SendTakeover: takeover}}
		q := Params{Role: Client, MaxMessage: 1 << 30, Pieces: true}
		q.Deflate = &Deflate{ReceiveBits: 15, ReceiveTakeover: takeover}
		var s Sender
		var r Receiver
		random := rnd()
		for i := range 500 {
			data := []byte(words(random, 1000+random.IntN(10_000)))
			stream := s.AppendPiece(nil, &p, Text, data, i%100 == 0, i%100 == 99, true, testMask)
			ev, n, err := r.Next(&q, stream)
			if err != nil || n != len(stream) || ev.Kind != Piece || ev.Final != (i%100 == 99) ||
				!bytes.Equal(ev.Data, data) {
				t.Fatalf("piece %d: %v, %d of %d bytes, final %v", i, err, len(ev.Data), len(data), ev.Final)
			}
			if _, _, err := r.Next(&q, nil); err != nil {
				t.Fatal(err)
			}
			if held := r.part; held != nil && (held.buf != nil || held.out != nil) {
				t.Fatalf("piece %d: more than the window is held", i)
			}
			if held := cap(r.window.bytes()); held > 32<<10 || held > 0 && i%100 == 99 && !takeover {
				t.Fatalf("piece %d: %d bytes of window", i, held)
			}
		}
		s.Release()
		r.Release()
	}
}
