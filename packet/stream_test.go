package packet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// outcome is what became of a stream.
type outcome struct {
	packets []string
	rest    string // not consumed
	err     error
}

// deliver feeds the pieces to f one after the other, and the end of the stream after the last, as a
// connection's reader would, and holds f to the contract of Framer at every step.
func deliver(t testing.TB, f Framer, pieces [][]byte) outcome {
	t.Helper()
	var out outcome
	var pending []byte
	wanted := 0
	for i := 0; i <= len(pieces); i++ {
		atEOF := i == len(pieces)
		if !atEOF {
			pending = append(pending, pieces[i]...)
		}
		for {
			// A new place in memory for each call, spoilt afterwards: a Framer may keep its place,
			// not the bytes.
			data := slices.Clone(pending)
			advance, pkt, err := f.Next(data, atEOF)
			got := string(pkt)
			if pkt != nil && cap(pkt) != len(pkt) {
				t.Fatalf("packet %q has capacity %d, so appending to it would overwrite what follows", pkt, cap(pkt))
			}
			for j := range data {
				data[j] = 0xA5
			}
			if advance < 0 || advance > len(pending) {
				t.Fatalf("advance %d of %d bytes", advance, len(pending))
			}
			if err != nil {
				if advance != 0 || pkt != nil {
					t.Fatalf("advance %d and packet %q together with error %v", advance, pkt, err)
				}
				requireSticky(t, f, err)
				out.rest, out.err = string(pending), err
				return out
			}
			if pkt != nil {
				if len(pending) < wanted {
					t.Fatalf("packet %q in %d bytes after Want said %d", got, len(pending), wanted)
				}
				out.packets = append(out.packets, got)
			}
			pending = pending[advance:]
			wanted = f.Want()
			if pkt == nil && advance == 0 {
				if wanted != 0 && wanted <= len(pending) {
					t.Fatalf("more bytes are needed than %d, but Want says %d", len(pending), wanted)
				}
				break
			}
		}
	}
	out.rest = string(pending)
	return out
}

func requireSticky(t testing.TB, f Framer, want error) {
	t.Helper()
	for _, data := range [][]byte{nil, []byte("x"), []byte("anything\r\n at all")} {
		advance, pkt, err := f.Next(data, false)
		if advance != 0 || pkt != nil || err != want {
			t.Fatalf("after error %v: Next(%q) = %d, %q, %v", want, data, advance, pkt, err)
		}
	}
	if f.Want() != 0 {
		t.Fatalf("after error %v: Want() = %d", want, f.Want())
	}
}

// cut cuts stream into pieces of the given sizes, over and over; size 0 is an empty piece. No
// sizes: one piece.
func cut(stream []byte, sizes ...byte) [][]byte {
	progress := slices.ContainsFunc(sizes, func(n byte) bool { return n > 0 })
	if !progress {
		return [][]byte{stream}
	}
	var pieces [][]byte
	for i := 0; len(stream) > 0; i++ {
		n := min(int(sizes[i%len(sizes)]), len(stream))
		pieces = append(pieces, stream[:n])
		stream = stream[n:]
	}
	return pieces
}

// requireOutcome feeds stream to f in one piece, byte by byte, and cut in two at every place, and
// requires the same outcome each time. Between the runs f is Reset, so that is tested throughout.
func requireOutcome(t *testing.T, f Framer, stream string, want outcome) {
	t.Helper()
	deliveries := map[string][][]byte{
		"one piece":        cut([]byte(stream)),
		"single bytes":     cut([]byte(stream), 1),
		"with empty reads": cut([]byte(stream), 0, 1, 0, 0, 2),
	}
	for i := range len(stream) {
		deliveries[fmt.Sprintf("cut at %d", i)] = [][]byte{[]byte(stream[:i]), []byte(stream[i:])}
	}
	for name, pieces := range deliveries {
		f.Reset()
		got := deliver(t, f, pieces)
		if d := want.differs(got, true); d != "" {
			t.Fatalf("stream %q, %s: %s", stream, name, d)
		}
	}
}

// differs compares by errors.Is. What is left when an error strikes depends on how much had been
// read by then, so rest is compared only without an error.
func (want outcome) differs(got outcome, withRest bool) string {
	switch {
	case !slices.Equal(got.packets, want.packets):
		return fmt.Sprintf("packets %q, want %q (error %v)", got.packets, want.packets, got.err)
	case !errors.Is(got.err, want.err):
		return fmt.Sprintf("error %v, want %v", got.err, want.err)
	case want.err == nil && withRest && got.rest != want.rest:
		return fmt.Sprintf("left over %q, want %q", got.rest, want.rest)
	}
	return ""
}

func must(f Framer, err error) Framer {
	if err != nil {
		panic(err)
	}
	return f
}

func requireConstructorError(t *testing.T, f Framer, err error, says string) {
	t.Helper()
	if err == nil || f != nil {
		t.Fatalf("got (%v, %v), want an error", f, err)
	}
	if !bytes.Contains([]byte(err.Error()), []byte(says)) {
		t.Fatalf("error %q doesn't say %q", err, says)
	}
}
