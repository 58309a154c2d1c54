package engine

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// fuzzParams makes parameters of one byte.
func fuzzParams(b byte) Params {
	p := Params{Role: Role(b & 1), MaxMessage: 4000, Pieces: b&2 != 0}
	if b&4 != 0 {
		p.MaxMessage = 10
	}
	if b&8 != 0 {
		p.Deflate = &Deflate{ReceiveBits: 15, ReceiveTakeover: b&16 != 0}
		if b&32 != 0 {
			p.Deflate.ReceiveBits = 9
		}
	}
	return p
}

// Whatever comes, and however it is cut, events and errors are the same, nothing is held at the
// end, texts are UTF-8, and no message is larger than allowed.
func FuzzReceiver(f *testing.F) {
	for _, cases := range [][]conformance{framingCases, fragmentCases, closeCases, textCases, compressedCases} {
		for _, c := range cases {
			f.Add(encode(Server, c.frames...), byte(8), byte(3))
			f.Add(encode(Client, c.frames...), byte(8+1+16+32), byte(5))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, params, cut byte) {
		if len(stream) > 1<<14 {
			return
		}
		p := fuzzParams(params)
		want := receive(t, &p, stream)
		for _, event := range want.events {
			kind, data, _ := strings.Cut(event, " ")
			switch {
			case kind == "text" && !utf8.ValidString(data):
				t.Fatalf("text %q", data)
			case (kind == "text" || kind == "binary") && len(data) > p.MaxMessage:
				t.Fatalf("%d bytes, of %d allowed", len(data), p.MaxMessage)
			case (kind == "ping" || kind == "pong") && len(data) > 125:
				t.Fatalf("%s of %d bytes", kind, len(data))
			}
		}
		// In pieces some errors are found earlier, before a ping that is handed out otherwise.
		for _, p.Pieces = range []bool{p.Pieces, !p.Pieces} {
			if other := receive(t, &p, stream); (other.err == "") == (want.err == "") && want.err != "" {
				want = other
			}
			for _, size := range []int{1, int(cut), len(stream)} {
				if got := receive(t, &p, stream, size); !got.equal(want) {
					t.Fatalf("reads of %d, pieces %v:\ngot  %s\nwant %s", size, p.Pieces, got, want)
				}
			}
		}
	})
}

// Frames that are legal by construction come out as what went in.
func FuzzReceiverLegal(f *testing.F) {
	f.Add([]byte("Hello, ☂ wörld, again and again and again and again"), []byte{5, 0, 200, 3}, byte(9), byte(7))
	f.Add(bytes.Repeat([]byte("abc"), 500), []byte{255, 255, 1, 130}, byte(8+16), byte(1))
	f.Fuzz(func(t *testing.T, data, sizes []byte, params, cut byte) {
		q := fuzzParams(params)
		q.MaxMessage = len(data)
		p := Params{Role: 1 - q.Role}
		if q.Deflate != nil {
			p.Deflate = &Deflate{SendBits: q.Deflate.ReceiveBits, SendTakeover: q.Deflate.ReceiveTakeover}
		}
		var s Sender
		defer s.Release()
		var stream []byte
		var want outcome
		for round := range 3 { // the second and third time with history
			rest := data
			for i := 0; ; i++ {
				n := len(rest)
				if i < len(sizes) {
					n = min(n, int(sizes[i]))
				}
				final := i >= len(sizes) || n == len(rest)
				stream = s.AppendPiece(stream, &p, Binary, rest[:n], i == 0, final, round > 0, testMask)
				if rest = rest[n:]; final {
					break
				}
				stream = AppendMessage(stream, p.Role, Ping, rest[:min(len(rest), 5)], testMask)
				want.events = append(want.events, "ping "+string(rest[:min(len(rest), 5)]))
			}
			want.events = append(want.events, "binary "+string(data[:len(data)-len(rest)]))
			stream = s.AppendCompressed(stream, &p, Binary, data, testMask)
			want.events = append(want.events, "binary "+string(data))
		}
		for _, size := range []int{1, int(cut), len(stream)} {
			if got := receive(t, &q, stream, size); !got.equal(want) {
				t.Fatalf("reads of %d:\ngot  %.200s\nwant %.200s", size, got, want)
			}
		}
	})
}

// What the standard library inflates is what a receiver hands out, and what it refuses is refused.
func FuzzInflate(f *testing.F) {
	for _, c := range compressedCases {
		f.Add([]byte(c.frames[0].data), []byte("before"))
	}
	f.Add([]byte(squeeze(strings.Repeat("again and again ", 50), "")), []byte{})
	f.Add([]byte(squeeze("again", "again")), []byte("again"))
	f.Fuzz(func(t *testing.T, payload, window []byte) {
		const limit = 1 << 16
		if len(payload) > 1<<12 || len(window) > 512 {
			return
		}
		want, wantErr := reference(payload, window, limit)
		p := Params{Role: Client, MaxMessage: limit, Deflate: agreements["takeover"]}
		var r Receiver
		defer r.Release()
		r.window = r.window.add(window)
		ev, _, err := r.Next(&p, frame{op: 2, rsv: 4, data: string(payload)}.encode(Client))
		switch {
		case (err != nil) != (wantErr != nil):
			t.Fatalf("error %v, the standard library says %v", err, wantErr)
		case err == nil && !bytes.Equal(ev.Data, want):
			t.Fatalf("%d bytes, want %d", len(ev.Data), len(want))
		case wantErr == errTooLarge && err != errTooLarge:
			t.Fatalf("error %v, want %v", err, wantErr)
		}
	})
}

// reference inflates with the standard library. It begins anew behind each last block.
func reference(payload, window []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(append(bytes.Clone(payload), tail...))
	history := bytes.Clone(window)
	for lasts := 0; ; lasts++ {
		r := flate.NewReaderDict(src, history)
		data, err := io.ReadAll(io.LimitReader(r, int64(limit+1+len(window)-len(history))))
		history = append(history, data...)
		switch {
		case len(history)-len(window) > limit:
			return nil, errTooLarge
		case err != nil:
			return nil, err
		case src.Len() == 0:
			return history[len(window):], nil
		case lasts > 64:
			return nil, errDeflate
		}
	}
}

// gobwas/ws reads headers. Where it is strict, it agrees; where it refuses a frame, so does the
// engine.
func FuzzAgainstGobwas(f *testing.F) {
	for _, cases := range [][]conformance{framingCases, fragmentCases, closeCases, textCases} {
		for _, c := range cases {
			f.Add(encode(Server, c.frames...), true)
			f.Add(encode(Client, c.frames...), false)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, server bool) {
		p := Params{Role: Client, MaxMessage: len(stream)}
		state := ws.StateClientSide
		if server {
			p.Role, state = Server, ws.StateServerSide
		}
		got := receive(t, &p, stream)
		var message []byte
		var events []string
		for src := bytes.NewReader(stream); ; {
			rest := stream[len(stream)-src.Len():]
			h, err := ws.ReadHeader(src)
			if err == nil && h.Length > int64(src.Len()) {
				err = io.ErrUnexpectedEOF
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break // more is needed, or it is refused already
			}
			if err == nil {
				err = ws.CheckHeader(h, state)
			}
			if err != nil {
				if got.err == "" && !strings.Contains(strings.Join(got.events, ""), "close") {
					t.Fatalf("gobwas refuses % x: %v; got %s", rest, err, got)
				}
				return
			}
			payload := make([]byte, h.Length)
			io.ReadFull(src, payload)
			if h.Masked {
				ws.Cipher(payload, h.Mask, 0)
			}
			switch h.OpCode {
			case ws.OpPing:
				events = append(events, "ping "+string(payload))
			case ws.OpPong:
				events = append(events, "pong "+string(payload))
			case ws.OpClose:
				return
			case ws.OpText, ws.OpBinary, ws.OpContinuation:
				kind := map[ws.OpCode]string{ws.OpText: "text ", ws.OpBinary: "binary "}[h.OpCode]
				message = append(append(message, kind...), payload...)
				state = state.Set(ws.StateFragmented)
				if h.Fin {
					events = append(events, string(message))
					message, state = nil, state.Clear(ws.StateFragmented)
				}
			}
			if len(events) > len(got.events) {
				break
			}
		}
		for i, event := range events {
			switch {
			case i >= len(got.events) && got.err == "":
				t.Fatalf("event %q is missing: %s", event, got)
			case i < len(got.events) && got.events[i] != event:
				t.Fatalf("event %q, want %q", got.events[i], event)
			case i >= len(got.events):
				return
			}
		}
	})
}
