//go:build linux

package stream_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
)

// lineCase is a stream and the lines that are to be found in it.
type lineCase struct {
	name, text string
	max        int
	ending     string
	want       []string
	gets       bool // want is of Gets and not of GetLine
}

var lineCases = []lineCase{
	{"one byte", "a\nb\n\nc", 100, "\n", []string{"a", "b", "", "c"}, false},
	{"two bytes", "a\r\nb\rc\n\r\nd\r", 100, "\r\n", []string{"a", "b\rc\n", "d\r"}, false},
	{"many bytes", "one<end>two<en<end>three", 100, "<end>", []string{"one", "two<en", "three"}, false},
	{"overlapping", "aaab", 100, "aab", []string{"a"}, false},
	{"exactly as long as may be", "abcd\nefgh\n", 5, "\n", []string{"abcd", "efgh"}, false},
	{"too long", "abcdefg\nh\n", 5, "\n", []string{"abcde", "fg", "h"}, false},
	{"cut before the ending", "abcde\nf", 5, "\n", []string{"abcde", "", "f"}, false},
	{"cut within the ending", "abcd\r\nf", 5, "\r\n", []string{"abcd\r", "\nf"}, false},
	{"one at a time", "ab", 1, "\n", []string{"a", "b"}, false},
	{"blocks", "abcdefgh", 3, "", []string{"abc", "def", "gh"}, false},
	{"nothing", "", 3, "\n", nil, false},
	{"nothing but endings", "\n\n", 3, "\n", []string{"", ""}, false},
	{"NUL", "a\x00b\x00", 9, "\x00", []string{"a", "b"}, false},
	{"gets", "a\nbc\r\n\nd", 100, "", []string{"a\n", "bc\r\n", "\n", "d"}, true},
	{"gets, too long", "abcdef\ng\n", 4, "", []string{"abcd", "ef\n", "g\n"}, true},
	{"longer than any buffer", strings.Repeat("x", 200_000) + "\ny\n", 1 << 20, "", []string{strings.Repeat("x", 200_000) + "\n", "y\n"}, true},
}

// lines takes all the lines of a stream.
func (c *lineCase) lines(ctx context.Context, s *stream.Stream) (lines []string, err error) {
	for {
		var line string
		if c.gets {
			line, err = s.Gets(ctx, c.max)
		} else {
			line, err = s.GetLine(ctx, c.max, c.ending)
		}
		switch err {
		case nil:
			lines = append(lines, line)
		case io.EOF:
			return lines, nil
		case stream.ErrWouldBlock:
			if err := runtime.Yield(ctx); err != nil {
				return lines, err
			}
		default:
			return lines, err
		}
	}
}

func TestLines(t *testing.T) {
	for _, blocking := range []bool{true, false} {
		for _, feed := range []int{1, 3, 1 << 20} {
			for _, c := range lineCases {
				if feed < 100 && len(c.text) > 1000 {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d at a time, blocking %v", c.name, feed, blocking), func(t *testing.T) {
					both(t, func(ctx context.Context, t *testing.T) {
						client, server := streamPair(ctx, t, "pair")
						server.SetBlocking(blocking)
						fed := beside(ctx, t, func(ctx context.Context) error {
							for chunk := range slices.Chunk([]byte(c.text), feed) {
								if _, err := client.Write(ctx, chunk); err != nil {
									return err
								}
								if err := runtime.Yield(ctx); err != nil {
									return err
								}
							}
							return client.Close()
						})
						got, err := c.lines(ctx, server)
						check(t, err)
						check(t, fed())
						if !slices.Equal(got, c.want) {
							t.Errorf("%.80q, want %.80q", got, c.want)
						}
						server.Close()
					})
				})
			}
		}
	}
}

func TestLinesOverTLSWithRecordsOfOneByte(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tls")
		fed := beside(ctx, t, func(ctx context.Context) error {
			for _, b := range []byte("first\r\nsecond\r\n") {
				if _, err := client.Write(ctx, []byte{b}); err != nil {
					return err
				}
			}
			return client.Close()
		})
		c := lineCase{max: 100, ending: "\r\n"}
		got, err := c.lines(ctx, server)
		check(t, err)
		check(t, fed())
		if want := []string{"first", "second"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		server.Close()
	})
}

func TestLinesAndReadsShareOneBuffer(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		write(ctx, t, client, "head: 7\r\n\r\nbody...tail|end|")
		for _, want := range []string{"head: 7", ""} {
			if line, err := server.GetLine(ctx, 100, "\r\n"); line != want || err != nil {
				t.Fatalf("%q, %v", line, err)
			}
		}
		readFull(ctx, t, server, "body...")
		// Another ending, what was scanned for the first one notwithstanding.
		for _, want := range []string{"tail", "end"} {
			if line, err := server.GetLine(ctx, 100, "|"); line != want || err != nil {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
}

func TestEndingsThatChangeWhileALineIsIncomplete(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tcp")
		server.SetBlocking(false)
		write(ctx, t, client, "a|b;c")
		becomes(ctx, t, "it has arrived", func() bool {
			_, err := server.GetLine(ctx, 100, "\n")
			return err == stream.ErrWouldBlock && server.GetMetaData().UnreadBytes == 5
		})
		if line, err := server.GetLine(ctx, 100, ";"); line != "a|b" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		if line, err := server.GetLine(ctx, 1, "\n"); line != "c" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		for _, max := range []int{0, -1} {
			if _, err := server.Gets(ctx, max); err == nil || err == stream.ErrWouldBlock {
				t.Errorf("a line of at most %d bytes: %v", max, err)
			}
		}
		client.Close()
		server.Close()
	})
}

// FuzzStreamLines compares the lines that are found piece by piece with those of the whole text.
func FuzzStreamLines(f *testing.F) {
	for _, c := range lineCases[:len(lineCases)-1] {
		f.Add(c.text, uint16(3), uint16(c.max), c.ending, c.gets)
	}
	f.Fuzz(func(t *testing.T, text string, feed, max uint16, ending string, keep bool) {
		if max == 0 || feed == 0 {
			return
		}
		var want []string
		for rest := text; rest != ""; {
			window := rest[:min(len(rest), int(max))]
			i := strings.Index(window, ending)
			switch {
			case ending == "" || i < 0:
				want = append(want, window)
				rest = rest[len(window):]
			case keep:
				want = append(want, window[:i+len(ending)])
				rest = rest[i+len(ending):]
			default:
				want = append(want, window[:i])
				rest = rest[i+len(ending):]
			}
		}
		if got := stream.SplitLines([]byte(text), int(feed), int(max), ending, keep); !slices.Equal(got, want) {
			t.Fatalf("%q, fed %d at a time, at most %d, ending %q: %q, want %q", text, feed, max, ending, got, want)
		}
	})
}
