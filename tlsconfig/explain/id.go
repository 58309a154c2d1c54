package explain

// An ID names one cause of a failure, more finely than a [Reason] does. It is stable: programs,
// logs and documentation may refer to it. The page docs/probe.md lists all of them.
type ID string

// This side refused the server's certificate.
const (
	IDChainIncomplete    ID = "TLS-CHAIN-INCOMPLETE"   // the server left an intermediate out
	IDChainPrivateRoot   ID = "TLS-CHAIN-PRIVATE-ROOT" // complete, to a root not trusted here
	IDChainUnknownIssuer ID = "TLS-CHAIN-UNKNOWN-ISSUER"
	IDChainBrokenIssuer  ID = "TLS-CHAIN-BROKEN-ISSUER" // the issuer sent can't have signed it
	IDChainConstraint    ID = "TLS-CHAIN-CONSTRAINT"    // the authority may not sign for the name
	IDChainTooLong       ID = "TLS-CHAIN-TOO-LONG"      // more intermediates than are allowed here
	IDChainInvalid       ID = "TLS-CHAIN-INVALID"
	IDChainExpired       ID = "TLS-CHAIN-EXPIRED" // a certificate above the server's has ended
	IDChainNotYetValid   ID = "TLS-CHAIN-NOT-YET-VALID"
	IDRootsNone          ID = "TLS-ROOTS-NONE" // this machine has no trust store
	IDCertSelfSigned     ID = "TLS-CERT-SELF-SIGNED"
	IDCertExpired        ID = "TLS-CERT-EXPIRED"
	IDCertNotYetValid    ID = "TLS-CERT-NOT-YET-VALID"
	IDCertUsage          ID = "TLS-CERT-USAGE"       // not for servers
	IDCertWeak           ID = "TLS-CERT-WEAK"        // SHA-1, MD5, or a short key
	IDNameMismatch       ID = "TLS-NAME-MISMATCH"    // for other hosts
	IDNameWildcard       ID = "TLS-NAME-WILDCARD"    // a wildcard is one label short
	IDNameAddress        ID = "TLS-NAME-ADDRESS"     // dialled by address, issued for names
	IDNameCommonName     ID = "TLS-NAME-COMMON-NAME" // no subjectAltName
	IDNameNoSNI          ID = "TLS-NAME-NO-SNI"      // this side asked for no name
)

// The server refused, or does not speak what was offered.
const (
	IDPortHTTP           ID = "TLS-PORT-HTTP"      // plain HTTP
	IDPortStartTLS       ID = "TLS-PORT-STARTTLS"  // plaintext first, TLS by an upgrade
	IDPortPlaintext      ID = "TLS-PORT-PLAINTEXT" // another protocol
	IDPortRefuses        ID = "TLS-PORT-REFUSES"   // an answer in plaintext that says no
	IDVersionNone        ID = "TLS-VERSION-NONE-COMMON"
	IDVersionDowngrade   ID = "TLS-VERSION-DOWNGRADE" // somebody tampers with the handshake
	IDParametersNone     ID = "TLS-PARAMETERS-NONE-COMMON"
	IDSuitesNone         ID = "TLS-SUITES-NONE-COMMON"
	IDGroupsNone         ID = "TLS-GROUPS-NONE-COMMON"
	IDSignaturesNone     ID = "TLS-SIGNATURES-NONE-COMMON"
	IDALPNNone           ID = "TLS-ALPN-NONE-COMMON"
	IDClientCertRequired ID = "TLS-CLIENT-CERT-REQUIRED"
	IDClientCertWithheld ID = "TLS-CLIENT-CERT-WITHHELD" // it fits no authority that was named
	IDClientCertRefused  ID = "TLS-CLIENT-CERT-REFUSED"
	IDSNIUnrecognized    ID = "TLS-SNI-UNRECOGNIZED"
	IDAlert              ID = "TLS-ALERT"
	IDAlertInternal      ID = "TLS-ALERT-INTERNAL"
	IDProtocolError      ID = "TLS-PROTOCOL-ERROR"
	IDRecordMAC          ID = "TLS-RECORD-MAC"   // what comes can't be decrypted
	IDKeyNotHeld         ID = "TLS-KEY-NOT-HELD" // the server signs with another key
	IDCertUnreadable     ID = "TLS-CERT-UNREADABLE"
	IDECHRejected        ID = "TLS-ECH-REJECTED"
)

// The connection or this side ended it.
const (
	IDClosed          ID = "TLS-CLOSED"
	IDReset           ID = "TLS-RESET"
	IDTimeout         ID = "TLS-TIMEOUT"
	IDCanceled        ID = "TLS-CANCELED"
	IDServerNameUnset ID = "TLS-SERVER-NAME-UNSET"
	IDLocalFault      ID = "TLS-LOCAL-FAULT"
	IDOther           ID = "TLS-OTHER"
)

// What only a server sees.
const (
	IDCertRefused     ID = "TLS-CERT-REFUSED" // the client doesn't take this server's certificate
	IDClientPlaintext ID = "TLS-CLIENT-PLAINTEXT"
	IDClientSilent    ID = "TLS-CLIENT-SILENT" // it does not finish the handshake, or begin it
)

// What is wrong with files, before any handshake.
const (
	IDFileMissing       ID = "TLS-FILE-MISSING"
	IDFileUnreadable    ID = "TLS-FILE-UNREADABLE"
	IDFileNotPEM        ID = "TLS-FILE-NOT-PEM"
	IDFilesSwapped      ID = "TLS-FILES-SWAPPED"
	IDKeyEncrypted      ID = "TLS-KEY-ENCRYPTED"
	IDKeyPassphrase     ID = "TLS-KEY-PASSPHRASE"
	IDKeyUnreadable     ID = "TLS-KEY-UNREADABLE"
	IDKeyMismatch       ID = "TLS-KEY-MISMATCH"
	IDChainLeafNotFirst ID = "TLS-CHAIN-LEAF-NOT-FIRST"
	IDChainOrder        ID = "TLS-CHAIN-ORDER"
	IDChainStray        ID = "TLS-CHAIN-STRAY" // a certificate that doesn't belong to it
)

// ids has the Reason that each one belongs to. Of those that share a Reason the first one stands
// for all of it, see Reason.ID.
var ids = []struct {
	id     ID
	reason Reason
}{
	{IDChainIncomplete, ReasonIncompleteChain},
	{IDChainUnknownIssuer, ReasonUnknownAuthority},
	{IDChainPrivateRoot, ReasonUnknownAuthority},
	{IDChainBrokenIssuer, ReasonUnknownAuthority},
	{IDChainInvalid, ReasonInvalidChain},
	{IDChainConstraint, ReasonInvalidChain},
	{IDChainTooLong, ReasonInvalidChain},
	{IDChainStray, ReasonInvalidChain},
	{IDRootsNone, ReasonNoRoots},
	{IDCertSelfSigned, ReasonSelfSigned},
	{IDCertExpired, ReasonExpired},
	{IDChainExpired, ReasonExpired},
	{IDCertNotYetValid, ReasonNotYetValid},
	{IDChainNotYetValid, ReasonNotYetValid},
	{IDCertUsage, ReasonWrongUsage},
	{IDCertWeak, ReasonWeak},
	{IDNameMismatch, ReasonNameMismatch},
	{IDNameWildcard, ReasonNameMismatch},
	{IDNameAddress, ReasonNameMismatch},
	{IDNameCommonName, ReasonNameMismatch},
	{IDNameNoSNI, ReasonNameMismatch},
	{IDPortPlaintext, ReasonPlaintext},
	{IDPortHTTP, ReasonPlaintext},
	{IDPortStartTLS, ReasonPlaintext},
	{IDPortRefuses, ReasonPlaintext},
	{IDVersionNone, ReasonProtocolVersion},
	{IDVersionDowngrade, ReasonProtocolVersion},
	{IDParametersNone, ReasonHandshakeFailure},
	{IDSuitesNone, ReasonHandshakeFailure},
	{IDGroupsNone, ReasonHandshakeFailure},
	{IDSignaturesNone, ReasonHandshakeFailure},
	{IDALPNNone, ReasonNoCommonALPN},
	{IDClientCertRequired, ReasonClientCertRequired},
	{IDClientCertWithheld, ReasonClientCertRequired},
	{IDClientCertRefused, ReasonClientCertRefused},
	{IDSNIUnrecognized, ReasonUnrecognizedName},
	{IDAlert, ReasonAlert},
	{IDAlertInternal, ReasonAlert},
	{IDProtocolError, ReasonProtocolError},
	{IDRecordMAC, ReasonProtocolError},
	{IDKeyNotHeld, ReasonProtocolError},
	{IDCertUnreadable, ReasonUnreadableCertificate},
	{IDECHRejected, ReasonECHRejected},
	{IDClosed, ReasonClosed},
	{IDReset, ReasonReset},
	{IDTimeout, ReasonTimeout},
	{IDClientSilent, ReasonTimeout},
	{IDCanceled, ReasonCanceled},
	{IDServerNameUnset, ReasonNoServerName},
	{IDLocalFault, ReasonLocalFault},
	{IDOther, ReasonOther},
	{IDCertRefused, ReasonCertificateRefused},
	{IDClientPlaintext, ReasonPlaintextClient},
	{IDFileMissing, ReasonFileMissing},
	{IDFileUnreadable, ReasonFileUnreadable},
	{IDFileNotPEM, ReasonNotPEM},
	{IDFilesSwapped, ReasonSwapped},
	{IDKeyEncrypted, ReasonKeyEncrypted},
	{IDKeyPassphrase, ReasonWrongPassphrase},
	{IDKeyUnreadable, ReasonUnreadableKey},
	{IDKeyMismatch, ReasonKeyMismatch},
	{IDChainLeafNotFirst, ReasonLeafNotFirst},
	{IDChainOrder, ReasonOutOfOrder},
}

// IDs returns all of them.
func IDs() []ID {
	all := make([]ID, len(ids))
	for i, entry := range ids {
		all[i] = entry.id
	}
	return all
}

// Reason returns the class that id belongs to, "" if it is none of this package's.
func (id ID) Reason() Reason {
	for _, entry := range ids {
		if entry.id == id {
			return entry.reason
		}
	}
	return ""
}

// ID returns the ID of a failure of which no more than its Reason is known.
func (r Reason) ID() ID {
	for _, entry := range ids {
		if entry.reason == r {
			return entry.id
		}
	}
	return IDOther
}
