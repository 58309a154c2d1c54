package smtp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// mended returns a message as it is sent, written in pieces of so many bytes, without its end.
func mended(message []byte, size int) (sent []byte, err error) {
	out := []byte{}
	w := &content{mail: new(Mail), out: &out, limit: 1 << 30, dots: true}
	for len(message) > 0 {
		n := min(size, len(message))
		if _, err := w.Write(message[:n]); err != nil {
			return nil, err
		}
		message = message[n:]
	}
	if w.cr || w.lineBegun {
		err = w.endLine()
	}
	return out, err
}

// resting counts how often a session has given back what it needs for receiving only.
type resting struct {
	*rehearsal
	times int
}

func (r *resting) rest() { r.times++ }

// A session that waits for its next use holds no buffer.
func TestSessionsRest(t *testing.T) {
	d, err := NewDialer(Config{Hello: "me.test"})
	if err != nil {
		t.Fatal(err)
	}
	r := &resting{rehearsal: new(rehearsal)}
	r.say("220 a rehearsal")
	c := &Client{dialer: d, conn: r}
	mail := &Mail{To: []string{"a@b"}, Message: strings.NewReader("x")}
	for i, use := range []func() error{
		func() error { return c.begin(t.Context()) },
		func() error { return c.Noop(t.Context()) },
		func() error { _, err := c.Send(t.Context(), mail); return err },
	} {
		if err := use(); err != nil || r.times != i+1 {
			t.Errorf("use %d: %v, it has rested %d times", i, err, r.times)
		}
	}
}

// However a message is written, its end is seen by every server in the same place, and what they
// make of it is what it was, but for line ends. A header that is taken has only line ends of one
// kind.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{
		"Subject: x\r\n\r\na\n.\r\nMAIL FROM:<x@y>\r\n", "\n.\n..\r.\r\r\n.", "a\nb\r\n\r\n",
		"a\rb\n\n", "Subject: x\x00\n\n", "ä: \xff\n\n.",
	} {
		f.Add([]byte(text), 1)
		f.Add([]byte(text), 1000)
	}
	f.Fuzz(func(t *testing.T, message []byte, size int) {
		sent, err := mended(message, max(size, 1))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		// The same by simpler means.
		text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(message))
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		want := ""
		for line := range strings.Lines(text) {
			if line[0] == '.' {
				line = "." + line
			}
			want += strings.TrimSuffix(line, "\n") + "\r\n"
		}
		if string(sent) != want {
			t.Fatalf("%q is sent as %q, want %q", message, sent, want)
		}
		head, _, found := bytes.Cut(message, []byte("\r\n\r\n"))
		if found && !bytes.Contains(head, []byte("\n\n")) &&
			!bytes.HasPrefix(message, []byte("\n")) &&
			!bytes.HasPrefix(message, []byte("\r\n")) &&
			bytes.ContainsAny(bytes.ReplaceAll(head, []byte("\r\n"), nil), "\r\n\x00") {
			t.Fatalf("the header of %q was taken", message)
		}
	})
}
