package nats

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/whorl-go/whorl/cluster"
)

// maxPrefix is how many bytes a prefix of subjects may have.
const maxPrefix = 64

// rooms is how the subjects begin that have a history.
const rooms = "room."

// checkPrefix returns an error for a prefix that can't be one of NATS's subjects, or of which no
// name of a stream can be made.
func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("the prefix has %d bytes, of %d at most", len(prefix), maxPrefix)
	}
	for token := range strings.SplitSeq(prefix, ".") {
		ok := token != "" && token[0] != '_'
		for _, r := range token {
			ok = ok && (r == '_' || r == '-' || r >= '0' && r <= '9' ||
				r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		}
		if !ok {
			return fmt.Errorf("the prefix %q isn't letters, digits, '-' and '_', "+
				"with dots between them", prefix)
		}
	}
	return nil
}

// checkSubject returns an error for what is no subject: it would be one of NATS's wildcards, or
// break its protocol's line.
func checkSubject(subject string) error {
	if subject == "" || len(subject) > cluster.MaxSubject {
		return fmt.Errorf("cluster/nats: a subject has %d bytes, of 1 to %d", len(subject),
			cluster.MaxSubject)
	}
	dot := true // before the first token
	for i := range len(subject) {
		switch c := subject[i]; {
		case c <= ' ' || c == '*' || c == '>' || c == 0x7f, c == '.' && dot:
			return fmt.Errorf("cluster/nats: %q isn't a subject", subject)
		default:
			dot = c == '.'
		}
	}
	if dot || !utf8.ValidString(subject) {
		return fmt.Errorf("cluster/nats: %q isn't a subject", subject)
	}
	return nil
}

// streamName returns the name of the stream that keeps the history of a prefix.
func streamName(prefix string) string {
	return strings.ReplaceAll(prefix, ".", "_") + "_rooms"
}
