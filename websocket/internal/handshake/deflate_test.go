package handshake

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/websocket/internal/engine"
)

func offers(lines ...string) http.Header { return http.Header{headerExtensions: lines} }

var all = engine.Deflate{SendTakeover: true, ReceiveTakeover: true}

// show is "send bits, receive bits", each with + for takeover.
func show(d engine.Deflate) string {
	mark := map[bool]string{true: "+"}
	return fmt.Sprintf("%d%s %d%s", d.SendBits, mark[d.SendTakeover], d.ReceiveBits, mark[d.ReceiveTakeover])
}

func TestAnswer(t *testing.T) {
	const none = "no"
	for _, c := range []struct {
		offer  string
		most   engine.Deflate
		agreed string
		header string
	}{
		{"permessage-deflate", all, "15+ 15+", "permessage-deflate"},
		{
			"permessage-deflate", engine.Deflate{}, "15 15",
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
		},
		{"permessage-deflate; client_max_window_bits", all, "15+ 15+", "permessage-deflate"},
		{
			"permessage-deflate; client_max_window_bits",
			engine.Deflate{
				SendBits:        10,
				ReceiveBits:     11,
				SendTakeover:    true,
				ReceiveTakeover: true,
			},
			"10+ 11+", "permessage-deflate; client_max_window_bits=11",
		},
		// A client that can't be asked for a smaller window isn't allowed to take it over.
		{
			"permessage-deflate",
			engine.Deflate{ReceiveBits: 11, ReceiveTakeover: true, SendTakeover: true}, "15+ 15",
			"permessage-deflate; client_no_context_takeover",
		},
		{
			"permessage-deflate; client_max_window_bits=10", all, "15+ 10+",
			"permessage-deflate; client_max_window_bits=10",
		},
		{
			"permessage-deflate; client_max_window_bits=12", engine.Deflate{ReceiveBits: 10},
			"15 10",
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=10",
		},
		{
			"permessage-deflate; client_max_window_bits=8", all, "15+ 8+",
			"permessage-deflate; client_max_window_bits=8",
		},
		// zlib has no 8.
		{
			"permessage-deflate; client_max_window_bits",
			engine.Deflate{ReceiveBits: 8, SendTakeover: true, ReceiveTakeover: true},
			"15+ 9+", "permessage-deflate; client_max_window_bits=9",
		},
		{
			"permessage-deflate; server_max_window_bits=10", all, "10+ 15+",
			"permessage-deflate; server_max_window_bits=10",
		},
		{
			"permessage-deflate; server_max_window_bits=12",
			engine.Deflate{SendBits: 9, SendTakeover: true, ReceiveTakeover: true}, "9+ 15+",
			"permessage-deflate; server_max_window_bits=9",
		},
		{
			"permessage-deflate; server_max_window_bits=8", all, "8+ 15+",
			"permessage-deflate; server_max_window_bits=8",
		},
		{
			"permessage-deflate; server_max_window_bits=15", all, "15+ 15+",
			"permessage-deflate; server_max_window_bits=15",
		},
		{
			"permessage-deflate; server_no_context_takeover", all, "15 15+",
			"permessage-deflate; server_no_context_takeover",
		},
		{
			"permessage-deflate; client_no_context_takeover", all, "15+ 15",
			"permessage-deflate; client_no_context_takeover",
		},
		{
			`permessage-deflate; server_max_window_bits="10"`, all, "10+ 15+",
			"permessage-deflate; server_max_window_bits=10",
		},
		{
			`permessage-deflate;client_max_window_bits = "11";server_no_context_takeover`, all,
			"15 11+", "permessage-deflate; server_no_context_takeover; client_max_window_bits=11",
		},
		{"x-webkit-deflate-frame, permessage-deflate; client_no_context_takeover", all, "15+ 15", "permessage-deflate; client_no_context_takeover"},
		// Several offers: the first that can be taken.
		{
			"permessage-deflate; server_max_window_bits=10, permessage-deflate", all, "10+ 15+",
			"permessage-deflate; server_max_window_bits=10",
		},
		{
			"permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", all,
			"9+ 15+", "permessage-deflate; server_max_window_bits=9",
		},
		{
			"permessage-deflate; server_max_window_bits=7, permessage-deflate", all, "15+ 15+",
			"permessage-deflate",
		},
		{
			"permessage-deflate; server_no_context_takeover; server_no_context_takeover, permessage-deflate",
			all, "15+ 15+", "permessage-deflate",
		},
		// Void offers.
		{"", all, none, ""},
		{"x-webkit-deflate-frame", all, none, ""},
		{"permessage-bzip2", all, none, ""},
		{"Permessage-Deflate", all, none, ""},
		{"permessage-deflate; unknown", all, none, ""},
		{"permessage-deflate; unknown=1", all, none, ""},
		{"permessage-deflate; server_max_window_bits", all, none, ""},
		{"permessage-deflate; server_max_window_bits=", all, none, ""},
		{`permessage-deflate; server_max_window_bits=""`, all, none, ""},
		{"permessage-deflate; server_max_window_bits=7", all, none, ""},
		{"permessage-deflate; server_max_window_bits=16", all, none, ""},
		{"permessage-deflate; server_max_window_bits=08", all, none, ""},
		{"permessage-deflate; server_max_window_bits=010", all, none, ""},
		{"permessage-deflate; server_max_window_bits=+9", all, none, ""},
		{"permessage-deflate; server_max_window_bits=-9", all, none, ""},
		{"permessage-deflate; server_max_window_bits=1e", all, none, ""},
		{"permessage-deflate; client_max_window_bits=7", all, none, ""},
		{"permessage-deflate; client_max_window_bits=16", all, none, ""},
		{`permessage-deflate; client_max_window_bits=""`, all, none, ""},
		{`permessage-deflate; client_max_window_bits="\8"`, all, none, ""},
		{`permessage-deflate; client_max_window_bits="1\0"`, all, none, ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", all, none, ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits=10", all, none, ""},
		{"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", all, none, ""},
		{"permessage-deflate; server_no_context_takeover=1", all, none, ""},
		{"permessage-deflate; client_no_context_takeover=true", all, none, ""},
		{`permessage-deflate; client_no_context_takeover=""`, all, none, ""},
		{"permessage-deflate; ; client_max_window_bits", all, none, ""},
		{"permessage-deflate; client_max_window_bits=(10)", all, none, ""},
		{`permessage-deflate; client_max_window_bits="10`, all, none, ""},
	} {
		agreed, header, ok := Answer(offers(c.offer), c.most)
		if !ok {
			if c.agreed != none {
				t.Errorf("%s: declined", c.offer)
			}
			continue
		}
		if show(agreed) != c.agreed || header != c.header {
			t.Errorf("%s:\ngot  %s, %s\nwant %s, %s", c.offer, show(agreed), header, c.agreed, c.header)
		}
	}
	if _, _, ok := Answer(http.Header{}, all); ok {
		t.Error("an answer to no offer")
	}
	agreed, _, ok := Answer(offers("permessage-deflate; oops", "permessage-deflate; server_max_window_bits=10"), all)
	if !ok || agreed.SendBits != 10 {
		t.Error("the offer of the second line isn't taken")
	}
}

func TestOffer(t *testing.T) {
	for want, most := range map[string]engine.Deflate{
		"permessage-deflate; client_max_window_bits":                                                         all,
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits": {},
		"permessage-deflate; server_max_window_bits=10; client_max_window_bits=11": {
			SendBits: 11, ReceiveBits: 10, SendTakeover: true, ReceiveTakeover: true},
		"permessage-deflate; server_max_window_bits=9; client_max_window_bits=8": {
			SendBits: 8, ReceiveBits: 8, SendTakeover: true, ReceiveTakeover: true},
	} {
		if got := Offer(most); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAgree(t *testing.T) {
	small := engine.Deflate{SendBits: 11, ReceiveBits: 10, SendTakeover: true, ReceiveTakeover: true}
	for _, c := range []struct {
		answer string
		most   *engine.Deflate
		want   string // or what the error says, after "!"
	}{
		{"", &all, "none"},
		{"", nil, "none"},
		{"permessage-deflate", &all, "15+ 15+"},
		{"permessage-deflate; server_no_context_takeover", &all, "15+ 15"},
		{"permessage-deflate; client_no_context_takeover", &all, "15 15+"},
		{"permessage-deflate; server_max_window_bits=9", &all, "15+ 9+"}, // may come unasked for
		{"permessage-deflate; client_max_window_bits=9", &all, "9+ 15+"},
		{"permessage-deflate; client_max_window_bits=8", &all, "8+ 15+"},
		{`permessage-deflate; client_max_window_bits="12"`, &all, "12+ 15+"},
		{"permessage-deflate; server_max_window_bits=10", &small, "11+ 10+"},
		{
			"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", &small,
			"10+ 9+",
		},
		{
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
			&engine.Deflate{}, "15 15",
		},
		{"permessage-deflate; server_no_context_takeover", &engine.Deflate{}, "15 15"},

		{"permessage-deflate", nil, `!"permessage-deflate" wasn't offered`},
		{"permessage-bzip2", &all, `!"permessage-bzip2" wasn't offered`},
		{"permessage-deflate, permessage-bzip2", &all, `!"permessage-bzip2" in addition`},
		{"permessage-deflate, permessage-deflate", &all, "!in addition"},
		{"permessage-deflate; unknown", &all, `!"unknown" is no parameter`},
		{
			"permessage-deflate; server_no_context_takeover; server_no_context_takeover", &all,
			"!comes twice",
		},
		{"permessage-deflate; server_no_context_takeover=1", &all, "!has a value"},
		{"permessage-deflate; client_max_window_bits", &all, "!not 8 to 15"},
		{"permessage-deflate; server_max_window_bits", &all, "!not 8 to 15"},
		{"permessage-deflate; server_max_window_bits=16", &all, "!not 8 to 15"},
		{"permessage-deflate; client_max_window_bits=7", &all, "!not 8 to 15"},
		{"permessage-deflate; server_max_window_bits=11", &small, "!11, of 10 offered"},
		{
			"permessage-deflate; server_max_window_bits=10; client_max_window_bits=12", &small,
			"!12, of 11 offered",
		},
		{"permessage-deflate", &small, "!server_max_window_bits was offered and isn't there"},
		{
			"permessage-deflate", &engine.Deflate{},
			"!server_no_context_takeover was offered and isn't there",
		},
		{"permessage-deflate; =", &all, "!malformed"},
		{"permessage-deflate,;", &all, "!malformed"},
	} {
		h := http.Header{}
		if c.answer != "" {
			h = offers(c.answer)
		}
		agreed, err := Agree(h, c.most)
		got := "none"
		switch {
		case err != nil:
			var e *ResponseError
			if !errors.As(err, &e) || e.Layer != LayerExtensions {
				t.Errorf("%s: %v", c.answer, err)
			}
			got = "!" + err.Error()
		case agreed != nil:
			got = show(*agreed)
		}
		if want, fails := strings.CutPrefix(c.want, "!"); fails != (err != nil) || !strings.Contains(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", c.answer, got, c.want)
		}
	}
	if _, err := Agree(offers("permessage-deflate", "permessage-deflate"), &all); err == nil {
		t.Error("two lines are taken")
	}
}

// Whatever two ends of ours can do, they agree, and they see the same thing.
func TestOfferAndAnswerAgree(t *testing.T) {
	ends := func(yield func(engine.Deflate) bool) {
		for _, send := range []int{0, 8, 9, 12, 15} {
			for _, receive := range []int{0, 8, 9, 12, 15} {
				for takeover := range 4 {
					if !yield(engine.Deflate{SendBits: send, ReceiveBits: receive,
						SendTakeover: takeover&1 != 0, ReceiveTakeover: takeover&2 != 0}) {
						return
					}
				}
			}
		}
	}
	for client := range ends {
		for server := range ends {
			ours, header, ok := Answer(offers(Offer(client)), server)
			if !ok {
				t.Fatalf("%s: declined", Offer(client))
			}
			theirs, err := Agree(offers(header), &client)
			if err != nil {
				t.Fatalf("%s, %s: %v", Offer(client), header, err)
			}
			if theirs.SendBits > ours.ReceiveBits || theirs.ReceiveBits < ours.SendBits ||
				theirs.SendTakeover && !ours.ReceiveTakeover || ours.SendTakeover && !theirs.ReceiveTakeover {
				t.Fatalf("%s, %s: %s against %s", Offer(client), header, show(*theirs), show(ours))
			}
		}
	}
}
