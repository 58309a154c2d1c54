package message

import (
	"bytes"
	"testing"
)

func TestNumberedMessagesDiffer(t *testing.T) {
	for _, f := range []Framing{None, EOF, Length} {
		for _, size := range []int{8, 64} {
			seen := map[string]bool{}
			for _, m := range f.Numbered(size, 64) {
				framer, err := f.Framer(size)
				if err != nil {
					t.Fatal(err)
				}
				if n, p, err := framer.Next(m, false); n != size || p == nil || err != nil ||
					len(m) != size {
					t.Errorf("%s: %q isn't a message: %v", f, m, err)
				}
				seen[string(m)] = true
			}
			if len(seen) != 64 {
				t.Errorf("%s: %d of 64 messages of %d bytes differ", f, len(seen), size)
			}
		}
	}
	if all := Length.Numbered(header, 2); len(all) != 2 || len(all[0]) != header {
		t.Errorf("messages without room for a number: %q", all)
	}
}

func TestMessagesAreFoundOneByOne(t *testing.T) {
	for _, name := range Framings {
		f, err := ParseFraming(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{4, 5, 64, 3000} {
			m := f.New(size)
			if len(m) != size {
				t.Fatalf("%s: a message of %d bytes, want %d", f, len(m), size)
			}
			framer, err := f.Framer(size)
			if err != nil {
				t.Fatal(err)
			}
			stream := bytes.Repeat(m, 3)
			found, have := 0, 0
			for len(stream) > 0 && have <= len(stream) {
				advance, packet, err := framer.Next(stream[:have], false)
				if err != nil {
					t.Fatal(err)
				}
				if packet == nil {
					have++
					continue
				}
				if !bytes.Equal(packet, m) || advance != size {
					t.Fatalf("%s: a packet of %d bytes, advance %d", f, len(packet), advance)
				}
				stream, have = stream[advance:], 0
				found++
			}
			if found != 3 || len(stream) > 0 {
				t.Errorf("%s, %d bytes: %d messages, %d bytes left", f, size, found, len(stream))
			}
		}
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	for _, c := range []struct {
		framing Framing
		size    int
	}{{None, 0}, {None, -1}, {EOF, 1}, {Length, 3}, {None, MaxSize + 1}} {
		if c.framing.Check(c.size) == nil {
			t.Errorf("%s, %d bytes: no error", c.framing, c.size)
		}
	}
	if _, err := ParseFraming("lines"); err == nil {
		t.Error("a framing that isn't there is found")
	}
}
