package packet

import (
	"errors"
	"testing"
)

// indexing is an Indexer whose packets are found by Index, some at a time, and handed out one by
// one, as a reader does that uses it. It must be no different from the Framer itself.
type indexing struct {
	Indexer
	some  int
	ends  []uint32 // still to be handed out, counted from where the next packet begins
	asked int
}

func (x *indexing) Next(data []byte, atEOF bool) (int, []byte, error) {
	if len(x.ends) == 0 {
		x.asked++
		x.ends = make([]uint32, x.some)
		x.ends = x.ends[:x.Index(data, x.ends)]
		if len(x.ends) == 0 {
			return x.Indexer.Next(data, atEOF)
		}
	}
	end := x.ends[0]
	x.ends = x.ends[1:]
	for i := range x.ends {
		x.ends[i] -= end
	}
	return int(end), data[:end:end], nil
}

func (x *indexing) Want() int {
	if len(x.ends) > 0 {
		return 0
	}
	return x.Indexer.Want()
}

func (x *indexing) Reset() {
	x.ends = nil
	x.Indexer.Reset()
}

func TestIndexOfAFunctionsPacketsIsLeftToNext(t *testing.T) {
	called := false
	f, err := NewLength(LengthField{Func: func([]byte) (int, error) { called = true; return 1, nil }}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if n := f.(Indexer).Index([]byte("abc"), make([]uint32, 3)); n != 0 || called {
		t.Errorf("%d packets, called %v", n, called)
	}
}

func TestIndexStopsWhereThereIsNoRoom(t *testing.T) {
	f, err := NewEOF("\n", 10)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]uint32
	if n := f.(Indexer).Index([]byte("a\nbb\nccc\nd"), ends[:]); n != 2 || ends != [2]uint32{2, 5} {
		t.Errorf("%d packets, that end at %v", n, ends)
	}
	if advance, pkt, err := f.Next([]byte("ccc\nd"), false); advance != 4 || string(pkt) != "ccc\n" || err != nil {
		t.Error(advance, string(pkt), err)
	}
}

// What Index has looked at doesn't reach into the next packet.
func TestNextFollowsIndex(t *testing.T) {
	f := must(NewEOF("\r\n", 10))
	var ends [2]uint32
	stream := []byte("a\r\nb\r\n\nc\r\n")
	if n := f.(Indexer).Index(stream, ends[:]); n != 2 || ends != [2]uint32{3, 6} {
		t.Errorf("%d packets, that end at %v", n, ends)
	}
	if advance, pkt, err := f.Next(stream[6:], false); advance != 4 || string(pkt) != "\nc\r\n" || err != nil {
		t.Error(advance, string(pkt), err)
	}
}

func TestIndexFindsNothingAfterAnError(t *testing.T) {
	f := must(NewEOF("\n", 3))
	stream := []byte("long\na\n")
	if _, _, err := f.Next(stream, false); !errors.Is(err, ErrPacketTooLarge) {
		t.Fatal(err)
	}
	if n := f.(Indexer).Index(stream, make([]uint32, 3)); n != 0 {
		t.Errorf("%d packets", n)
	}
}
