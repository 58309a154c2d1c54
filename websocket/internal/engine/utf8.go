package engine

import "unicode/utf8"

var (
	errUTF8 = &ProtocolError{CodeInvalidPayload,
		"text that isn't UTF-8", "RFC 6455, section 8.1"}
)

// text checks UTF-8 that comes in pieces. It keeps the beginning of a character that a piece ends
// in.
type text struct {
	carry [3]byte
	n     uint8
}

// add says whether text is valid so far: whether there is a way to go on that makes it valid.
func (t *text) add(p []byte) bool {
	for t.n > 0 && len(p) > 0 {
		var char [4]byte
		copy(char[:], t.carry[:t.n])
		char[t.n] = p[0]
		t.n++
		p = p[1:]
		if !utf8.FullRune(char[:t.n]) { // never of four bytes
			copy(t.carry[:], char[:])
			continue
		}
		if !utf8.Valid(char[:t.n]) {
			return false
		}
		t.n = 0
	}
	// A character that is cut begins in the last three bytes. FullRune is true for what can't
	// become one.
	whole := len(p)
	for i := len(p) - 1; i >= 0 && i >= len(p)-3; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				whole = i
			}
			break
		}
	}
	if !utf8.Valid(p[:whole]) {
		return false
	}
	if whole < len(p) {
		t.n = uint8(copy(t.carry[:], p[whole:]))
	}
	return true
}

// ended says whether the text may end here.
func (t *text) ended() bool { return t.n == 0 }
