package packet

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

// commas is the SplitFunc of bufio's documentation for the comma-separated list whose last element
// may be empty, with STOP as an element that ends the list and isn't one.
func commas(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, ','); i >= 0 {
		if string(data[:i]) == "STOP" {
			return i + 1, nil, bufio.ErrFinalToken
		}
		return i + 1, data[:i], nil
	}
	if !atEOF {
		return 0, nil, nil
	}
	return 0, data, bufio.ErrFinalToken
}

// withoutComments cuts lines, and skips those that begin with '#' without making a token of them.
func withoutComments(data []byte, atEOF bool) (int, []byte, error) {
	n, line, err := bufio.ScanLines(data, atEOF)
	if bytes.HasPrefix(line, []byte("#")) {
		return n, nil, err
	}
	return n, line, err
}

var errColon = errors.New("colon")

// noColons gives single letters, skips spaces and fails at a colon.
func noColons(data []byte, atEOF bool) (int, []byte, error) {
	switch {
	case len(data) == 0:
		return 0, nil, nil
	case data[0] == ' ':
		return 1, nil, nil
	case data[0] == ':':
		return 0, nil, errColon
	}
	return 1, data[:1], nil
}

func TestSplitTakesAnySplitFunc(t *testing.T) {
	for _, tt := range []struct {
		name   string
		split  bufio.SplitFunc
		stream string
		want   outcome
	}{
		{"lines", bufio.ScanLines, "one\r\n\ntwo\nthree", outcome{packets: []string{"one", "", "two", "three"}}},
		{"words", bufio.ScanWords, "  one two\n\n three  ", outcome{packets: []string{"one", "two", "three"}}},
		{"runes", bufio.ScanRunes, "aé\xff€", outcome{packets: []string{"a", "é", "\ufffd", "€"}}},
		{"bytes", bufio.ScanBytes, "abc", outcome{packets: []string{"a", "b", "c"}}},
		{"final token", commas, "1,,2", outcome{packets: []string{"1", "", "2"}, err: io.EOF}},
		{"empty final token", commas, "1,2,", outcome{packets: []string{"1", "2", ""}, err: io.EOF}},
		{"empty final token of an empty stream", commas, "", outcome{packets: []string{""}, err: io.EOF}},
		{"end without final token", commas, "1,STOP,2", outcome{packets: []string{"1"}, err: io.EOF}},
		{"skipped bytes", withoutComments, "#a\n#b\nc\n#d\ne\n#f", outcome{packets: []string{"c", "e"}}},
		{"error", noColons, "ab:c", outcome{packets: []string{"a", "b"}, err: errColon}},
		{"error behind skipped bytes", noColons, "a  :c", outcome{packets: []string{"a"}, err: errColon}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireOutcome(t, must(NewSplit(tt.split, 100)), tt.stream, tt.want)
		})
	}
}

func TestSplitSkipsInsideOneCall(t *testing.T) {
	f := must(NewSplit(withoutComments, 100))
	n, pkt, err := f.Next([]byte("#a\n#b\nc\nd"), false)
	if n != 8 || string(pkt) != "c" || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
}

func TestSplitReportsSkippedBytesWithoutAPacket(t *testing.T) {
	for _, data := range []string{"#a\n#b\n", "#a\n#b\n#c"} {
		n, pkt, err := must(NewSplit(withoutComments, 100)).Next([]byte(data), false)
		if n != 6 || pkt != nil || err != nil {
			t.Fatalf("%q: got %d, %q, %v", data, n, pkt, err)
		}
	}
	// So a stream of nothing but comments never breaks the limit.
	out := deliver(t, must(NewSplit(withoutComments, 5)), cut(bytes.Repeat([]byte("#ab\n"), 1000), 3))
	if out.err != nil || out.packets != nil || out.rest != "" {
		t.Fatalf("got %+v", out)
	}
}

func TestSplitReportsSkippedBytesBeforeTheError(t *testing.T) {
	f := must(NewSplit(noColons, 100))
	if n, pkt, err := f.Next([]byte("  :"), false); n != 2 || pkt != nil || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	if n, pkt, err := f.Next([]byte(":"), false); n != 0 || pkt != nil || err != errColon {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
}

func TestSplitLimitBoundsWhatIsBuffered(t *testing.T) {
	for _, tt := range []struct {
		name, stream string
		want         outcome
	}{
		{"max bytes", "1234\n1234\n", outcome{packets: []string{"1234", "1234"}}},
		{"one byte more", "1\n12345\n", outcome{packets: []string{"1"}, err: ErrPacketTooLarge}},
		{"max bytes without a token", "12345", outcome{err: ErrPacketTooLarge}},
		{"last token without a line feed", "1\n1234", outcome{packets: []string{"1", "1234"}}},
		{"skipped bytes don't count", "#23\n#23\n1234\n", outcome{packets: []string{"1234"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requireOutcome(t, must(NewSplit(withoutComments, 5)), tt.stream, tt.want)
		})
	}
}

// Were it not so, a last token of max bytes would pass or not depending on whether the end came in
// the same read.
func TestSplitLimitIsTheSameAtTheEnd(t *testing.T) {
	f := must(NewSplit(bufio.ScanLines, 5))
	if n, pkt, err := f.Next([]byte("12345"), true); !errors.Is(err, ErrPacketTooLarge) {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	f.Reset()
	if n, pkt, err := f.Next([]byte("1234"), true); n != 4 || string(pkt) != "1234" || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
}

func TestSplitSeesEmptyDataOnlyAtTheEnd(t *testing.T) {
	f := must(NewSplit(func(data []byte, atEOF bool) (int, []byte, error) {
		if len(data) == 0 && !atEOF {
			t.Error("called with empty data before the end")
		}
		return bufio.ScanWords(data, atEOF)
	}, 100))
	requireOutcome(t, f, " a  b ", outcome{packets: []string{"a", "b"}})
}

func TestSplitFinalTokenLeavesWhatFollows(t *testing.T) {
	f := must(NewSplit(commas, 100))
	data := []byte("STOP,raw bytes")
	n, pkt, err := f.Next(data, false)
	if n != 5 || pkt != nil || err != nil {
		t.Fatalf("got %d, %q, %v", n, pkt, err)
	}
	requireSticky(t, f, io.EOF)
}

func TestSplitFinalTokenMayComeWithAWildAdvance(t *testing.T) {
	for advance, want := range map[int]int{-1: 0, 2: 2, 99: 3} {
		f := must(NewSplit(func(data []byte, _ bool) (int, []byte, error) {
			return advance, data[:1], bufio.ErrFinalToken
		}, 100))
		if n, pkt, err := f.Next([]byte("abc"), false); n != want || string(pkt) != "a" || err != nil {
			t.Errorf("advance %d: got %d, %q, %v", advance, n, pkt, err)
		}
		requireSticky(t, f, io.EOF)
	}
}

func TestSplitTokensWithoutAdvance(t *testing.T) {
	// Each byte twice: as a token that consumes nothing, then as one that does.
	second := false
	twice := func(data []byte, _ bool) (int, []byte, error) {
		if len(data) == 0 {
			return 0, nil, nil
		}
		second = !second
		if second {
			return 0, data[:1], nil
		}
		return 1, data[:1], nil
	}
	requireOutcome(t, must(NewSplit(twice, 100)), "abc", outcome{packets: []string{"a", "a", "b", "b", "c", "c"}})
}

func TestSplitTokensWithoutAdvanceAreBounded(t *testing.T) {
	for _, atEOF := range []bool{false, true} {
		f := must(NewSplit(func([]byte, bool) (int, []byte, error) { return 0, []byte{}, nil }, 100))
		for i := range 100 {
			if n, pkt, err := f.Next([]byte("x"), atEOF); n != 0 || pkt == nil || err != nil {
				t.Fatalf("call %d: got %d, %q, %v", i, n, pkt, err)
			}
		}
		if _, pkt, err := f.Next([]byte("x"), atEOF); pkt != nil || !errors.Is(err, io.ErrNoProgress) {
			t.Fatalf("got %q, %v", pkt, err)
		}
	}
}

func TestSplitTokensWithoutAdvanceAreCountedInARow(t *testing.T) {
	for name, pause := range map[string]struct {
		advance int
		token   []byte
	}{
		"bytes consumed":    {1, []byte{}},
		"more bytes needed": {0, nil},
	} {
		calls := 0
		f := must(NewSplit(func([]byte, bool) (int, []byte, error) {
			if calls++; calls%60 == 0 {
				return pause.advance, pause.token, nil
			}
			return 0, []byte{}, nil
		}, 100))
		for range 300 {
			if _, _, err := f.Next([]byte("x"), false); err != nil {
				t.Fatalf("%s: call %d: %v", name, calls, err)
			}
		}
	}
}

func TestSplitEmptyPacketsThatConsumeAreNotBounded(t *testing.T) {
	out := deliver(t, must(NewSplit(bufio.ScanLines, 10)), cut(bytes.Repeat([]byte("\n"), 1000), 200))
	if len(out.packets) != 1000 || out.err != nil {
		t.Fatalf("%d packets, error %v", len(out.packets), out.err)
	}
}

func TestSplitRefusesAWildAdvance(t *testing.T) {
	for _, tt := range []struct {
		advance int
		token   []byte
		want    error
	}{
		{-1, nil, bufio.ErrNegativeAdvance},
		{-1, []byte("x"), bufio.ErrNegativeAdvance},
		{4, nil, bufio.ErrAdvanceTooFar},
		{4, []byte("x"), bufio.ErrAdvanceTooFar},
	} {
		f := must(NewSplit(func([]byte, bool) (int, []byte, error) { return tt.advance, tt.token, nil }, 100))
		n, pkt, err := f.Next([]byte("abc"), false)
		if n != 0 || pkt != nil || !errors.Is(err, tt.want) {
			t.Errorf("advance %d: got %d, %q, %v", tt.advance, n, pkt, err)
		}
		requireSticky(t, f, err)
	}
	// Too far is what is behind the bytes that split was shown, be there more or not.
	f := must(NewSplit(func([]byte, bool) (int, []byte, error) { return 3, nil, nil }, 2))
	if _, _, err := f.Next([]byte("abc"), false); !errors.Is(err, bufio.ErrAdvanceTooFar) {
		t.Errorf("got %v", err)
	}
}

func TestSplitPanicsAreTheCallers(t *testing.T) {
	f := must(NewSplit(func([]byte, bool) (int, []byte, error) { panic("mine") }, 10))
	defer func() {
		if got := recover(); got != "mine" {
			t.Fatalf("recovered %v", got)
		}
	}()
	f.Next([]byte("x"), false)
}

func TestSplitResetForgetsErrorAndCount(t *testing.T) {
	f := must(NewSplit(func(data []byte, _ bool) (int, []byte, error) { return 0, data, nil }, 100))
	for range 100 {
		f.Next([]byte("x"), false)
	}
	f.Reset()
	for i := range 100 {
		if _, _, err := f.Next([]byte("x"), false); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if _, _, err := f.Next([]byte("x"), false); err == nil {
		t.Fatal("no error")
	}
	f.Reset()
	if _, pkt, err := f.Next([]byte("x"), false); string(pkt) != "x" || err != nil {
		t.Fatalf("got %q, %v", pkt, err)
	}
}

func TestSplitRefusesNonsense(t *testing.T) {
	f, err := NewSplit(nil, 10)
	requireConstructorError(t, f, err, "split function is nil")
	f, err = NewSplit(bufio.ScanLines, 0)
	requireConstructorError(t, f, err, "limit of 0")
}

func TestSplitAllocatesNothing(t *testing.T) {
	f := must(NewSplit(bufio.ScanLines, 100))
	data := []byte("220 ready\r\n")
	if n := testing.AllocsPerRun(100, func() { f.Next(data[:3], false); f.Next(data, false) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// A SplitFunc is called for what is new, and not again because somebody looks.
func TestSplitLooksOnceAtWhatHasCome(t *testing.T) {
	calls := 0
	f, err := NewSplit(func(data []byte, atEOF bool) (int, []byte, error) {
		calls++
		return bufio.ScanLines(data, atEOF)
	}, 100)
	if err != nil {
		t.Fatal(err)
	}
	next := func(data string, atEOF bool, want string, wantCalls int) {
		t.Helper()
		before := calls
		_, pkt, err := f.Next([]byte(data), atEOF)
		if err != nil || string(pkt) != want || calls-before != wantCalls {
			t.Errorf("%q: %q, %v after %d calls, want %q after %d", data, pkt, err, calls-before, want, wantCalls)
		}
	}
	next("ab", false, "", 1)
	next("ab", false, "", 0)
	next("abc", false, "", 1)
	next("abc\nde", false, "abc", 1)
	next("def", false, "", 1) // as long as what was looked at before
	next("def", false, "", 0)
	next("def", true, "def", 1)
	f.Reset()
	next("def", false, "", 1)
}

// Without a limit of its own a Rule with Split has that of bufio.Scanner.
func TestDefaultLimitOfSplit(t *testing.T) {
	f, err := Rule{Split: bufio.ScanLines}.Framer()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Next(make([]byte, DefaultSplitMax-1), false); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Next(make([]byte, DefaultSplitMax), false); !errors.Is(err, ErrPacketTooLarge) {
		t.Error(err)
	}
}
