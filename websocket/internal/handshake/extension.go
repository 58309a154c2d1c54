package handshake

import (
	"net/http"
	"strings"

	"github.com/gobwas/httphead"
)

// An extension is one element of Sec-WebSocket-Extensions (RFC 6455, section 9.1).
type extension struct {
	name   string
	params []param
}

type param struct {
	name, value string
	hasValue    bool
}

// extensions reads all lines of the header. One that is malformed is passed over, and ok is false.
//
// A line with a backslash counts as malformed: it can only be an escape within a quoted value,
// whose content must be a token, which has nothing to escape.
func extensions(h http.Header) (all []extension, ok bool) {
	ok = true
	for _, line := range h[headerExtensions] {
		if trim(line) == "" {
			continue
		}
		var some []extension
		last := -1
		read := func(index int, name, attribute, value []byte) httphead.Control {
			if index != last {
				some = append(some, extension{name: string(name)})
				last = index
			}
			if attribute != nil {
				e := &some[len(some)-1]
				e.params = append(e.params, param{string(attribute), string(value), value != nil})
			}
			return httphead.ControlContinue
		}
		if strings.Contains(line, `\`) || !httphead.ScanOptions([]byte(line), read) {
			ok = false
			continue
		}
		all = append(all, some...)
	}
	return all, ok
}
