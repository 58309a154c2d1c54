package text

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/whorl-go/whorl/internal/tlstest"
)

func TestCutKeepsCharactersWhole(t *testing.T) {
	for limit := range 10 {
		s, more := cut("a€€", limit)
		if !utf8.ValidString(s) || len(s) > limit || more != (limit < 7) {
			t.Errorf("cut at %d: %q, %v", limit, s, more)
		}
	}
	if s, _ := cut(strings.Repeat("\x80", 9), 5); len(s) > 5 {
		t.Errorf("%q is longer than 5 bytes", s)
	}
}

func FuzzWhatIsPrinted(f *testing.F) {
	for _, s := range []string{"mail.test", tlstest.Nasty, strings.Repeat("€", 1000), "\U0010ffff", "\u202e", "\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{Quoted(s), Printable(s, MaxText)} {
			tlstest.CheckLine(t, out)
			if len(out) > 10*MaxName+MaxText {
				t.Errorf("%d bytes for %d", len(out), len(s))
			}
		}
	})
}
