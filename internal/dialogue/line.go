package dialogue

import (
	"bytes"
	"fmt"
	"strconv"
)

// lineOf returns the line that data begins with, without its end, and its length with that; 0 if it
// isn't complete. It takes no liberties: lines end with CR LF, and have neither of the two, nor
// NUL, elsewhere. If that isn't so it says why.
func lineOf(data []byte, limit int) (line []byte, n int, why string) {
	end := bytes.IndexByte(data[:min(len(data), limit)], '\n')
	switch {
	case end < 0 && len(data) >= limit:
		return data[:limit], 0, fmt.Sprintf("a line of more than %d bytes", limit)
	case end < 0:
		return nil, 0, ""
	case end == 0 || data[end-1] != '\r' || bytes.ContainsAny(data[:end-1], "\r\x00"):
		return data[:end+1], 0, "a line with a stray CR, LF or NUL"
	}
	return data[:end-1], end + 1, ""
}

// quote returns what a peer has said in quotes, with escapes for whatever isn't printable ASCII,
// and shortened.
func quote(text []byte) string {
	const most = 120
	if len(text) > most {
		return strconv.QuoteToASCII(string(text[:most])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// cutFold returns what follows a word at the beginning of a line, which a space or the end of the
// line has to follow; in the word, case doesn't matter.
func cutFold(line []byte, word string) (rest []byte, ok bool) {
	if len(line) < len(word) || !bytes.EqualFold(line[:len(word)], []byte(word)) {
		return nil, false
	}
	rest = line[len(word):]
	if len(rest) == 0 {
		return rest, true
	}
	return rest[1:], rest[0] == ' '
}

func isWord(line []byte, word string) bool { return bytes.EqualFold(line, []byte(word)) }
