package packet

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// Each fuzz test cuts a stream into arbitrary pieces and compares with a reference that sees it
// whole and is too simple to be wrong.

func FuzzEOF(f *testing.F) {
	f.Add([]byte("220 hi\r\n250 ok\r\nQUIT"), "\r\n", uint16(100), []byte{1})
	f.Add([]byte("aaaabaabaaab"), "aab", uint16(5), []byte{2, 1, 0, 3})
	f.Add([]byte("\r\n.\r\r\n.\r\n"), "\r\n.\r\n", uint16(9), []byte{4})
	f.Add([]byte("123456\r\n1234567\r\n"), "\r\n", uint16(8), []byte{7, 1})
	f.Add(bytes.Repeat([]byte("ab"), 200), strings.Repeat("ab", 50)+"c", uint16(300), []byte{99})
	f.Add(bytes.Repeat([]byte("a line of less than a block of 64 bytes\r\n\r\n\n\n"), 20), "\r\n", uint16(100), []byte{255, 255, 255})
	f.Add([]byte(strings.Repeat("longer lines ", 20)+"\n"+strings.Repeat("x", 70)+"\n\n"), "\n", uint16(280), []byte{255, 100})
	f.Add([]byte(strings.Repeat("longer lines ", 20)+"\n"), "\n", uint16(250), []byte{200, 100})
	f.Add(bytes.Repeat([]byte("a"), 131), "aa", uint16(200), []byte{255})
	f.Add([]byte("0000\n\n00000000000000"), "\r\n", uint16(20), []byte("0")) // Index after an error of Next
	f.Fuzz(func(t *testing.T, stream []byte, delimiter string, max uint16, sizes []byte) {
		framer, err := NewEOF(delimiter, int(max))
		if err != nil {
			if delimiter != "" && int(max) >= len(delimiter) {
				t.Fatal(err)
			}
			return
		}
		got := deliver(t, framer, cut(stream, sizes...))
		want := referenceEOF(stream, delimiter, int(max))
		if d := want.differs(got, true); d != "" {
			t.Fatal(d)
		}
		framer.Reset()
		got = deliver(t, &indexing{Indexer: framer.(Indexer), some: 1 + len(sizes)}, cut(stream, sizes...))
		if d := want.differs(got, true); d != "" {
			t.Fatal("by Index:", d)
		}
	})
}

func referenceEOF(stream []byte, delimiter string, max int) (want outcome) {
	for {
		i := strings.Index(string(stream), delimiter)
		n := i + len(delimiter)
		if i >= 0 && n <= max {
			want.packets = append(want.packets, string(stream[:n]))
			stream = stream[n:]
			continue
		}
		if len(stream) >= max {
			want.err = ErrPacketTooLarge
		}
		want.rest = string(stream)
		return want
	}
}

func FuzzLength(f *testing.F) {
	f.Add([]byte("\x00\x03abc\x00\x00\x00\x01x"), byte('n'), uint8(0), uint8(2), uint16(5), []byte{1})
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), byte('J'), uint8(0), uint8(8), uint16(100), []byte{7, 1})
	f.Add([]byte("ab\x05\x00\x00\x00xyz"), byte('V'), uint8(2), uint8(4), uint16(20), []byte{})
	f.Add([]byte("a\xffbc"), byte('c'), uint8(1), uint8(2), uint16(20), []byte{2})
	f.Add([]byte("\x02\x00\x00\x02ab"), byte('C'), uint8(0), uint8(0), uint16(20), []byte{1})
	f.Fuzz(func(t *testing.T, stream []byte, letter byte, offset, bodyOffset uint8, max uint16, sizes []byte) {
		field := LengthField{Type: letter, Offset: int(offset), BodyOffset: int(bodyOffset)}
		framer, err := NewLength(field, int(max))
		if err != nil {
			return // TestLengthRefusesNonsense says when
		}
		got := deliver(t, framer, cut(stream, sizes...))
		want := referenceLength(stream, field, int64(max))
		if d := want.differs(got, true); d != "" {
			t.Fatal(d)
		}
		framer.Reset()
		got = deliver(t, &indexing{Indexer: framer.(Indexer), some: 1 + len(sizes)}, cut(stream, sizes...))
		if d := want.differs(got, true); d != "" {
			t.Fatal("by Index:", d)
		}
	})
}

func referenceLength(stream []byte, field LengthField, max int64) (want outcome) {
	width := map[byte]int{0: 4, 'c': 1, 'C': 1, 's': 2, 'S': 2, 'n': 2, 'v': 2,
		'l': 4, 'L': 4, 'N': 4, 'V': 4, 'q': 8, 'Q': 8, 'J': 8, 'P': 8}[field.Type]
	header := field.Offset + width
	for want.err == nil && len(stream) >= header {
		digits := slices.Clone(stream[field.Offset:header])
		machineIsLittle := native(16, 1)[0] == 1
		if strings.IndexByte("vVP", field.Type) >= 0 || machineIsLittle && strings.IndexByte("sSlLqQ", field.Type) >= 0 {
			slices.Reverse(digits)
		}
		length := new(big.Int).SetBytes(digits)
		if strings.IndexByte("cslq", field.Type) >= 0 && digits[0] >= 0x80 {
			length.Sub(length, new(big.Int).Lsh(big.NewInt(1), uint(8*width)))
		}
		size := new(big.Int).Add(length, big.NewInt(int64(field.BodyOffset)))
		switch {
		case length.Sign() < 0:
			want.err = ErrMalformed
		case size.Cmp(big.NewInt(max)) > 0:
			want.err = ErrPacketTooLarge
		case size.Int64() < int64(header):
			want.err = ErrMalformed
		case int64(len(stream)) < size.Int64():
			want.rest = string(stream)
			return want
		default:
			want.packets = append(want.packets, string(stream[:size.Int64()]))
			stream = stream[size.Int64():]
		}
	}
	want.rest = string(stream)
	return want
}

// The reference for NewSplit is bufio.Scanner itself. None of the functions does what the two treat
// differently: an advance without a token while there is more to be found, and many tokens without
// an advance.
func FuzzSplit(f *testing.F) {
	splits := []bufio.SplitFunc{bufio.ScanLines, bufio.ScanWords, bufio.ScanRunes, bufio.ScanBytes, commas, failAtColon}
	for i := range splits {
		f.Add([]byte("one two,three\r\n\n,,\xc3\xa9€\xff  four,STOP,five"), uint8(i), uint16(100), []byte{1})
		f.Add([]byte("one,two three four:five\n"), uint8(i), uint16(5), []byte{4, 1})
		f.Add([]byte{}, uint8(i), uint16(5), []byte{})
	}
	f.Fuzz(func(t *testing.T, stream []byte, which uint8, max uint16, sizes []byte) {
		if max == 0 {
			return
		}
		split := splits[int(which)%len(splits)]
		got := deliver(t, must(NewSplit(split, int(max))), cut(stream, sizes...))
		want := referenceSplit(stream, split, int(max))
		if errors.Is(got.err, io.EOF) {
			got.err = nil // the Scanner doesn't tell the end after a final token from the end of the stream
		}
		if d := want.differs(got, false); d != "" {
			t.Fatal(d)
		}
	})
}

func failAtColon(data []byte, atEOF bool) (int, []byte, error) {
	n, token, err := bufio.ScanLines(data, atEOF)
	if bytes.HasPrefix(token, []byte(":")) {
		return 0, nil, errColon
	}
	return n, token, err
}

func referenceSplit(stream []byte, split bufio.SplitFunc, max int) (want outcome) {
	s := bufio.NewScanner(bytes.NewReader(stream))
	s.Buffer(nil, max)
	s.Split(split)
	for s.Scan() {
		want.packets = append(want.packets, s.Text())
	}
	want.err = s.Err()
	if want.err == bufio.ErrTooLong {
		want.err = ErrPacketTooLarge
	}
	return want
}
