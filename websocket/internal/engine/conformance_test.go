package engine

import (
	"encoding/binary"
	"strings"
	"testing"
)

const (
	s51  = "RFC 6455, section 5.1"
	s52  = "RFC 6455, section 5.2"
	s54  = "RFC 6455, section 5.4"
	s55  = "RFC 6455, section 5.5"
	s551 = "RFC 6455, section 5.5.1"
	s74  = "RFC 6455, section 7.4"
	s741 = "RFC 6455, section 7.4.1"
	s81  = "RFC 6455, section 8.1"
	d61  = "RFC 7692, section 6.1"
	d722 = "RFC 7692, section 7.2.2"
	bare = "close 1005"
)

// A conformance is one case, for both roles. Where the outcome is an error, the stream ends with
// the first illegal byte.
type conformance struct {
	name   string
	frames []frame
	events []string
	err    string
	max    int // MaxMessage; 0: 1000
}

func closing(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

var long = strings.Repeat("0123456789", 13) // 130 bytes

// Section 5: framing.
var framingCases = []conformance{
	{name: "text", frames: []frame{{op: 1, data: "Hello"}}, events: []string{"text Hello"}},
	{
		name:   "binary",
		frames: []frame{{op: 2, data: "\x00\xff"}},
		events: []string{"binary \x00\xff"},
	},
	{name: "empty text", frames: []frame{{op: 1}}, events: []string{"text "}},
	{name: "empty binary", frames: []frame{{op: 2}}, events: []string{"binary "}},
	{
		name:   "125 bytes",
		frames: []frame{{op: 1, data: long[:125]}},
		events: []string{"text " + long[:125]},
	},
	{
		name:   "126 bytes",
		frames: []frame{{op: 1, data: long[:126]}},
		events: []string{"text " + long[:126]},
	},
	{
		name:   "several",
		frames: []frame{{op: 1, data: "a"}, {op: 2, data: "b"}, {op: 1}, {op: 1, data: "c"}},
		events: []string{"text a", "binary b", "text ", "text c"},
	},
	{
		name:   "mask of the wrong side",
		frames: []frame{{op: 1, mask: "wrong", keep: 2}},
		err:    "1002 " + s51,
	},
	{
		name:   "mask of the wrong side, ping",
		frames: []frame{{op: 9, mask: "wrong", keep: 2}},
		err:    "1002 " + s51,
	},
	{name: "RSV2", frames: []frame{{op: 1, rsv: 2, keep: 1}}, err: "1002 " + s52},
	{name: "RSV3", frames: []frame{{op: 1, rsv: 1, keep: 1}}, err: "1002 " + s52},
	{
		name:   "RSV2 and RSV3 on a ping",
		frames: []frame{{op: 9, rsv: 3, keep: 1}},
		err:    "1002 " + s52,
	},
	{name: "all bits reserved", frames: []frame{{op: 2, rsv: 7, keep: 1}}, err: "1002 " + s52},
	{
		name:   "RSV3 after a message",
		frames: []frame{{op: 1, data: "a"}, {op: 1, rsv: 1, keep: 1}},
		events: []string{"text a"},
		err:    "1002 " + s52,
	},
	{name: "opcode 3", frames: []frame{{op: 3, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 4", frames: []frame{{op: 4, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 5", frames: []frame{{op: 5, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 6", frames: []frame{{op: 6, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 7", frames: []frame{{op: 7, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 11", frames: []frame{{op: 11, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 12", frames: []frame{{op: 12, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 13", frames: []frame{{op: 13, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 14", frames: []frame{{op: 14, keep: 1}}, err: "1002 " + s52},
	{name: "opcode 15", frames: []frame{{op: 15, keep: 1}}, err: "1002 " + s52},
	{
		name:   "reserved opcode within a message",
		frames: []frame{{op: 1, more: true, data: "a"}, {op: 3, keep: 1}},
		err:    "1002 " + s52,
	},
	{
		name:   "125 in two bytes",
		frames: []frame{{op: 1, length: 125, form: 2, keep: 4}},
		err:    "1002 " + s52,
	},
	{name: "0 in two bytes", frames: []frame{{op: 1, form: 2, keep: 4}}, err: "1002 " + s52},
	{
		name:   "65535 in eight bytes",
		frames: []frame{{op: 1, length: 65535, form: 8, keep: 10}},
		err:    "1002 " + s52,
	},
	{name: "0 in eight bytes", frames: []frame{{op: 1, form: 8, keep: 10}}, err: "1002 " + s52},
	{
		name:   "bit 63 of the length",
		frames: []frame{{op: 1, length: 1 << 63, keep: 3}},
		err:    "1002 " + s52,
	},
	{
		name:   "all bits of the length",
		frames: []frame{{op: 2, length: 1<<64 - 1, keep: 3}},
		err:    "1002 " + s52,
	},
	{
		name:   "the largest length",
		frames: []frame{{op: 2, length: 1<<63 - 1, keep: 10}},
		err:    "1009 " + s741,
	},
	{
		name:   "as large as allowed",
		frames: []frame{{op: 2, data: long}},
		events: []string{"binary " + long},
		max:    130,
	},
	{
		name:   "one byte too large",
		frames: []frame{{op: 2, length: 131, keep: 4}},
		max:    130,
		err:    "1009 " + s741,
	},
	{
		name:   "one byte too large, short",
		frames: []frame{{op: 1, length: 6, keep: 2}},
		max:    5,
		err:    "1009 " + s741,
	},
	{
		name:   "64 KiB declared",
		frames: []frame{{op: 1, length: 65536, keep: 10}},
		err:    "1009 " + s741,
	},
}

// Section 5.4: fragments. Section 5.5: control frames.
var fragmentCases = []conformance{
	{
		name:   "two fragments",
		frames: []frame{{op: 1, more: true, data: "Hel"}, {data: "lo"}},
		events: []string{"text Hello"},
	},
	{
		name:   "three fragments",
		frames: []frame{{op: 2, more: true, data: "a"}, {more: true, data: "b"}, {data: "c"}},
		events: []string{"binary abc"},
	},
	{
		name: "empty fragments",
		frames: []frame{
			{op: 1, more: true},
			{more: true},
			{more: true, data: "x"},
			{more: true},
			{},
		},
		events: []string{"text x"},
	},
	{
		name:   "only empty fragments",
		frames: []frame{{op: 1, more: true}, {}},
		events: []string{"text "},
	},
	{
		name:   "text in the last fragment",
		frames: []frame{{op: 1, more: true}, {data: "x"}},
		events: []string{"text x"},
	},
	{
		name: "ping between fragments",
		frames: []frame{
			{op: 1, more: true, data: "Hel"},
			{op: 9, data: "are you there"},
			{data: "lo"},
		},
		events: []string{"ping are you there", "text Hello"},
	},
	{
		name: "pong between fragments",
		frames: []frame{
			{op: 1, more: true, data: "Hel"},
			{op: 10},
			{op: 10, data: long[:125]},
			{data: "lo"},
		},
		events: []string{"pong ", "pong " + long[:125], "text Hello"},
	},
	{
		name:   "message after fragments",
		frames: []frame{{op: 1, more: true, data: "a"}, {data: "b"}, {op: 2, data: "c"}},
		events: []string{"text ab", "binary c"},
	},
	{
		name:   "close between fragments",
		frames: []frame{{op: 1, more: true, data: "Hel"}, {op: 8}, {data: "lo"}},
		events: []string{bare},
	},
	{name: "continuation of nothing", frames: []frame{{op: 0, keep: 1}}, err: "1002 " + s54},
	{
		name:   "first fragment as continuation",
		frames: []frame{{op: 0, more: true, keep: 1}},
		err:    "1002 " + s54,
	},
	{
		name:   "continuation of a message that has ended",
		frames: []frame{{op: 1, data: "a"}, {op: 0, keep: 1}},
		events: []string{"text a"},
		err:    "1002 " + s54,
	},
	{
		name:   "continuation of fragments that have ended",
		frames: []frame{{op: 1, more: true, data: "a"}, {data: "b"}, {op: 0, keep: 1}},
		events: []string{"text ab"},
		err:    "1002 " + s54,
	},
	{
		name:   "text within text",
		frames: []frame{{op: 1, more: true, data: "a"}, {op: 1, keep: 1}},
		err:    "1002 " + s54,
	},
	{
		name:   "binary within text, in fragments",
		frames: []frame{{op: 1, more: true, data: "a"}, {op: 2, more: true, keep: 1}},
		err:    "1002 " + s54,
	},
	{
		name:   "sum of fragments as large as allowed",
		frames: []frame{{op: 1, more: true, data: "abc"}, {data: "de"}},
		events: []string{"text abcde"},
		max:    5,
	},
	{
		name:   "sum of fragments too large",
		frames: []frame{{op: 1, more: true, data: "abc"}, {length: 3, keep: 2}},
		max:    5,
		err:    "1009 " + s741,
	},
	{
		name: "limit anew for each message",
		frames: []frame{
			{op: 1, data: "abcde"},
			{op: 1, more: true, data: "abc"},
			{data: "de"},
			{op: 2, data: "fghij"},
		},
		events: []string{"text abcde", "text abcde", "binary fghij"},
		max:    5,
	},
	{
		name:   "pings aren't limited by the message's size",
		frames: []frame{{op: 1, more: true, data: "abcde"}, {op: 9, data: long[:125]}, {}},
		events: []string{"ping " + long[:125], "text abcde"},
		max:    5,
	},

	{
		name:   "ping",
		frames: []frame{{op: 9}, {op: 9, data: "x"}, {op: 9, data: long[:125]}},
		events: []string{"ping ", "ping x", "ping " + long[:125]},
	},
	{
		name:   "ping with any bytes",
		frames: []frame{{op: 9, data: "\x00\xff\xfe"}},
		events: []string{"ping \x00\xff\xfe"},
	},
	{
		name:   "pong that wasn't asked for",
		frames: []frame{{op: 10, data: "x"}},
		events: []string{"pong x"},
	},
	{name: "ping of 126 bytes", frames: []frame{{op: 9, length: 126, keep: 2}}, err: "1002 " + s55},
	{name: "ping of 64 KiB", frames: []frame{{op: 9, length: 65536, keep: 2}}, err: "1002 " + s55},
	{
		name:   "pong of 126 bytes",
		frames: []frame{{op: 10, length: 126, keep: 2}},
		err:    "1002 " + s55,
	},
	{
		name:   "close of 126 bytes",
		frames: []frame{{op: 8, length: 126, keep: 2}},
		err:    "1002 " + s55,
	},
	{
		name:   "short ping in a long form",
		frames: []frame{{op: 9, length: 5, form: 2, keep: 2}},
		err:    "1002 " + s55,
	},
	{name: "ping in fragments", frames: []frame{{op: 9, more: true, keep: 1}}, err: "1002 " + s55},
	{name: "pong in fragments", frames: []frame{{op: 10, more: true, keep: 1}}, err: "1002 " + s55},
	{name: "close in fragments", frames: []frame{{op: 8, more: true, keep: 1}}, err: "1002 " + s55},
	{
		name:   "ping in fragments within a message",
		frames: []frame{{op: 1, more: true, data: "a"}, {op: 9, more: true, keep: 1}},
		err:    "1002 " + s55,
	},
}

// Section 7: closing.
var closeCases = []conformance{
	{name: "close", frames: []frame{{op: 8}}, events: []string{bare}},
	{
		name:   "close with code",
		frames: []frame{{op: 8, data: closing(1000, "")}},
		events: []string{"close 1000"},
	},
	{
		name:   "close with reason",
		frames: []frame{{op: 8, data: closing(1001, "bye ☂")}},
		events: []string{"close 1001 bye ☂"},
	},
	{
		name:   "close with 123 bytes of reason",
		frames: []frame{{op: 8, data: closing(4999, long[:123])}},
		events: []string{"close 4999 " + long[:123]},
	},
	{
		name:   "nothing counts after close",
		frames: []frame{{op: 1, data: "a"}, {op: 8}, {op: 1, data: "b"}, {op: 3}, {op: 9}},
		events: []string{"text a", bare},
	},
	{
		name:   "second close",
		frames: []frame{{op: 8, data: closing(1000, "")}, {op: 8, data: closing(1002, "")}},
		events: []string{"close 1000"},
	},
	{name: "close of one byte", frames: []frame{{op: 8, data: "\x03"}}, err: "1002 " + s551},
	{
		name:   "reason that isn't UTF-8",
		frames: []frame{{op: 8, data: closing(1000, "\xff")}},
		err:    "1007 " + s551,
	},
	{
		name:   "reason that ends within a character",
		frames: []frame{{op: 8, data: closing(1000, "\xe2\x98")}},
		err:    "1007 " + s551,
	},
	{
		name:   "text before a wrong close",
		frames: []frame{{op: 1, data: "a"}, {op: 8, data: closing(5000, "")}},
		events: []string{"text a"},
		err:    "1002 " + s74,
	},
}

// Section 8.1: UTF-8.
var textCases = []conformance{
	{
		name:   "characters of all lengths",
		frames: []frame{{op: 1, data: "aé☂🂡\x00\u07ff\u0800\uffff\U0010ffff"}},
		events: []string{"text aé☂🂡\x00\u07ff\u0800\uffff\U0010ffff"},
	},
	{
		name:   "character over two fragments",
		frames: []frame{{op: 1, more: true, data: "\xe2"}, {data: "\x98\x82"}},
		events: []string{"text ☂"},
	},
	{
		name: "character over four fragments and a ping",
		frames: []frame{
			{op: 1, more: true, data: "\xf0"},
			{more: true, data: "\x9f"},
			{more: true},
			{op: 9, data: "\xff"},
			{more: true, data: "\x82"},
			{data: "\xa1"},
		},
		events: []string{"ping \xff", "text 🂡"},
	},
	{
		name:   "binary isn't text",
		frames: []frame{{op: 2, more: true, data: "\xff"}, {data: "\xc0"}},
		events: []string{"binary \xff\xc0"},
	},
	{name: "0xff", frames: []frame{{op: 1, data: "abc\xff", length: 20}}, err: "1007 " + s81},
	{
		name:   "bare continuation",
		frames: []frame{{op: 1, data: "\x80", length: 20}},
		err:    "1007 " + s81,
	},
	{
		name:   "overlong, two bytes",
		frames: []frame{{op: 1, data: "\xc0", length: 20}},
		err:    "1007 " + s81,
	},
	{
		name:   "overlong, three bytes",
		frames: []frame{{op: 1, data: "\xe0\x9f", length: 20}},
		err:    "1007 " + s81,
	},
	{
		name:   "overlong, four bytes",
		frames: []frame{{op: 1, data: "\xf0\x8f", length: 20}},
		err:    "1007 " + s81,
	},
	{name: "surrogate", frames: []frame{{op: 1, data: "\xed\xa0", length: 20}}, err: "1007 " + s81},
	{
		name:   "beyond U+10FFFF",
		frames: []frame{{op: 1, data: "\xf4\x90", length: 20}},
		err:    "1007 " + s81,
	},
	{name: "0xf5", frames: []frame{{op: 1, data: "\xf5", length: 20}}, err: "1007 " + s81},
	{
		name:   "character that breaks off",
		frames: []frame{{op: 1, data: "\xe2\x98a", length: 20}},
		err:    "1007 " + s81,
	},
	{
		name:   "end within a character",
		frames: []frame{{op: 1, data: "a\xe2\x98"}},
		err:    "1007 " + s81,
	},
	{
		name:   "end within a character, the last fragment empty",
		frames: []frame{{op: 1, more: true, data: "a\xe2"}, {keep: 0}},
		err:    "1007 " + s81,
	},
	{
		name:   "in a first fragment",
		frames: []frame{{op: 1, more: true, data: "a\xff"}},
		err:    "1007 " + s81,
	},
	{
		name:   "in a second fragment that hasn't ended",
		frames: []frame{{op: 1, more: true, data: "a"}, {more: true, data: "b\xff", length: 9}},
		err:    "1007 " + s81,
	},
	{
		name:   "character that breaks off over fragments",
		frames: []frame{{op: 1, more: true, data: "\xe2\x98"}, {data: "a", length: 9}},
		err:    "1007 " + s81,
	},
	{
		name:   "in a frame of 16 bits",
		frames: []frame{{op: 1, data: long + "\xfe", length: 900}},
		err:    "1007 " + s81,
	},
}

// Whatever doesn't depend on compression has to be the same when it has been agreed on.
var agreements = map[string]*Deflate{
	"plain":    nil,
	"deflate":  {SendBits: 15, ReceiveBits: 15},
	"takeover": {SendBits: 15, ReceiveBits: 15, SendTakeover: true, ReceiveTakeover: true},
}

func TestConformance(t *testing.T) {
	cases := [][]conformance{framingCases, fragmentCases, closeCases, textCases}
	for name, deflate := range agreements {
		for role := range roleNames {
			t.Run(name+" "+roleNames[role], func(t *testing.T) {
				for _, some := range cases {
					for _, c := range some {
						c.run(t, Params{Role: role, Deflate: deflate})
					}
				}
			})
		}
	}
}

func (c conformance) run(t *testing.T, p Params) {
	t.Run(c.name, func(t *testing.T) {
		if p.MaxMessage = c.max; c.max == 0 {
			p.MaxMessage = 1000
		}
		stream := encode(p.Role, c.frames...)
		everyWay(t, p, stream, outcome{c.events, c.err})
		if c.err == "" {
			return
		}
		before := receive(t, &p, stream[:len(stream)-1])
		if want := (outcome{events: c.events}); !before.equal(want) {
			t.Errorf("before its last byte: got %s, want %s", before, want)
		}
	})
}

// Section 7.4: every code, with and without a reason.
func TestCloseCodes(t *testing.T) {
	for role := range roleNames {
		for code := range 1 << 16 {
			allowed := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
			got := receive(t, &Params{Role: role}, frame{op: 8, data: closing(code, "why")}.encode(role))
			switch {
			case allowed != ValidCloseCode(code):
				t.Fatalf("%s: ValidCloseCode(%d) is %v", roleNames[role], code, !allowed)
			case allowed && (got.err != "" || len(got.events) != 1 || !strings.HasSuffix(got.events[0], " why")):
				t.Fatalf("%s: close with %d: %s", roleNames[role], code, got)
			case !allowed && (got.err != "1002 "+s74 || len(got.events) != 0):
				t.Fatalf("%s: close with %d: %s", roleNames[role], code, got)
			}
		}
	}
}
