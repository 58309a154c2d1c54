package packet

import (
	"bytes"
	"slices"
	"testing"
)

// scanOneByOne is what scan must come to.
func scanOneByOne(data []byte, c byte, most int) (ends []uint32, scanned int) {
	for i := range data {
		if data[i] != c {
			continue
		}
		if len(ends) == most {
			return ends, i
		}
		ends = append(ends, uint32(i+1))
	}
	return ends, len(data)
}

func checkScan(t *testing.T, data []byte, c byte, most int) {
	t.Helper()
	const untouched = 0xdeadbeef
	room := slices.Repeat([]uint32{untouched}, most+1)
	found, scanned := scan(data, c, room[:most])
	want, all := scanOneByOne(data, c, most)
	if !slices.Equal(room[:found], want) || slices.ContainsFunc(room[found:], func(end uint32) bool { return end != untouched }) {
		t.Fatalf("%q in %q: %d, want %d", c, data, room, want)
	}
	// When all ends are used, scan may not have looked at what comes between the last one and what
	// would be the next.
	least := all
	if found == most {
		least = 0
		if found > 0 {
			least = int(want[found-1])
		}
	}
	if scanned < least || scanned > all {
		t.Fatalf("%q in %q, %d at most: scanned %d, want %d to %d", c, data, most, scanned, least, all)
	}
}

// Every place in a block and behind the last one, at every alignment, with neighbours that are
// equal but for a bit, and with as much room as is needed, more and less.
func TestScanFindsEachByteAtEveryPlace(t *testing.T) {
	memory := bytes.Repeat([]byte{'\n' ^ 0x01, '\n' ^ 0x80}, 120)
	for size := range 200 {
		data := memory[size%17:][:size:size]
		for place := range data {
			last, was := data[size-1], data[place]
			data[place], data[size-1] = '\n', '\n'
			for most := range 4 {
				checkScan(t, data, '\n', most)
			}
			data[size-1], data[place] = last, was
		}
		checkScan(t, data, '\n', 3)
	}
	checkScan(t, bytes.Repeat([]byte{0}, 300), 0, 299)
	checkScan(t, bytes.Repeat([]byte{0xff}, 300), 0xff, 301)
}

func FuzzScan(f *testing.F) {
	f.Add(bytes.Repeat([]byte("some lines\n"), 30), byte('\n'), uint8(20))
	f.Add(bytes.Repeat([]byte{0x80}, 130), byte(0x80), uint8(129))
	f.Add(make([]byte, 63), byte(0), uint8(64))
	f.Fuzz(func(t *testing.T, data []byte, c byte, most uint8) { checkScan(t, data, c, int(most)) })
}
