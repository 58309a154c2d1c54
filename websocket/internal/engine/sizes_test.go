package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// Very many connections are idle. One holds its Receiver and its Sender.
func TestIdleConnectionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Receiver{}); size > 24 {
		t.Errorf("a Receiver has %d bytes", size)
	}
	if size := unsafe.Sizeof(Sender{}); size > 8 {
		t.Errorf("a Sender has %d bytes", size)
	}
	for name, deflate := range agreements {
		p := Params{Role: Server, MaxMessage: 1 << 20, Deflate: deflate}
		f := &feeder{t: t, p: &p}
		f.all(encode(Server, frame{op: 1, more: true, data: "a"}, frame{op: 9}, frame{data: "b"}), 1)
		if deflate != nil {
			f.all(encode(Server, frame{op: 2, rsv: 4, data: squeeze(long, "")}), 3)
		}
		if f.r.part != nil {
			t.Errorf("%s: a receiver holds something between messages", name)
		}
		if held := cap(f.r.window.bytes()); (held > 0) != (name == "takeover") || held > 512 {
			t.Errorf("%s: a receiver holds a window of %d bytes", name, held)
		}
		f.r.Release()
		if f.r.window != nil {
			t.Errorf("%s: a receiver that was released holds a window", name)
		}
	}
}

// RFC 6455 puts no limit on sizes. The reads are what a socket may give.
func TestSizes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	blob := make([]byte, 16<<20)
	for i := range blob {
		blob[i] = byte(random.Uint32())
	}
	text := []byte(strings.Repeat("sixteen bytes ☂.", len(blob)/18))
	for _, size := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20, 16 << 20} {
		for _, cut := range []int{64, 1000, 4 << 10, 64 << 10, 1 << 20} {
			for role := range roleNames {
				for _, pieces := range []bool{false, true} {
					if size > 1<<20 && cut == 1000 {
						continue // enough of that
					}
					p := Params{Role: role, MaxMessage: size, Pieces: pieces}
					oneSize(t, &p, Binary, blob[:size], cut)
					if end := len(text[:min(size, len(text))]); size > 125 && size <= 1<<20 {
						oneSize(t, &p, Text, bytes.ToValidUTF8(text[:end], nil), cut)
					}
				}
			}
		}
	}
}

// A message may be cut into fragments at every byte, within characters and what is compressed too:
// in two, and in as many as there are bytes, with a ping behind each.
func TestFragmentedAtEveryByte(t *testing.T) {
	const text = "a☂é🂡 is a text, a☂é🂡 is one"
	ping := frame{op: 9, data: "p"}
	for name, deflate := range agreements {
		payload, rsv := text, byte(0)
		if deflate != nil {
			payload, rsv = squeeze(text, ""), 4
		}
		for role := range roleNames {
			t.Run(name+" "+roleNames[role], func(t *testing.T) {
				p := Params{Role: role, MaxMessage: len(text), Deflate: deflate}
				want := []string{"text " + text}
				for at := range len(payload) + 1 {
					stream := encode(role,
						frame{op: 1, rsv: rsv, more: true, data: payload[:at]}, frame{data: payload[at:]})
					everyWay(t, p, stream, outcome{events: want})
				}
				frames := []frame{{op: 1, rsv: rsv, more: true}}
				var pings []string
				for at := range len(payload) {
					frames = append(frames, ping, frame{more: at < len(payload)-1, data: payload[at : at+1]})
					pings = append(pings, "ping p")
				}
				everyWay(t, p, encode(role, frames...), outcome{events: append(pings, want...)})
			})
		}
	}
}

func oneSize(t *testing.T, p *Params, op Opcode, data []byte, cut int) {
	other := Server
	if p.Role == Server {
		other = Client
	}
	var s Sender
	for fragment := range 2 {
		var stream []byte
		if fragment == 0 {
			stream = AppendMessage(nil, other, op, data, testMask)
		} else {
			from := Params{Role: other}
			for rest, first := data, true; first || len(rest) > 0; first = false {
				n := min(len(rest), cut)
				stream = s.AppendPiece(stream, &from, op, rest[:n], first, n == len(rest), false, testMask)
				rest = rest[n:]
			}
		}
		got := collect(t, p, stream, cut)
		if !bytes.Equal(got, data) {
			t.Fatalf("role %d, pieces %v, %d bytes in reads of %d: got %d bytes, or others", p.Role, p.Pieces, len(data), cut, len(got))
		}
	}
}

// collect receives one message.
func collect(t testing.TB, p *Params, stream []byte, cut int) (data []byte) {
	var r Receiver
	defer r.Release()
	done := false
	for len(stream) > 0 {
		n := min(len(stream), cut)
		in := stream[:n]
		stream = stream[n:]
		for {
			ev, n, err := r.Next(p, in)
			if err != nil {
				t.Fatal(err)
			}
			if in = in[n:]; ev.Kind == None {
				break
			}
			if done || ev.Kind != Message && ev.Kind != Piece {
				t.Fatalf("more than one message, or another event: %v", ev.Kind)
			}
			data = append(data, ev.Data...)
			done = ev.Kind == Message || ev.Final
		}
	}
	if !done {
		t.Fatal("no message")
	}
	return data
}

// A message in one frame that is whole in what was read isn't copied.
func TestMessageInPlace(t *testing.T) {
	for role := range roleNames {
		in := encode(role, frame{op: 1, data: "Hello"}, frame{op: 9, data: "ping"})
		var r Receiver
		p := Params{Role: role, MaxMessage: 100}
		for range 2 {
			ev, n, err := r.Next(&p, in)
			if err != nil || &ev.Data[0] != &in[n-len(ev.Data)] {
				t.Fatalf("%v %v isn't in place", ev, err)
			}
			in = in[n:]
		}
	}
}

// 16 MiB are declared, and a few bytes come.
func TestNothingIsHeldByADeclaredLength(t *testing.T) {
	const connections = 1000
	for _, f := range []frame{
		{op: 1, data: "Hello", length: 16 << 20},
		{op: 2, rsv: 4, data: "\xf2\x48\xcd", length: 16 << 20},
	} {
		p := Params{Role: Server, MaxMessage: 16 << 20, Deflate: agreements["deflate"]}
		stream := f.encode(Server)
		receivers := make([]Receiver, connections)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range receivers {
			if _, _, err := receivers[i].Next(&p, slices.Clone(stream)); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / connections; each > 1<<10 {
			t.Errorf("rsv %d: %d bytes for each connection", f.rsv, each)
		}
		for i := range receivers {
			receivers[i].Release()
		}
	}
}

// What was collected is given back with the message's end, whatever its size.
func TestBuffersComeBack(t *testing.T) {
	for bits := 0; bits <= maxBufferBits+1; bits++ {
		b := borrow(1 << bits)
		if len(b.b) != 0 || cap(b.b) < 1<<bits || cap(b.b) > max(1<<minBufferBits, 1<<bits) {
			t.Errorf("borrow(%d): %d of %d bytes", 1<<bits, len(b.b), cap(b.b))
		}
		b.free()
	}
	var b *buffer
	for i := range 100_000 {
		b = b.add(fmt.Appendf(nil, "%08d", i))
	}
	if len(b.b) != 800_000 || string(b.b[len(b.b)-8:]) != "00099999" || string(b.b[:8]) != "00000000" {
		t.Error("a buffer has lost something")
	}
}

func TestSlideKeepsTheEnd(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{512, 1024, 8 << 10} {
		var b *buffer
		var all []byte
		for range 300 {
			p := []byte(words(random, random.IntN(size+size/2)))
			all = append(all, p...)
			b = b.slide(p, size)
			if want := all[max(0, len(all)-size):]; !bytes.Equal(b.bytes(), want) {
				t.Fatalf("%d: %d bytes, want %d", size, len(b.bytes()), len(want))
			}
		}
		if cap(b.b) > size {
			t.Errorf("%d: holds %d bytes", size, cap(b.b))
		}
		b.free()
	}
}
