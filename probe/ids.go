package probe

import (
	"errors"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// What package explain can't see, as it sees one failed handshake. These are found before there is
// one, by comparing several, or where all works.
const (
	IDDNS            explain.ID = "NET-DNS"
	IDRefused        explain.ID = "NET-REFUSED"
	IDUnreachable    explain.ID = "NET-UNREACHABLE"
	IDTimeout        explain.ID = "NET-TIMEOUT"
	IDAddressDead    explain.ID = "NET-ADDRESS-DEAD" // others of the host's take connections
	IDPortSilent     explain.ID = "TLS-PORT-SILENT"
	IDPortImplicit   explain.ID = "TLS-PORT-IMPLICIT" // TLS from the start, asked for STARTTLS
	IDHelloLarge     explain.ID = "TLS-HELLO-LARGE"
	IDIntolerant     explain.ID = "TLS-VERSION-INTOLERANT"
	IDSNIFiltered    explain.ID = "TLS-SNI-FILTERED"
	IDExpiresSoon    explain.ID = "TLS-CERT-EXPIRES-SOON"
	IDVersionOld     explain.ID = "TLS-VERSION-OLD"
	IDVersionNo13    explain.ID = "TLS-VERSION-NO-1.3"
	IDSuiteWeak      explain.ID = "TLS-SUITE-WEAK"
	IDSuiteNoFS      explain.ID = "TLS-SUITE-NO-FORWARD-SECRECY"
	IDGroupNoPQ      explain.ID = "TLS-GROUP-NO-POST-QUANTUM"
	IDSNIRequired    explain.ID = "TLS-SNI-REQUIRED"
	IDNoResumption   explain.ID = "TLS-RESUMPTION-NONE"
	IDStapleMissing  explain.ID = "TLS-STAPLE-MISSING"
	IDStapleStale    explain.ID = "TLS-STAPLE-STALE"
	IDStapleInvalid  explain.ID = "TLS-STAPLE-INVALID"
	IDStapleRevoked  explain.ID = "TLS-STAPLE-REVOKED"
	IDNotOffered     explain.ID = "STARTTLS-NOT-OFFERED"
	IDStartRefused   explain.ID = "STARTTLS-REFUSED"
	IDStartInjected  explain.ID = "STARTTLS-INJECTED" // plaintext behind the server's consent
	IDStartProtocol  explain.ID = "STARTTLS-PROTOCOL-ERROR"
	IDStartSession   explain.ID = "STARTTLS-SESSION-ERROR" // nonsense over TLS
	IDInjection      explain.ID = "STARTTLS-INJECTION"
	IDRedirect       explain.ID = "HTTP-REDIRECT"
	IDForbidden      explain.ID = "HTTP-FORBIDDEN"
	IDNotFound       explain.ID = "HTTP-NOT-FOUND"
	IDServerError    explain.ID = "HTTP-SERVER-ERROR" // of the program's own
	IDBackend        explain.ID = "HTTP-BACKEND"      // of a proxy, about what is behind it
	IDNoPage         explain.ID = "HTTP-NO-PAGE"      // another status than 2xx
	IDNoHTTP         explain.ID = "HTTP-NONE"
	IDNotUpgraded    explain.ID = "WS-NOT-UPGRADED"
	IDWrongAccept    explain.ID = "WS-WRONG-ACCEPT"
	IDSubprotocol    explain.ID = "WS-SUBPROTOCOL"
	IDPolicyVersion  explain.ID = "TLS-POLICY-VERSION"
	IDPolicySuite    explain.ID = "TLS-POLICY-SUITE"
	IDPolicyGroup    explain.ID = "TLS-POLICY-GROUP"
	IDPolicyKey      explain.ID = "TLS-POLICY-KEY"
	IDPolicySigned   explain.ID = "TLS-POLICY-SIGNATURE"
	IDPolicyLifetime explain.ID = "TLS-POLICY-LIFETIME"
	IDPolicyStaple   explain.ID = "TLS-POLICY-STAPLE"
)

// own has the severity of each of them and the sentence that mends it, "" where it depends.
var own = []struct {
	id       explain.ID
	severity Severity
	mend     string
}{
	{IDDNS, Error, "Correct the name, or publish an address (A or AAAA) for it."},
	{
		IDRefused,
		Error,
		"Start the server, or correct the port: the machine is there and nothing listens.",
	},
	{IDUnreachable, Error, "Look at the route and at the firewall between here and there."},
	{
		IDTimeout,
		Error,
		"Open the port in the firewall, which drops what is sent to it, or start the machine.",
	},
	{
		IDAddressDead, Warning,
		"Have the server listen on that address too, or take it out of DNS: clients that try it " +
			"first are slow or fail.",
	},
	{
		IDPortSilent,
		Error,
		"See what the server on this port is: it takes a hello of TLS and says nothing.",
	},
	{IDPortImplicit, Error, "Leave STARTTLS out: TLS begins with the connection on this port."},
	{
		IDHelloLarge, Error,
		"Mend or replace the box in the path that drops a ClientHello of two packets, or offer " +
			"X25519 alone meanwhile.",
	},
	{
		IDIntolerant,
		Error,
		"Update the server, or the box before it, that can't take the offer of TLS 1.3.",
	},
	{
		IDSNIFiltered, Error,
		"Look for a filter on names between here and there, or give the server a certificate for " +
			"the name.",
	},
	{
		IDExpiresSoon,
		Warning,
		"Renew the certificate now, and see why that has not happened by itself.",
	},
	{IDVersionOld, Warning, "Take TLS 1.0 and 1.1 out of the server's configuration (RFC 8996)."},
	{IDVersionNo13, Info, "Switch TLS 1.3 on, or update the server's library."},
	{IDSuiteWeak, Warning, "Take the suites with RC4 and 3DES out of the server's configuration."},
	{
		IDSuiteNoFS, Warning,
		"Leave suites with ECDHE alone: without it, who gets the key can read what was recorded " +
			"before.",
	},
	{
		IDGroupNoPQ, Info,
		"Let the server offer X25519MLKEM768 (OpenSSL 3.5, Go 1.24): what is recorded today may " +
			"be read one day.",
	},
	{
		IDSNIRequired,
		Info,
		"Give the server a default certificate if clients that send no name are to be served.",
	},
	{
		IDNoResumption, Info,
		"Switch session tickets on, with the same keys on all machines behind the name, to halve " +
			"the cost of handshakes.",
	},
	{
		IDStapleMissing,
		Error,
		"Switch OCSP stapling on: the certificate promises a staple (must-staple).",
	},
	{IDStapleStale, Warning, "Let the server fetch the answer of OCSP anew before it runs out."},
	{
		IDStapleInvalid,
		Warning,
		"Let the server fetch the answer of OCSP anew: nobody can read or verify this one.",
	},
	{
		IDStapleRevoked,
		Error,
		"Replace the certificate, which its authority has revoked, and its key.",
	},
	{
		IDNotOffered,
		Error,
		"Switch STARTTLS on in the server, or use its port for TLS from the start.",
	},
	{IDStartRefused, Error, "Look at the server's log for why it offers STARTTLS and refuses it."},
	{
		IDStartInjected, Error,
		"Find who writes into the plaintext before TLS begins: the server, or somebody in the " +
			"path.",
	},
	{IDStartProtocol, Error, "See that the protocol of STARTTLS is the one that this port speaks."},
	{
		IDStartSession, Error,
		"Look at what is behind the server's TLS: it doesn't speak the protocol in which TLS was " +
			"asked for.",
	},
	{
		IDInjection, Error,
		"Update the server: it has to drop what came in plaintext behind STARTTLS (CVE-2011-0411).",
	},
	{IDRedirect, Error, "Connect to the address that the server redirects to."},
	{IDForbidden, Error, ""},
	{IDNotFound, Error, "Correct the path."},
	{
		IDServerError, Error,
		"Look at the log of the program that answers: it says that the fault is its own.",
	},
	{
		IDBackend, Error,
		"Start the server behind the proxy, see whether it is overloaded, or correct the proxy's " +
			"address of it.",
	},
	{
		IDNoPage, Error,
		"Look at the server's log for what it doesn't like in the request, or correct the path.",
	},
	{
		IDNoHTTP,
		Error,
		"See what the server on this port is: TLS is fine, and it doesn't answer a request of " +
			"HTTP.",
	},
	{
		IDNotUpgraded, Error,
		"Let the proxy pass the headers Upgrade and Connection on, and correct the path: what " +
			"answers is no WebSocket.",
	},
	{
		IDWrongAccept,
		Error,
		"Look for a cache between: the answer belongs to another client's handshake.",
	},
	{
		IDSubprotocol, Warning,
		"Have the server choose one of the subprotocols that its clients offer: browsers give up " +
			"where it doesn't.",
	},
	{IDPolicyVersion, Error, ""},
	{IDPolicySuite, Error, ""},
	{IDPolicyGroup, Error, ""},
	{IDPolicyKey, Error, ""},
	{IDPolicySigned, Error, ""},
	{IDPolicyLifetime, Error, ""},
	{IDPolicyStaple, Error, ""},
}

// IDs returns all that a report may have: package explain's, and those found here alone.
func IDs() []explain.ID {
	all := explain.IDs()
	for _, entry := range own {
		all = append(all, entry.id)
	}
	return all
}

// found makes a finding of this package's own.
func found(id explain.ID, layer, evidence string) Finding {
	for _, entry := range own {
		if entry.id == id {
			return Finding{id, entry.severity, layer, evidence, entry.mend}
		}
	}
	panic("probe: no such finding: " + id)
}

// explained makes a finding of an explanation.
func explained(e *explain.HandshakeError, layer string) Finding {
	return Finding{e.ID, Error, layer, e.Detail, sentence(e.Advice)}
}

// ofFile makes a finding of what is wrong with a file or with the certificates in it.
func ofFile(e *tlsconfig.CertificateError, layer string) Finding {
	severity := Error
	if e.Warning() {
		severity = Warning
	}
	evidence := e.Detail
	if evidence == "" {
		evidence = string(e.Reason)
	}
	if layer == layerFiles {
		evidence = e.File + ": " + evidence
	}
	return Finding{e.ID(), severity, layer, evidence, sentence(e.Advice)}
}

// asExplained returns the explanation in err, nil if there is none.
func asExplained(err error) *explain.HandshakeError {
	e, _ := errors.AsType[*explain.HandshakeError](err)
	return e
}

// sentence makes one of an advice.
func sentence(advice string) string {
	if advice == "" {
		return "Look at the server's log."
	}
	first, rest := advice[:1], advice[1:]
	if first[0] >= 'a' && first[0] <= 'z' {
		first = string(first[0] - 'a' + 'A')
	}
	switch rest[max(0, len(rest)-1):] {
	case ".", "?":
		return first + rest
	}
	return first + rest + "."
}
