package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func native(bits int, v uint64) string {
	switch bits {
	case 16:
		return string(binary.NativeEndian.AppendUint16(nil, uint16(v)))
	case 32:
		return string(binary.NativeEndian.AppendUint32(nil, uint32(v)))
	}
	return string(binary.NativeEndian.AppendUint64(nil, v))
}

func TestLengthReadsEveryPackLetter(t *testing.T) {
	for _, tt := range []struct {
		letter           byte
		three, minus, ff string // the field for 3, for -2, and for its largest value
		signed           bool
	}{
		{'c', "\x03", "\xfe", "\x7f", true},
		{'C', "\x03", "\xfe", "\xff", false},
		{'s', native(16, 3), native(16, math.MaxUint16-1), native(16, math.MaxInt16), true},
		{'S', native(16, 3), native(16, math.MaxUint16-1), native(16, math.MaxUint16), false},
		{'n', "\x00\x03", "\xff\xfe", "\xff\xff", false},
		{'v', "\x03\x00", "\xfe\xff", "\xff\xff", false},
		{'l', native(32, 3), native(32, math.MaxUint32-1), native(32, math.MaxInt32), true},
		{'L', native(32, 3), native(32, math.MaxUint32-1), native(32, math.MaxUint32), false},
		{'N', "\x00\x00\x00\x03", "\xff\xff\xff\xfe", "\xff\xff\xff\xff", false},
		{'V', "\x03\x00\x00\x00", "\xfe\xff\xff\xff", "\xff\xff\xff\xff", false},
		{'q', native(64, 3), native(64, math.MaxUint64-1), native(64, math.MaxInt64), true},
		{'Q', native(64, 3), native(64, math.MaxUint64-1), native(64, math.MaxUint64), false},
		{'J', "\x00\x00\x00\x00\x00\x00\x00\x03", "\xff\xff\xff\xff\xff\xff\xff\xfe", "\xff\xff\xff\xff\xff\xff\xff\xff", false},
		{'P', "\x03\x00\x00\x00\x00\x00\x00\x00", "\xfe\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff", false},
	} {
		t.Run(string(tt.letter), func(t *testing.T) {
			width := len(tt.three)
			f := must(NewLength(LengthField{Type: tt.letter, Offset: 2, BodyOffset: 2 + width}, 100))
			a, b := "ab"+tt.three+"xyz", "cd"+tt.three+"XYZ"
			requireOutcome(t, f, a+b, outcome{packets: []string{a, b}})

			broken := ErrPacketTooLarge
			if tt.signed {
				broken = ErrMalformed
			}
			requireOutcome(t, f, a+"ab"+tt.minus+"xyz", outcome{packets: []string{a}, err: broken})
			requireOutcome(t, f, a+"ab"+tt.ff+"xyz", outcome{packets: []string{a}, err: ErrPacketTooLarge})
		})
	}
}

func TestLengthTypeIsNByDefault(t *testing.T) {
	requireOutcome(t, must(NewLength(LengthField{BodyOffset: 4}, 100)), "\x00\x00\x00\x01x", outcome{packets: []string{"\x00\x00\x00\x01x"}})
}

func TestLengthPacketIsBodyOffsetPlusLength(t *testing.T) {
	for _, tt := range []struct {
		name   string
		field  LengthField
		stream string
		want   outcome
	}{
		{"length of the body", LengthField{Type: 'n', BodyOffset: 2}, "\x00\x02ab\x00\x00\x00\x01c",
			outcome{packets: []string{"\x00\x02ab", "\x00\x00", "\x00\x01c"}}},
		{"length of the whole packet", LengthField{Type: 'n'}, "\x00\x04ab\x00\x02\x00\x03c",
			outcome{packets: []string{"\x00\x04ab", "\x00\x02", "\x00\x03c"}}},
		{"header goes on behind the field", LengthField{Type: 'C', Offset: 1, BodyOffset: 4}, "M\x02hhbbM\x00hh",
			outcome{packets: []string{"M\x02hhbb", "M\x00hh"}}},
		{"length without the bytes in front", LengthField{Type: 'C', Offset: 3, BodyOffset: 3}, "abc\x02d",
			outcome{packets: []string{"abc\x02d"}}},
		{"end within the header is no packet", LengthField{Type: 'n', BodyOffset: 2}, "\x00\x01a\x00",
			outcome{packets: []string{"\x00\x01a"}, rest: "\x00"}},
		{"end within the body is no packet", LengthField{Type: 'n', BodyOffset: 2}, "\x00\x05abcd", outcome{rest: "\x00\x05abcd"}},
		{"size 0", LengthField{Type: 'n'}, "\x00\x02\x00\x00", outcome{packets: []string{"\x00\x02"}, err: ErrMalformed}},
		{"ends inside its length field", LengthField{Type: 'n'}, "\x00\x01", outcome{err: ErrMalformed}},
		{"ends before its length field", LengthField{Type: 'n', Offset: 4, BodyOffset: 2}, "abcd\x00\x01", outcome{err: ErrMalformed}},
		{"ends with its length field", LengthField{Type: 'n', Offset: 4, BodyOffset: 2}, "abcd\x00\x04", outcome{packets: []string{"abcd\x00\x04"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireOutcome(t, must(NewLength(tt.field, 100)), tt.stream, tt.want)
		})
	}
}

func TestLengthLimitIsExactAndKnownFromTheHeader(t *testing.T) {
	f := must(NewLength(LengthField{Type: 'n', BodyOffset: 2}, 10))
	requireOutcome(t, f, "\x00\x0812345678", outcome{packets: []string{"\x00\x0812345678"}})
	requireOutcome(t, f, "\x00\x09", outcome{err: ErrPacketTooLarge})

	f = must(NewLength(LengthField{Type: 'n'}, 10))
	requireOutcome(t, f, "\x00\x0a12345678", outcome{packets: []string{"\x00\x0a12345678"}})
	requireOutcome(t, f, "\x00\x0b", outcome{err: ErrPacketTooLarge})

	// A body offset as large as the limit leaves room for length 0 alone.
	f = must(NewLength(LengthField{Type: 'n', BodyOffset: 10}, 10))
	requireOutcome(t, f, "\x00\x0012345678", outcome{packets: []string{"\x00\x0012345678"}})
	requireOutcome(t, f, "\x00\x01", outcome{err: ErrPacketTooLarge})
}

func TestLengthHugeLengthsDoNotOverflow(t *testing.T) {
	for _, length := range []uint64{math.MaxUint64, math.MaxUint64 - 7, math.MaxInt64, math.MaxInt64 + 1, math.MaxInt64 - 7,
		math.MaxUint32, 1 << 32, math.MaxInt32, 1 << 31} {
		for _, limit := range []int{1000, math.MaxInt32 - 1} {
			for _, body := range []int{0, 8, 1000} {
				f := must(NewLength(LengthField{Type: 'J', BodyOffset: body}, limit))
				_, _, err := f.Next(binary.BigEndian.AppendUint64(nil, length), false)
				if !errors.Is(err, ErrPacketTooLarge) {
					t.Errorf("length %d, body offset %d, limit %d: %v", length, body, limit, err)
				}
			}
		}
	}
	// The largest limit there is: whatever fits into an int passes and is waited for.
	f := must(NewLength(LengthField{Type: 'J', BodyOffset: 8}, math.MaxInt))
	if n, pkt, err := f.Next(binary.BigEndian.AppendUint64(nil, math.MaxInt-8), false); n != 0 || pkt != nil || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	if f.Want() != math.MaxInt {
		t.Fatalf("Want() = %d", f.Want())
	}
	f.Reset()
	if _, _, err := f.Next(binary.BigEndian.AppendUint64(nil, math.MaxInt-7), false); !errors.Is(err, ErrPacketTooLarge) {
		t.Fatal(err)
	}
}

func TestLengthErrorsGiveFigures(t *testing.T) {
	for _, tt := range []struct {
		field LengthField
		data  string
		want  string
	}{
		{LengthField{Type: 'J', BodyOffset: 8}, "\xff\xff\xff\xff\xff\xff\xff\xff",
			"packet too large: length 18446744073709551615 and body offset 8, limit 50 bytes"},
		{LengthField{Type: 'c', BodyOffset: 1}, "\xfe", "malformed packet: length -2 is negative"},
		{LengthField{Type: 'n'}, "\x00\x01", "malformed packet: length 1 and body offset 0 end the packet before its length field ends, at byte 2"},
		{LengthField{Func: func([]byte) (int, error) { return 51, nil }}, "x", "packet too large: 51 bytes, limit 50"},
		{LengthField{Func: func([]byte) (int, error) { return -3, nil }}, "x", "malformed packet: length function returned -3"},
		{LengthField{Func: func([]byte) (int, error) { return 0, nil }}, strings.Repeat("x", 60), "packet too large: length unknown after 50 bytes, the limit"},
	} {
		if _, _, err := must(NewLength(tt.field, 50)).Next([]byte(tt.data), false); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestLengthWantsTheHeaderThenThePacket(t *testing.T) {
	f := must(NewLength(LengthField{Type: 'n', Offset: 1, BodyOffset: 4}, 100))
	requireWant := func(when string, want int) {
		t.Helper()
		if f.Want() != want {
			t.Fatalf("%s: Want() = %d, want %d", when, f.Want(), want)
		}
	}
	requireWant("new", 3)
	f.Next([]byte("a\x00"), false)
	requireWant("within the header", 3)
	f.Next([]byte("a\x00\x10"), false)
	requireWant("header known", 20)
	f.Next([]byte("a\x00\x10-56789"), false)
	requireWant("within the body", 20)
	if n, _, _ := f.Next([]byte("a\x00\x10-5678901234567890+"), false); n != 20 {
		t.Fatalf("advance %d", n)
	}
	requireWant("after the packet", 3)
	f.Next([]byte("a\x00\x10"), false)
	f.Reset()
	requireWant("after Reset", 3)
}

// netstring is "5:hello,": a length in decimal digits, for which no pack letter exists.
func netstring(header []byte) (int, error) {
	digits, _, found := bytes.Cut(header, []byte(":"))
	if len(digits) > 3 {
		return 0, errNetstring
	}
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, errNetstring
		}
		n = n*10 + int(c-'0')
	}
	if !found {
		return 0, nil
	}
	return len(digits) + 1 + n + 1, nil
}

var errNetstring = errors.New("not a netstring")

func TestLengthFuncGivesTheSize(t *testing.T) {
	f := must(NewLength(LengthField{Func: netstring}, 20))
	requireOutcome(t, f, "5:hello,0:,12:hello, world,", outcome{packets: []string{"5:hello,", "0:,", "12:hello, world,"}})
	requireOutcome(t, f, "16:0123456789012345,17:", outcome{packets: []string{"16:0123456789012345,"}, err: ErrPacketTooLarge})
	requireOutcome(t, f, "5:hello,x", outcome{packets: []string{"5:hello,"}, err: ErrMalformed})
	requireOutcome(t, f, "5:hello,x", outcome{packets: []string{"5:hello,"}, err: errNetstring})

	minus := func([]byte) (int, error) { return -1, nil }
	requireOutcome(t, must(NewLength(LengthField{Func: minus}, 20)), "a", outcome{err: ErrMalformed})
	one := func([]byte) (int, error) { return 1, nil }
	requireOutcome(t, must(NewLength(LengthField{Func: one}, 20)), "abc", outcome{packets: []string{"a", "b", "c"}})
	never := func([]byte) (int, error) { return 0, nil }
	requireOutcome(t, must(NewLength(LengthField{Func: never}, 4)), "abc", outcome{rest: "abc"})
	requireOutcome(t, must(NewLength(LengthField{Func: never}, 4)), "abcd", outcome{err: ErrPacketTooLarge})
}

func TestLengthFuncReplacesTheFields(t *testing.T) {
	f := must(NewLength(LengthField{Type: 'X', Offset: -1, BodyOffset: -1, Func: netstring}, 20))
	requireOutcome(t, f, "1:a,", outcome{packets: []string{"1:a,"}})
}

func TestLengthFuncSeesAllBytesAndIsAskedOnce(t *testing.T) {
	var seen []string
	f := must(NewLength(LengthField{Func: func(header []byte) (int, error) {
		seen = append(seen, string(header))
		return netstring(header)
	}}, 9))
	deliver(t, f, [][]byte{nil, []byte("1"), nil, []byte(":"), []byte("a"), []byte(",3:defghijklm")})
	// The empty reads ask again, which is harmless; "1:" gives the answer; the last is cut at the
	// limit.
	want := []string{"1", "1", "1:", "3:defghij", "hijklm"}
	if !slices.Equal(seen, want) {
		t.Fatalf("the function saw %q, want %q", seen, want)
	}
}

func TestLengthResetForgetsSizeAndError(t *testing.T) {
	f := must(NewLength(LengthField{Type: 'C', BodyOffset: 1}, 10))
	f.Next([]byte("\x05ab"), false)
	f.Reset()
	if n, pkt, err := f.Next([]byte("\x01ab"), false); n != 2 || string(pkt) != "\x01a" || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	if _, _, err := f.Next([]byte("\xff"), false); !errors.Is(err, ErrPacketTooLarge) {
		t.Fatal(err)
	}
	f.Reset()
	if n, _, err := f.Next([]byte("\x01ab"), false); n != 2 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
}

func TestLengthRefusesNonsense(t *testing.T) {
	for _, tt := range []struct {
		field LengthField
		max   int
		says  string
	}{
		{LengthField{}, 10, "no length framing"},
		{LengthField{Type: 'x', BodyOffset: 4}, 10, "length type 'x' is unknown"},
		{LengthField{Type: 'N', Offset: -1}, 10, "length offset -1"},
		{LengthField{Type: 'N', BodyOffset: -1}, 10, "body offset -1"},
		{LengthField{Type: 'N', Offset: 7}, 10, "field of 4 bytes at offset 7"},
		{LengthField{Type: 'N', Offset: math.MaxInt}, 10, "beyond the limit"},
		{LengthField{Type: 'J'}, 7, "field of 8 bytes at offset 0"},
		{LengthField{Type: 'N', BodyOffset: 11}, 10, "body offset 11"},
		{LengthField{Type: 'N'}, 0, "limit of 0"},
		{LengthField{Func: netstring}, -5, "limit of -5"},
	} {
		f, err := NewLength(tt.field, tt.max)
		requireConstructorError(t, f, err, tt.says)
	}
}

func TestLengthFieldIsZeroOnlyIfNothingIsSet(t *testing.T) {
	if !(LengthField{}).IsZero() {
		t.Error("the zero LengthField is not zero")
	}
	for _, f := range []LengthField{{Type: 'N'}, {Offset: 1}, {BodyOffset: 4}, {Func: netstring}} {
		if f.IsZero() {
			t.Errorf("%+v is zero", f)
		}
	}
}

func TestLengthAllocatesNothing(t *testing.T) {
	f := must(NewLength(LengthField{Type: 'n', BodyOffset: 2}, 100))
	data := []byte("\x00\x03abc")
	if n := testing.AllocsPerRun(100, func() { f.Next(data[:2], false); f.Next(data, false) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
