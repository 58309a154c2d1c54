package message

import (
	"bytes"
	"testing"
)

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
