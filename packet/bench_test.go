package packet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// Packets of 100 bytes in a buffer of 64 KiB, filled anew whenever it has been emptied. The peer to
// compare with is bufio.Reader in the same run; it is handed the same bytes by the same copy.
func BenchmarkEOF100B(b *testing.B) {
	for _, delimiter := range []string{"\n", "\r\n"} {
		packet := append(bytes.Repeat([]byte("x"), 100-len(delimiter)), delimiter...)
		source := bytes.Repeat(packet, 64<<10/100)
		name := map[string]string{"\n": "LF", "\r\n": "CRLF"}[delimiter]
		b.Run(name, func(b *testing.B) {
			benchmarkFull(b, must(NewEOF(delimiter, 2<<20)), source)
		})
		b.Run(name+"/Index", func(b *testing.B) {
			benchmarkFull(b, &indexing{Indexer: must(NewEOF(delimiter, 2<<20)).(Indexer), some: 100}, source)
		})
	}
	b.Run("ReadSlice", func(b *testing.B) {
		packet := append(bytes.Repeat([]byte("x"), 99), '\n')
		r := bufio.NewReaderSize(&endless{source: bytes.Repeat(packet, 64<<10/100)}, 64<<10)
		b.SetBytes(100)
		b.ReportAllocs()
		for b.Loop() {
			if line, err := r.ReadSlice('\n'); err != nil || len(line) != 100 {
				b.Fatal(len(line), err)
			}
		}
	})
}

// Nearly all of it is the copy that fills the buffer: Next itself looks at four bytes.
func BenchmarkLength4KiB(b *testing.B) {
	packet := binary.BigEndian.AppendUint32(nil, 4<<10-4)
	packet = append(packet, make([]byte, 4<<10-4)...)
	f := must(NewLength(LengthField{Type: 'N', BodyOffset: 4}, 2<<20))
	benchmarkFull(b, f, bytes.Repeat(packet, 16))
}

// One packet of 2 MiB, the delimiter at its end, in pieces as large as a TCP segment. Linear is:
// the time of one scan, which is the bench next to it. Scanning from the start at each piece would
// take 700 times as long.
func BenchmarkEOF2MiB(b *testing.B) {
	packet := append(bytes.Repeat([]byte("x"), 2<<20-2), "\r\n"...)
	f := must(NewEOF("\r\n", 2<<20))
	for _, pieces := range []int{1, 1500} {
		b.Run(fmt.Sprintf("pieces=%d", pieces), func(b *testing.B) { benchmarkPieces(b, f, packet, pieces) })
	}
}

// Input made to defeat the search: false starts of the delimiter, all the way.
func BenchmarkEOFHostile64KiB(b *testing.B) {
	for _, bm := range []struct{ name, delimiter, unit string }{
		{"CRLF in CRs", "\r\n", "\r"},
		{"CRLF in LFs", "\r\n", "\n"},
		{"mail end in empty lines", "\r\n.\r\n", "\r\n"},
		{"long run", strings.Repeat("a", 500) + "b" + strings.Repeat("a", 500), "a"},
	} {
		data := bytes.Repeat([]byte(bm.unit), 64<<10/len(bm.unit))
		f := must(NewEOF(bm.delimiter, 2<<20))
		for _, pieces := range []int{1, 45} {
			b.Run(fmt.Sprintf("%s/pieces=%d", bm.name, pieces), func(b *testing.B) { benchmarkPieces(b, f, data, pieces) })
		}
	}
}

func benchmarkFull(b *testing.B, f Framer, source []byte) {
	buf := make([]byte, len(source))
	var pending []byte
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		if len(pending) == 0 {
			copy(buf, source)
			pending = buf
		}
		n, pkt, err := f.Next(pending, false)
		if pkt == nil || err != nil {
			b.Fatal(err)
		}
		size = len(pkt)
		pending = pending[n:]
	}
	b.SetBytes(int64(size))
}

func benchmarkPieces(b *testing.B, f Framer, data []byte, pieces int) {
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		f.Reset()
		for i := 1; i <= pieces; i++ {
			if _, _, err := f.Next(data[:len(data)*i/pieces], false); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// endless reads source over and over.
type endless struct {
	source []byte
	pos    int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.pos == len(e.source) {
		e.pos = 0
	}
	if len(p) == 0 {
		return 0, io.ErrShortBuffer
	}
	n := copy(p, e.source[e.pos:])
	e.pos += n
	return n, nil
}
