package dialogue

import "encoding/binary"

// PostgreSQL asks with an SSLRequest, and the answer is one byte:
// https://www.postgresql.org/docs/current/protocol-flow.html, "SSL Session Encryption".

func postgresAnswer(c *Client, data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	switch data[0] {
	case 'S':
		return 1, nil
	case 'N':
		return 0, c.fail(ErrRefused, 0, "it has no TLS, or not for this client", nil)
	case 'E':
		// The error of a very old server; whoever is on the wire may have written its text
		// (CVE-2024-10977).
		return 0, c.fail(ErrRefused, 0, "its error is not to be trusted", nil)
	}
	return 0, c.broken("that is no answer to SSLRequest", data)
}

const (
	postgresSSL    = 80877103
	postgresGSSENC = 80877104
)

var (
	postgresPlain = []exchange{
		{phase: StartTLS, send: say(postgresRequest(postgresSSL)), whole: postgresAnswer},
	}
	postgresServer = &responder{size: 8, answer: postgresReply}
)

// postgresStartup asks for version 3.0 of the protocol.
var postgresStartup = func() string {
	body := "\x00\x03\x00\x00user\x00whorl\x00database\x00whorl\x00\x00"
	return string(binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))) + body
}()

// postgresRequest is a packet that is just a length and a code.
func postgresRequest(code uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code))
}

// postgresReply says no to GSSAPI encryption, after which a client asks for TLS, and hangs up on
// all else: there is no database here.
func postgresReply(_ *Server, command []byte) (string, Action) {
	switch string(command) {
	case postgresRequest(postgresSSL):
		return "S", Upgrade
	case postgresRequest(postgresGSSENC):
		return "N", Continue
	}
	return "", Hangup
}
