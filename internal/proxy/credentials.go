package proxy

import (
	"errors"
	"strings"
)

// checkCredentials applies the rule that both protocols share: no control characters. RFC 7617
// forbids them. RFC 1929 doesn't, but there they are a line end left over from a secrets file, or a
// NUL at which a proxy written in C stops to compare.
func checkCredentials(user, password string) error {
	if strings.ContainsFunc(user, isControl) {
		return errors.New("proxy: control character in the user name")
	}
	if strings.ContainsFunc(password, isControl) {
		return errors.New("proxy: control character in the password")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
