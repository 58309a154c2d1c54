package handshake

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Layer is the part of the server's answer that is wrong.
type Layer string

// The layers of a handshake's answer.
const (
	LayerStatus     Layer = "status"     // the status isn't 101: an HTTP server has answered
	LayerUpgrade    Layer = "upgrade"    // Upgrade or Connection doesn't say what it must
	LayerAccept     Layer = "accept"     // Sec-WebSocket-Accept doesn't belong to the key
	LayerProtocol   Layer = "protocol"   // a subprotocol that wasn't offered
	LayerExtensions Layer = "extensions" // an extension or parameter that wasn't offered
)

// A ResponseError is why a client doesn't take a server's answer (RFC 6455, section 4.1). It has
// to end the connection.
type ResponseError struct {
	Layer  Layer
	Status int // of the response; 0 with LayerProtocol and LayerExtensions
	Reason string
}

func (e *ResponseError) Error() string {
	return e.Reason
}

// CheckResponse checks a server's answer to a handshake with key, but for subprotocol and
// extensions, which [CheckProtocol] and [Agree] check. Of the body of a refusal, which must not
// wait, it reads some. The error is a *[ResponseError].
func CheckResponse(resp *http.Response, key string) error {
	// All that is quoted of the server's words is cut.
	fail := func(layer Layer, format string, args ...any) error {
		return &ResponseError{layer, resp.StatusCode, fmt.Sprintf(format, args...)}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fail(LayerStatus, "the server has answered %.100q%s%s",
			status(resp), words(resp), hint(resp))
	}
	if !hasToken(resp.Header, "Upgrade", "websocket") {
		return fail(LayerUpgrade, "Upgrade is %.100q, not websocket", resp.Header.Get("Upgrade"))
	}
	if !hasToken(resp.Header, "Connection", "upgrade") {
		return fail(LayerUpgrade, "Connection is %.100q, not Upgrade",
			resp.Header.Get("Connection"))
	}
	switch accept := resp.Header[headerAccept]; {
	case len(accept) == 0:
		return fail(LayerAccept, "there is no Sec-WebSocket-Accept")
	case len(accept) > 1 || trim(accept[0]) != Accept(key):
		return fail(LayerAccept,
			"Sec-WebSocket-Accept is %.100q and doesn't belong to the key: "+
				"the server doesn't speak WebSocket, or something has kept an old answer", accept[0])
	}
	return nil
}

func status(resp *http.Response) string {
	if resp.Status != "" {
		return resp.Status
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}

// words quotes the first line of a refusal in plain text, as far as it has come.
func words(resp *http.Response) string {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(", %.100q", line)
}

// hint says what a status means in answer to a handshake.
func hint(resp *http.Response) string {
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400 && resp.Header.Get("Location") != "":
		return fmt.Sprintf(", to %.300q", resp.Header.Get("Location"))
	case code == http.StatusUpgradeRequired && resp.Header.Get(headerVersion) != "":
		return fmt.Sprintf(": it speaks version %.100q", resp.Header.Get(headerVersion))
	case code == http.StatusBadRequest:
		return ": it may want wss, or a proxy in front of it drops Upgrade and Connection"
	case code == http.StatusUpgradeRequired:
		return ": a proxy in front of it may drop Upgrade and Connection"
	case code == http.StatusForbidden:
		return ": it may want credentials, or not allow the Origin where one was sent"
	case code == http.StatusUnauthorized, code == http.StatusProxyAuthRequired:
		return ": it wants credentials"
	case code == http.StatusOK:
		return ": there may be no WebSocket at this path"
	}
	return ""
}
