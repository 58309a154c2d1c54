package packet

import (
	"errors"
	"strings"
	"testing"
)

func TestEOFPacketsEndWithTheFirstDelimiter(t *testing.T) {
	for _, tt := range []struct {
		name, delimiter, stream string
		want                    outcome
	}{
		{"lines", "\r\n", "220 hi\r\n250 ok\r\n", outcome{packets: []string{"220 hi\r\n", "250 ok\r\n"}}},
		{"single byte", "\n", "a\n\nb\n", outcome{packets: []string{"a\n", "\n", "b\n"}}},
		{"half a delimiter is not one", "\r\n", "a\rb\nc\r\r\n\n", outcome{packets: []string{"a\rb\nc\r\r\n"}, rest: "\n"}},
		{"repeated prefix", "aab", "aaaabaab", outcome{packets: []string{"aaaab", "aab"}}},
		{"period longer than one", "abab", "ababababab", outcome{packets: []string{"abab", "abab"}, rest: "ab"}},
		{"self-overlapping", "aa", "aaaaa", outcome{packets: []string{"aa", "aa"}, rest: "a"}},
		{"mail body", "\r\n.\r\n", "one\r\n..\r\n.x\r\n\r\n.\r\nQUIT\r\n",
			outcome{packets: []string{"one\r\n..\r\n.x\r\n\r\n.\r\n"}, rest: "QUIT\r\n"}},
		{"prefix restarts inside delimiter", "\r\n.\r\n", "\r\n.\r\r\n.\r\n", outcome{packets: []string{"\r\n.\r\r\n.\r\n"}}},
		{"bytes that aren't text", "\x00\xff", "\x00\x00\xff\xff\x00\xff", outcome{packets: []string{"\x00\x00\xff", "\xff\x00\xff"}}},
		{"longer than vector code handles", strings.Repeat("ab", 50) + "c", strings.Repeat("ab", 51) + "c",
			outcome{packets: []string{strings.Repeat("ab", 51) + "c"}}},
		{"end without delimiter is no packet", "\r\n", "a\r\nQUIT", outcome{packets: []string{"a\r\n"}, rest: "QUIT"}},
		{"empty stream", "\r\n", "", outcome{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireOutcome(t, must(NewEOF(tt.delimiter, 1000)), tt.stream, tt.want)
		})
	}
}

func TestEOFLimitIsExact(t *testing.T) {
	for _, tt := range []struct {
		name, stream string
		want         outcome
	}{
		{"max bytes pass", "123456\r\n123456\r\n", outcome{packets: []string{"123456\r\n", "123456\r\n"}}},
		{"one byte more does not", "1\r\n1234567\r\n", outcome{packets: []string{"1\r\n"}, err: ErrPacketTooLarge}},
		{"max bytes without delimiter", "12345678", outcome{err: ErrPacketTooLarge}},
		{"half of the delimiter within max", "1234567\r", outcome{err: ErrPacketTooLarge}},
		{"one byte less is waited for", "123456\r", outcome{rest: "123456\r"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireOutcome(t, must(NewEOF("\r\n", 8)), tt.stream, tt.want)
		})
	}
}

func TestEOFDelimiterAloneMayFillTheLimit(t *testing.T) {
	requireOutcome(t, must(NewEOF("\r\n", 2)), "\r\n\r\n", outcome{packets: []string{"\r\n", "\r\n"}})
	requireOutcome(t, must(NewEOF("\r\n", 2)), "\r\nx\r\n", outcome{packets: []string{"\r\n"}, err: ErrPacketTooLarge})
	requireOutcome(t, must(NewEOF("\n", 1)), "\n\n", outcome{packets: []string{"\n", "\n"}})
}

func TestEOFErrorGivesFigures(t *testing.T) {
	_, _, err := must(NewEOF("\r\n", 5)).Next([]byte("abcdefg"), false)
	want := `packet too large: no delimiter "\r\n" in 5 bytes, the limit`
	if !errors.Is(err, ErrPacketTooLarge) || err.Error() != want {
		t.Fatalf("got %q, want %q", err, want)
	}
}

// The bytes seen already are changed under the Framer's feet: if it looked at them again it would
// find a delimiter.
func TestEOFNeverScansAByteTwice(t *testing.T) {
	f := must(NewEOF("\r\n", 1000))
	if n, pkt, err := f.Next([]byte("0123456789"), false); n != 0 || pkt != nil || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	if n, pkt, err := f.Next([]byte("\r\n\r\n\r\n\r\n9 and more"), false); n != 0 || pkt != nil || err != nil {
		t.Fatalf("scanned from the start again: got %d, %q, %v", n, pkt, err)
	}
	// The last of the old bytes counts, as the delimiter's first half.
	if n, _, _ := f.Next([]byte("0123456789 and mor\r\n"), false); n != 20 {
		t.Fatalf("delimiter across two reads: advance %d, want 20", n)
	}
}

func TestEOFResetForgetsPlaceAndError(t *testing.T) {
	f := must(NewEOF("\n", 8))
	f.Next([]byte("12345"), false)
	f.Reset()
	if n, pkt, err := f.Next([]byte("a\nb\n"), false); n != 2 || string(pkt) != "a\n" || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	if _, _, err := f.Next([]byte("123456789"), false); !errors.Is(err, ErrPacketTooLarge) {
		t.Fatal(err)
	}
	f.Reset()
	if n, pkt, err := f.Next([]byte("a\n"), false); n != 2 || string(pkt) != "a\n" || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
}

func TestEOFRefusesNonsense(t *testing.T) {
	for _, tt := range []struct {
		delimiter string
		max       int
		says      string
	}{
		{"", 10, "delimiter is empty"},
		{"\n", 0, "limit of 0"},
		{"\n", -1, "limit of -1"},
		{"\r\n", 1, "delimiter has 2 bytes"},
	} {
		f, err := NewEOF(tt.delimiter, tt.max)
		requireConstructorError(t, f, err, tt.says)
	}
}

func TestEOFAllocatesNothing(t *testing.T) {
	f := must(NewEOF("\r\n", 100))
	data, half := []byte("220 ready\r\n"), []byte("220 re")
	if n := testing.AllocsPerRun(100, func() { f.Next(half, false); f.Next(data, false) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
