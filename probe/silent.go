package probe

import (
	"bytes"
	"context"
	"fmt"

	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A question is what to say to a server that waits for its client to speak. None of them does
// anything.
type question struct {
	protocol string
	send     string
	answers  func(said []byte) bool
	mend     string
}

func begins(prefixes ...string) func([]byte) bool {
	return func(said []byte) bool {
		for _, prefix := range prefixes {
			if bytes.HasPrefix(said, []byte(prefix)) {
				return true
			}
		}
		return false
	}
}

// questions are asked one after the other, each on a connection of its own.
var questions = []question{
	{
		"HTTP", "GET / HTTP/1.0\r\n\r\n", begins("HTTP/"),
		"Use the HTTPS port, or plain http:// or ws:// on this one.",
	},
	{
		// SSLRequest; RFC-less, see "SSL Session Encryption" in PostgreSQL's manual.
		"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		func(said []byte) bool { return len(said) == 1 && (said[0] == 'S' || said[0] == 'N') },
		"Ask for TLS within PostgreSQL's protocol; here that is STARTTLS in postgres.",
	},
	{
		"Redis", "PING\r\n", begins("+PONG", "-NOAUTH", "-ERR", "-DENIED"),
		"Use the port of tls-port in redis.conf.",
	},
	{
		// The extended request for StartTLS, RFC 4511, section 4.14.1.
		"LDAP", "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
		func(said []byte) bool { return len(said) > 2 && said[0] == 0x30 },
		"Upgrade with StartTLS, or use port 636; here that is STARTTLS in ldap.",
	},
	{
		"XMPP", "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
			"xmlns:stream='http://etherx.jabber.org/streams' to='whorl-probe.invalid' " +
			"version='1.0'>",
		begins("<?xml", "<stream"),
		"Upgrade with STARTTLS, or use port 5223; here that is STARTTLS in xmpp-client.",
	},
	{
		"mail", "NOOP\r\n", begins("250", "220", "50", "53", "* ", "NOOP BAD", "+OK", "-ERR"),
		"Upgrade with STARTTLS; here that is STARTTLS in smtp, imap or pop3.",
	},
}

// silent asks a server that says nothing to a hello of TLS what it speaks.
func (p *prober) silent(ctx context.Context) Finding {
	for _, q := range questions {
		c, err := p.connect(ctx, nil)
		if err != nil {
			break
		}
		var said []byte
		if _, err := c.Send(ctx, []byte(q.send)); err == nil {
			said, _ = p.recv(ctx, c, p.longer())
		}
		c.Close()
		if !q.answers(said) {
			continue
		}
		id := explain.IDPortStartTLS
		switch q.protocol {
		case "HTTP":
			id = explain.IDPortHTTP
		case "Redis":
			id = explain.IDPortPlaintext
		}
		return Finding{id, Error, layerHandshake, fmt.Sprintf(
			"the server says nothing to a hello of TLS, and answers %s in plaintext with %+q "+
				"(untrusted)",
			q.protocol,
			said[:min(40, len(said))],
		), q.mend}
	}
	return found(IDPortSilent, layerHandshake, "the server takes the connection and says nothing: "+
		"not to a hello of TLS, and not to HTTP, PostgreSQL, Redis, LDAP, XMPP or mail in "+
		"plaintext")
}
