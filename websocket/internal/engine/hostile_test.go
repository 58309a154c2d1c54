package engine

import (
	"bytes"
	"compress/flate"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// allocated is how many bytes run allocates.
func allocated(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// 24 GiB of zeros are 24 MiB compressed. They end when they have inflated to the limit, which is
// after a thousandth of it, or with the header, if that declares far more than the limit.
func TestDeflateBomb(t *testing.T) {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 64 {
		w.Write(zeros)
	}
	w.Flush()
	const declared = 24 << 20
	frames := map[string]frame{
		"frame":    {op: 2, rsv: 4, data: b.String(), length: declared},
		"fragment": {op: 1, rsv: 4, more: true, data: b.String()},
	}
	for name, f := range frames {
		stream := f.encode(Server)
		for _, limit := range []int{1 << 20, 20 << 20} {
			for _, cut := range []int{16, 1000, len(stream)} {
				t.Run(fmt.Sprintf("%s, limit %d, reads of %d", name, limit, cut), func(t *testing.T) {
					most := 2*limit/1000 + 2*cut
					if name == "frame" && limit < declared/2 {
						most = 10 + cut
					}
					bomb(t, slices.Clone(stream), limit, cut, most)
				})
			}
		}
	}
}

// bomb feeds a bomb, which has to be found after most bytes of it.
func bomb(t *testing.T, stream []byte, limit, cut, most int) {
	p := Params{Role: Server, MaxMessage: limit, Deflate: agreements["deflate"]}
	var r Receiver
	var err error
	fed := 0
	size := allocated(func() {
		for len(stream) > 0 && err == nil {
			n := min(len(stream), cut)
			_, _, err = r.Next(&p, stream[:n])
			stream = stream[n:]
			fed += n
		}
	})
	if e, _ := err.(*ProtocolError); e != errTooLarge {
		t.Fatalf("%v after %d bytes", err, fed)
	}
	if fed > most {
		t.Errorf("found after %d bytes, and not %d", fed, most)
	}
	// The collector may take the buffers from their pools between the looks.
	if size > 1<<20 && !raceDetector {
		t.Errorf("%d bytes were allocated", size)
	}
}

// Each of the first bytes of a compressed message comes by itself. Looking at all of them each time
// would take hours.
func TestTrickleOfCompressedBytes(t *testing.T) {
	data := words(rnd(), 1<<20)
	payload := squeeze(data, "")
	start := time.Now()
	var frames []frame
	for i := range len(payload) {
		f := frame{more: i < len(payload)-1, data: payload[i : i+1]}
		if i == 0 {
			f.op, f.rsv = 1, 4
		}
		frames = append(frames, f)
	}
	p := Params{Role: Server, MaxMessage: 1 << 20, Deflate: agreements["deflate"]}
	for _, stream := range [][]byte{
		encode(Server, frames...),
		frame{op: 1, rsv: 4, data: payload}.encode(Server),
	} {
		for _, cut := range []int{1, 4096} {
			if got := collect(t, &p, slices.Clone(stream), cut); string(got) != data {
				t.Fatalf("got %d bytes, want %d", len(got), len(data))
			}
		}
	}
	// So does each fragment that ends like a flushed one, within one block.
	block := stored(strings.Repeat(marker, 16_000))
	frames = []frame{{op: 2, rsv: 4, more: true, data: block[:5]}}
	for range 16_000 {
		frames = append(frames, frame{more: true, data: marker})
	}
	frames = append(frames, frame{data: "\x00"})
	for _, p.Pieces = range []bool{false, true} {
		if got := collect(t, &p, encode(Server, frames...), 4096); string(got) != block[5:] {
			t.Fatalf("got %d bytes, want %d", len(got), len(block)-5)
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// Two bytes make an empty last block, behind which the window is set up anew.
func TestLastBlocksAreBounded(t *testing.T) {
	p := Params{Role: Server, MaxMessage: 1 << 20, Deflate: agreements["takeover"]}
	ends := strings.Repeat("\x03\x00", 50_000)
	got := receive(t, &p, frame{op: 2, rsv: 4, data: ends + "\x00"}.encode(Server))
	if !got.equal(outcome{err: "1007 " + d722}) {
		t.Errorf("got %s", got)
	}
}

func TestManyEmptyFragments(t *testing.T) {
	for name, deflate := range agreements {
		for _, rsv := range []byte{0, 4} {
			if rsv != 0 && deflate == nil {
				continue
			}
			first, last := frame{op: 1, more: true}, frame{data: "end"}
			if rsv != 0 {
				first, last = frame{op: 1, rsv: 4, more: true}, frame{data: squeeze("end", "")}
			}
			stream := encode(Server, first)
			for range 100_000 {
				stream = append(stream, 0x00, 0x80, 1, 2, 3, 4)
			}
			stream = append(stream, last.encode(Server)...)
			p := Params{Role: Server, MaxMessage: 10, Deflate: deflate}
			var r Receiver
			if n := testing.AllocsPerRun(1, func() {
				in := slices.Clone(stream)
				if ev, n, err := r.Next(&p, in); string(ev.Data) != "end" || n != len(in) || err != nil {
					t.Fatal(ev, n, err)
				}
			}); n > 20 {
				t.Errorf("%s: %v allocations", name, n)
			}
			r.Release()
		}
	}
}

// raceDetector is set in a build with it.
var raceDetector bool

func TestPingsCostNoAllocation(t *testing.T) {
	stream := bytes.Repeat(frame{op: 9, data: long[:125]}.encode(Server), 1000)
	p := Params{Role: Server, MaxMessage: 10, Deflate: agreements["takeover"]}
	var r Receiver
	for _, cut := range []int{len(stream), 64} {
		if n := testing.AllocsPerRun(10, func() {
			pings := 0
			for rest := stream; len(rest) > 0; {
				in := rest[:min(cut, len(rest))]
				rest = rest[len(in):]
				for {
					ev, n, err := r.Next(&p, in)
					if err != nil {
						t.Fatal(err)
					}
					if in = in[n:]; ev.Kind == None {
						break
					}
					pings++
				}
			}
			if pings != 1000 {
				t.Fatal(pings)
			}
		}); n > 1 && !raceDetector {
			t.Errorf("reads of %d: %v allocations for 1000 pings", cut, n)
		}
	}
}

func TestErrorsAndCloseAreFinal(t *testing.T) {
	p := Params{Role: Server, MaxMessage: 10}
	var r Receiver
	_, _, first := r.Next(&p, frame{op: 3}.encode(Server))
	for range 2 {
		ev, n, err := r.Next(&p, frame{op: 1, data: "a"}.encode(Server))
		if err != first || n != 0 || ev.Kind != None {
			t.Fatal(ev, n, err)
		}
	}
	var e *ProtocolError
	if e = first.(*ProtocolError); e.Code != 1002 || !strings.Contains(e.Error(), "section 5.2") {
		t.Error(e)
	}
	r = Receiver{}
	if ev, _, err := r.Next(&p, frame{op: 8}.encode(Server)); err != nil || ev.Kind != Closed {
		t.Fatal(ev, err)
	}
	for range 2 {
		if ev, n, err := r.Next(&p, []byte("anything")); err != nil || n != 8 || ev.Kind != None {
			t.Fatal(ev, n, err)
		}
	}
}

// A close frame has to hold the reason of every error, and a parameter that makes no sense doesn't
// bring the program down.
func TestReasonsFitAndNegativeLimitRefuses(t *testing.T) {
	for _, e := range []*ProtocolError{
		errReservedBits, errOpcode, errLength, errLengthSign, errUnmasked, errMasked, errNoMessage,
		errInterleaved, errControlFragmented, errControlLength, errCompressed, errCompressedPart,
		errCompressedControl, errTooLarge, errUTF8, errCloseLength, errCloseCode, errCloseReason,
		errDeflate,
	} {
		if len(e.Reason) > 123 || e.Section == "" || !ValidCloseCode(e.Code) {
			t.Error(e)
		}
	}
	p := Params{Role: Client, MaxMessage: -1, Deflate: agreements["deflate"]}
	for _, f := range []frame{{op: 1}, {op: 1, data: "a"}, {op: 1, rsv: 4, data: squeeze(long, "")}} {
		if got := receive(t, &p, f.encode(Client)); got.err != "1009 "+s741 {
			t.Errorf("%v: %s", f, got)
		}
	}
}
