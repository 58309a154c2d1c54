package engine_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// words is a mechanism.
type words struct {
	initial []byte
	answers []string
	err     error
	proven  bool
}

func (w *words) Start() (string, []byte, error) { return "WORDS", w.initial, nil }
func (w *words) Proven() bool                   { return w.proven }
func (w *words) Next(challenge []byte) ([]byte, error) {
	if w.err != nil || len(w.answers) == 0 {
		return nil, w.err
	}
	answer := w.answers[0] + string(challenge)
	w.answers = w.answers[1:]
	return []byte(answer), nil
}

func TestAuth(t *testing.T) {
	long := []byte(strings.Repeat("x", 400))
	for _, test := range []struct {
		name      string
		mechanism words
		replies   []string
		said      string
		err       string
		broken    bool
	}{
		{"without initial response", words{nil, []string{"a"}, nil, true},
			[]string{"334 Yg==", "235 in"}, "AUTH WORDS|YWI=", "", false},
		{"initial response", words{[]byte("a"), nil, nil, true}, []string{"235 2.7.0 in"},
			"AUTH WORDS YQ==", "", false},
		{"an empty one", words{[]byte{}, nil, nil, true}, []string{"235 in"}, "AUTH WORDS =", "",
			false},
		{"a long one", words{long, nil, nil, true}, []string{"334 ", "235 in"},
			"AUTH WORDS|" + strings.Repeat("eHh4", 133) + "eA==", "", false},
		{"an empty answer", words{nil, nil, nil, true}, []string{"334 Yg==", "235 in"},
			"AUTH WORDS|", "", false},
		{"refused", words{}, []string{"535 5.7.8 no"}, "AUTH WORDS",
			`AUTH WORDS: refused with 535 5.7.8 "no"`, false},
		{"called off", words{err: errors.New("no way")}, []string{"334 Yg==", "501 well"},
			"AUTH WORDS|*", "AUTH WORDS: no way", false},
		{"called off, and let in", words{err: errors.New("no way")}, []string{"334 Yg==", "235 in"},
			"AUTH WORDS|*", "no way", true},
		{"no base64", words{}, []string{"334 %", "501 well"}, "AUTH WORDS|*", "base64", false},
		{"not proven", words{}, []string{"235 in"}, "AUTH WORDS", "proven", true},
		{"challenges without end", words{}, append(slices.Repeat([]string{"334 Yg=="}, 17),
			"501 well"),
			"AUTH WORDS" + strings.Repeat("|", 17) + "*", "without end", false},
		{"another code", words{}, []string{"250 in"}, "AUTH WORDS", "protocol error", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := begin(t, engine.Config{})
			check(t, e.Auth(&test.mechanism))
			said, err := talk(e, test.replies...)
			if got := strings.Join(said, "|"); got != test.said {
				t.Errorf("said %s, want %s", got, test.said)
			}
			if test.err == "" {
				check(t, err)
			} else if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
			if e.Broken() != test.broken {
				t.Errorf("broken: %v", e.Broken())
			}
		})
	}
	e := new(engine.Engine)
	e.Init(&engine.Config{Security: engine.Opportunistic}, "me.test")
	e.Begin()
	_, err := talk(e, "220 x", hello("AUTH WORDS"))
	check(t, err)
	if err := e.Auth(&words{}); err != engine.ErrAuthNeedsTLS || len(e.Output()) > 0 {
		t.Errorf("%v", err)
	}
}
