package explain

import (
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// A Reason is the class of a handshake's failure: what a program decides by, and what to count
// failures under.
type Reason string

// The server's certificate was refused by this side. The wrapped error is a
// *tls.CertificateVerificationError.
const (
	// The chain ends at a root that is not trusted here.
	ReasonUnknownAuthority Reason = "unknown authority"
	ReasonSelfSigned       Reason = "self-signed" // one certificate, signed with its own key
	// The server did not send its intermediate certificates.
	ReasonIncompleteChain Reason = "incomplete chain"
	ReasonNoRoots         Reason = "no trusted roots" // this machine has no trust store
	ReasonNameMismatch    Reason = "name mismatch"    // the certificate is for other names
	ReasonExpired         Reason = "expired"          // a certificate of the chain has ended
	ReasonNotYetValid     Reason = "not yet valid"    // a certificate of the chain has not begun
	ReasonWrongUsage      Reason = "wrong usage"      // the certificate is not for servers
	// A constraint or ssl_verify_depth forbids the chain.
	ReasonInvalidChain Reason = "invalid chain"
)

// The server refused, or does not speak what was offered.
const (
	// The first bytes are no TLS record.
	ReasonPlaintext       Reason = "plaintext answered"
	ReasonProtocolVersion Reason = "protocol version" // no common TLS version
	// Alert 40 or 71: no common parameters.
	ReasonHandshakeFailure   Reason = "handshake failure"
	ReasonClientCertRequired Reason = "client certificate required" // and none was sent
	ReasonClientCertRefused  Reason = "client certificate refused"  // the one that was sent
	// Alert 112: no certificate for the name sent.
	ReasonUnrecognizedName Reason = "unrecognized name"
	ReasonNoCommonALPN     Reason = "no application protocol" // alert 120
	// Another alert from the server.
	ReasonAlert Reason = "alert"
	// What the server sent breaks the protocol.
	ReasonProtocolError Reason = "protocol error"
	// Go can't parse or won't use it.
	ReasonUnreadableCertificate Reason = "unreadable certificate"
	ReasonECHRejected           Reason = "ECH rejected" // the server has other keys for it
)

// The connection or this side ended it.
const (
	ReasonClosed       Reason = "closed during handshake"
	ReasonReset        Reason = "reset"
	ReasonTimeout      Reason = "timeout"
	ReasonCanceled     Reason = "canceled"       // by the caller: a context, or Close
	ReasonNoServerName Reason = "no server name" // the configuration does not say whom to verify
	// A callback of this side's configuration has panicked.
	ReasonLocalFault Reason = "local fault"
	ReasonOther      Reason = "handshake failed"
)

// What only a server sees, by [Server]. The other reasons of its handshakes are those above.
const (
	// The client does not take this server's certificate.
	ReasonCertificateRefused Reason = "certificate refused"
	// The client's first bytes are no TLS record.
	ReasonPlaintextClient Reason = "plaintext client"
)

// What is wrong with a certificate, its key or the files they are in, found before any handshake:
// see tlsconfig.CertificateError. ReasonExpired, ReasonNotYetValid, ReasonNameMismatch,
// ReasonWrongUsage, ReasonIncompleteChain, ReasonInvalidChain and ReasonUnreadableCertificate are
// used there too.
const (
	ReasonFileMissing Reason = "file missing"
	// Permissions, not a regular file, too large, a failing disk.
	ReasonFileUnreadable  Reason = "file unreadable"
	ReasonNotPEM          Reason = "not PEM"          // or nothing in it of what was looked for
	ReasonSwapped         Reason = "swapped"          // the key where the certificate belongs
	ReasonKeyEncrypted    Reason = "key encrypted"    // and there is no passphrase
	ReasonWrongPassphrase Reason = "wrong passphrase" // it doesn't open the key
	ReasonUnreadableKey   Reason = "unreadable key"   // damaged, or of a kind that TLS can't use
	ReasonKeyMismatch     Reason = "key mismatch"     // the key is another certificate's
	// The key is that of a later certificate in the file.
	ReasonLeafNotFirst Reason = "leaf not first"
	// Complete, but clients of TLS 1.2 may stumble.
	ReasonOutOfOrder Reason = "chain out of order"
	// SHA-1, MD5, or a short key: clients refuse it.
	ReasonWeak Reason = "weak"
)

// A HandshakeError explains why a handshake failed. [Client] and [Server] make it.
//
// Names and bytes from the peer in it are quoted, cut to a bounded length and without control
// characters. They are what the peer says of itself: not to be believed before it is verified.
type HandshakeError struct {
	ID     ID     // the cause
	Reason Reason // its class
	Host   string // the host as the caller gave it; on a server the client's address
	Detail string // what was found; one line, may be empty
	Advice string // what mends it; one line, may be empty
	Alert  int    // the alert that the peer sent (RFC 8446, Section 6), or -1
	Err    error  // what crypto/tls returned
}

// Error returns host, reason, detail and advice, on one line.
func (e *HandshakeError) Error() string {
	var b strings.Builder
	b.WriteString("tls handshake")
	if e.Host != "" {
		b.WriteString(" with " + text.Printable(e.Host, text.MaxText))
	}
	b.WriteString(": " + string(e.Reason))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Unwrap returns the error that crypto/tls returned, for errors.Is and errors.As.
func (e *HandshakeError) Unwrap() error { return e.Err }
