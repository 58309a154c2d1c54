package handshake

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/gobwas/httphead"
)

// Protocols are the subprotocols that a client offers, in its order of preference (RFC 6455,
// section 11.3.4). A line that isn't a list of tokens is passed over.
func Protocols(h http.Header) []string {
	var all []string
	for _, line := range h[headerProtocol] {
		var some []string
		if httphead.ScanTokens([]byte(line), func(token []byte) bool {
			some = append(some, string(token))
			return true
		}) {
			all = append(all, some...)
		}
	}
	return all
}

// CheckProtocol is the client's check of the subprotocol that the server has chosen: it returns
// it, "" if there is none. One that wasn't offered is a *[ResponseError].
func CheckProtocol(h http.Header, offered []string) (string, error) {
	lines := h[headerProtocol]
	if len(lines) == 0 {
		return "", nil
	}
	if chosen := trim(lines[0]); len(lines) == 1 && slices.Contains(offered, chosen) {
		return chosen, nil
	}
	return "", &ResponseError{
		Layer:  LayerProtocol,
		Reason: fmt.Sprintf("the server has chosen subprotocol %.100q, of %q", lines[0], offered),
	}
}
