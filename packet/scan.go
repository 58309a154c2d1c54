package packet

import "bytes"

// scan finds c in data, and stores how many bytes of data there are through and including each of
// them: an end. It returns how many it has found and how many bytes it has looked at, which is all
// of data unless all ends are used.
func scan(data []byte, c byte, ends []uint32) (found, scanned int) {
	found, scanned = scanBlocks(data, c, ends)
	for found < len(ends) {
		i := bytes.IndexByte(data[scanned:], c)
		if i < 0 {
			return found, len(data)
		}
		scanned += i + 1
		ends[found] = uint32(scanned)
		found++
	}
	return found, scanned
}
