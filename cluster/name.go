package cluster

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is how many bytes the name of a room, a user or a node may have.
const MaxName = 200

// ErrName is returned for a name that is none, see CheckName.
var ErrName = errors.New("cluster: not a name")

// CheckName returns an error, ErrName, if a room, a user or a node can't have that name: up to
// MaxName bytes of UTF-8, not empty, without white space, control characters, '*' and '>'. Dots are
// allowed between other characters, not at either end and not two in a row.
func CheckName(name string) error { return checkName(name, MaxName) }

func checkName(name string, most int) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > most:
		return fmt.Errorf("%w: %d bytes, of %d at most", ErrName, len(name), most)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q isn't UTF-8", ErrName, name)
	case name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, ".."):
		return fmt.Errorf("%w: %q has a dot at an end, or two in a row", ErrName, name)
	}
	for _, r := range name {
		if r == '*' || r == '>' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %q has %q in it", ErrName, name, r)
		}
	}
	return nil
}
