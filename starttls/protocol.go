package starttls

import "github.com/whorl-go/whorl/internal/dialogue"

// A Protocol is one that has an upgrade to TLS.
type Protocol string

// The protocols, by their names. The comment says where Upgrade leaves the connection.
const (
	SMTP       Protocol = "smtp"        // RFC 3207: after EHLO over TLS
	LMTP       Protocol = "lmtp"        // RFC 2033: after LHLO over TLS
	POP3       Protocol = "pop3"        // RFC 2595: after CAPA over TLS
	IMAP       Protocol = "imap"        // RFC 9051: after CAPABILITY over TLS, tag "c"
	Sieve      Protocol = "sieve"       // RFC 5804: after the server's second list
	FTP        Protocol = "ftp"         // RFC 4217: after PBSZ 0 and PROT P; not logged in
	NNTP       Protocol = "nntp"        // RFC 4642: after CAPABILITIES over TLS
	XMPPClient Protocol = "xmpp-client" // RFC 6120: before the new stream's header
	XMPPServer Protocol = "xmpp-server" // RFC 6120: before the new stream's header
	IRC        Protocol = "irc"         // IRCv3's tls: before NICK and USER
	LDAP       Protocol = "ldap"        // RFC 4511, section 4.14: before message 2
	Postgres   Protocol = "postgres"    // before the StartupMessage
	MySQL      Protocol = "mysql"       // MariaDB, too: before HandshakeResponse41, packet 2
)

// ParseProtocol returns the protocol of a name, such as "smtp". The error lists all names.
func ParseProtocol(name string) (Protocol, error) {
	p, err := dialogue.Lookup(name)
	if err != nil {
		return "", err
	}
	return Protocol(p.Name), nil
}

// Port returns the port on which servers speak the protocol in plaintext first; 0 if there is no
// such protocol. For SMTP that is the one for submission, 587.
func (p Protocol) Port() int {
	if d, err := dialogue.Lookup(string(p)); err == nil {
		return d.Port
	}
	return 0
}

// TLSPort returns the port on which servers speak the protocol over TLS from the start; 0 if there
// is none.
func (p Protocol) TLSPort() int {
	if d, err := dialogue.Lookup(string(p)); err == nil {
		return d.TLSPort
	}
	return 0
}

// ALPN returns the protocol's name for ALPN (RFC 7301), empty if none is registered. In
// Config.TLS.NextProtos it has a server that knows ALPN refuse a connection that somebody has led
// to the server of another protocol (ALPACA).
func (p Protocol) ALPN() string {
	if d, err := dialogue.Lookup(string(p)); err == nil {
		return d.ALPN
	}
	return ""
}
