// Package handshake is the arithmetic of WebSocket's opening handshake (RFC 6455, section 4) and of
// the negotiation of compression (RFC 7692): headers in, verdicts out, over the types of net/http.
// It does no I/O.
//
// What an HTTP server does itself, such as refusing a request without Host, is taken as done;
// headers are looked at as the parsers of net/http leave them.
package handshake

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The headers of the handshake, in net/http's spelling.
const (
	headerAccept     = "Sec-Websocket-Accept"
	headerExtensions = "Sec-Websocket-Extensions"
	headerKey        = "Sec-Websocket-Key"
	headerProtocol   = "Sec-Websocket-Protocol"
	headerVersion    = "Sec-Websocket-Version"
)

// version is the only one that was ever published as a standard (RFC 6455, section 4.1).
const version = "13"

// A Refusal is the HTTP response to a request that is no valid handshake.
type Refusal struct {
	Status int
	Header http.Header // what the response must carry; may be nil
	Reason string      // for the body and the log
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("websocket: handshake refused: %s (status %d)", r.Reason, r.Status)
}

// IsUpgrade says whether a request asks for WebSocket at all, validly or not: whether Upgrade names
// it.
func IsUpgrade(r *http.Request) bool { return hasToken(r.Header, "Upgrade", "websocket") }

// Check says whether a request is a valid opening handshake (RFC 6455, section 4.2.1). The error is
// a *[Refusal].
func Check(r *http.Request) error {
	refuse := func(status int, reason string, header ...string) error {
		refusal := &Refusal{Status: status, Reason: reason, Header: http.Header{}}
		for i := 0; i < len(header); i += 2 {
			refusal.Header.Set(header[i], header[i+1])
		}
		return refusal
	}
	if r.Method != http.MethodGet {
		return refuse(http.StatusMethodNotAllowed, "the method isn't GET", "Allow", "GET")
	}
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		return refuse(http.StatusBadRequest,
			r.Proto+" has no Upgrade, HTTP/1.1 has: a proxy may have changed it")
	}
	if r.Host == "" {
		return refuse(http.StatusBadRequest, "there is no Host")
	}
	if !IsUpgrade(r) {
		return refuse(http.StatusUpgradeRequired, "Upgrade doesn't name websocket",
			"Upgrade", "websocket", "Connection", "Upgrade")
	}
	if !hasToken(r.Header, "Connection", "upgrade") {
		return refuse(http.StatusBadRequest,
			"Connection doesn't name Upgrade: a proxy may have dropped it")
	}
	if v := r.Header[headerVersion]; len(v) != 1 || trim(v[0]) != version {
		return refuse(http.StatusUpgradeRequired, "Sec-WebSocket-Version isn't 13",
			headerVersion, version, "Upgrade", "websocket", "Connection", "Upgrade")
	}
	if k := r.Header[headerKey]; len(k) != 1 || !validKey(trim(k[0])) {
		return refuse(http.StatusBadRequest, "Sec-WebSocket-Key isn't 16 bytes in base64")
	}
	return nil
}

// validKey says whether key is 16 bytes in base64 (RFC 6455, section 4.1). A sender that leaves
// bits set behind the last byte is let in, as its key says 16 bytes.
func validKey(key string) bool {
	var raw [18]byte
	if len(key) != 24 {
		return false // Decode would skip line breaks
	}
	n, err := base64.StdEncoding.Decode(raw[:], []byte(key))
	return err == nil && n == 16
}

// Key is what Accept takes, of a request that Check has let in.
func Key(r *http.Request) string { return trim(r.Header.Get(headerKey)) }

// Accept is what the server answers to a key in Sec-WebSocket-Accept (RFC 6455, section 4.2.2).
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// NewKey is a client's Sec-WebSocket-Key: 16 bytes of random, which is crypto/rand's Reader as a
// rule.
func NewKey(random io.Reader) (string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("websocket: no random bytes for the key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw[:]), nil
}

// hasToken says whether a list of tokens has one among others, in any case. An element that isn't a
// token is passed over: proxies and old clients write some.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h[name] {
		for element := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(trim(element), token) {
				return true
			}
		}
	}
	return false
}

// trim removes optional white space (RFC 9110, section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }
