package explain

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/text"
)

// Server turns the error of a server's handshake into a *HandshakeError that says what was wrong
// and what mends it: the twin of [Client]. It returns nil if err is nil, and err itself if it is
// explained already. Client is the client's address, config what the server takes; nil stands for
// the zero configuration.
//
// Its Reason is one of fifteen or so, so that it may be a label in metrics: certificate refused,
// plaintext client, protocol version, handshake failure, client certificate required, client
// certificate refused, unrecognized name, no application protocol, alert, protocol error, closed
// during handshake, reset, timeout, canceled, local fault (see [Local]), handshake failed.
func Server(err error, client string, config *tls.Config) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*HandshakeError](err); ok {
		return err
	}
	if config == nil {
		config = &tls.Config{}
	}
	alert := -1
	var f finding
	cause := belowOperations(err)
	if code, ok := remoteAlert(err, cause); ok {
		alert = int(code)
		f = clientAlert(code, config)
	} else {
		f = findOnServer(cause, config)
	}
	return &HandshakeError{
		ID:     f.id,
		Reason: f.id.Reason(),
		Host:   client,
		Detail: f.detail,
		Advice: f.advice,
		Alert:  alert,
		Err:    err,
	}
}

// clientAlert explains an alert of the client's.
func clientAlert(code tls.AlertError, config *tls.Config) finding {
	said := fmt.Sprintf(
		"the client sent alert %d (%s)",
		uint8(code),
		strings.TrimPrefix(code.Error(), "tls: "),
	)
	refused := func(advice string) finding { return finding{IDCertRefused, said, advice} }
	switch code {
	case alertUnknownCA:
		return refused("send the full chain, or have the client trust the root")
	case alertCertificateExpired:
		return refused(
			"renew the certificate, or the intermediate that has run out, and check the client's clock",
		)
	case alertDecryptError:
		return refused("the key may be another certificate's")
	case alertBadCertificate,
		alertUnsupportedCert,
		alertCertificateRevoked,
		alertCertificateUnknown:
		return refused(
			"the client says no more (Go says this for all causes): see that the full chain is sent, covers the " +
				"name that the client asks for, and has not run out; or have the client trust the root",
		)
	case alertProtocolVersion:
		return finding{
			IDVersionNone,
			said,
			clientVersionAdvice(config, nil) + "; this side's range is that of " + setting.Versions,
		}
	case alertHandshakeFailure, alertInsufficientSecurity:
		return finding{
			IDParametersNone,
			said,
			"what this side chose is too weak for the client, or it can't do it",
		}
	case alertUnrecognizedName:
		return finding{IDSNIUnrecognized, said, ""}
	case alertNoApplicationProto:
		return finding{IDALPNNone, said, ""}
	case alertUserCanceled:
		return finding{IDClosed, said, ""}
	case alertBadRecordMAC:
		return finding{
			IDRecordMAC,
			said + ": it can't decrypt what this side sends",
			adviceKeys,
		}
	}
	return finding{IDAlert, said, "look at the client's log"}
}

const adviceLeft = "clients do so that don't like the certificate; load balancers and scanners, to see if the port is open"

// findOnServer explains all but alerts.
func findOnServer(err error, config *tls.Config) finding {
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return refusedClient(refused)
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return plaintextClient(record, config)
	}
	reason, ended := ending(err)
	switch reason {
	case ReasonTimeout:
		return finding{
			IDClientSilent, "the client did not finish the handshake in time",
			"if it said nothing at all it waits for a greeting: it speaks plaintext first on a port for TLS",
		}
	case ReasonReset:
		return finding{
			IDReset,
			"the client reset the connection before the handshake was done",
			adviceLeft,
		}
	case ReasonClosed:
		return finding{IDClosed, "the client left before the handshake was done", adviceLeft}
	}
	if ended {
		return finding{id: reason.ID(), detail: "this side gave up"}
	}
	return serverText(err, config)
}

// serverText explains errors for which crypto/tls has no type. The texts are Go 1.26's. If one
// changes, the explanation becomes ReasonProtocolError or ReasonOther, which the tests notice.
func serverText(err error, config *tls.Config) finding {
	message := err.Error()
	cleaned := text.Printable(message, text.MaxText)
	has := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case has("client offered only unsupported versions"):
		return finding{
			IDVersionNone, "the client offered only " + named(message, tls.VersionName),
			clientVersionAdvice(config, numbers(message)),
		}
	case has("no cipher suite supported by both client and server"):
		return finding{
			IDSuitesNone, "no common cipher suite; the client offered " + named(message, tls.CipherSuiteName),
			"drop " + setting.CipherSuites + ", or serve a certificate of the other kind as " +
				"well: suites have to fit its key, ECDSA or RSA",
		}
	case has("no key exchanges supported by both"),
		has("no ECDHE curve supported by both"),
		has("only incompatible point formats"):
		return finding{
			IDGroupsNone,
			"no common group for the key exchange",
			"drop " + setting.ServerGroups,
		}
	case has("peer doesn't support any of the certificate's signature algorithms"),
		has("unsupported signature algorithm"):
		return finding{
			IDSignaturesNone, "the client can't verify signatures of this certificate's kind",
			"serve one of the other kind as well, ECDSA or RSA",
		}
	case has("unsupported application protocols"), has("did not request an application protocol"):
		_, offered, _ := strings.Cut(cleaned, "protocols ")
		return finding{
			IDALPNNone, "the client offered " + offered,
			"add what it offers to ALPN if this server speaks it; clients of WebSocket offer http/1.1",
		}
	case has("client didn't provide a certificate"):
		return finding{
			IDClientCertRequired, "the client sent no certificate",
			"give it one from the authorities in " + setting.ClientCAs + ": clients keep theirs " +
				"back if it is from none of those; or set " + setting.ClientCertsRequest,
		}
	case has("client certificate"),
		has("client sent certificate"),
		has("tlsconfig: the peer sent no certificate"):
		return finding{IDClientCertRefused, cleaned, "give the client another certificate"}
	case has("no certificates configured"):
		return finding{
			IDSNIUnrecognized,
			"the client asked for no name, or for one without a certificate",
			setting.StrictSNI + " refuses those",
		}
	case has("local error: tls: bad record MAC"):
		// OpenSSL's clients send an alert about a certificate unencrypted also where TLS 1.3 has it
		// encrypted by then.
		return finding{
			IDCertRefused, "what the client sent can't be decrypted: most likely an alert about this server's certificate",
			"send the full chain, or have the client trust the root",
		}
	case strings.HasPrefix(message, "tls: "), strings.HasPrefix(message, "local error: tls: "):
		return finding{
			IDProtocolError,
			cleaned,
			"the client, or a box in the path, does not keep to the protocol",
		}
	}
	return finding{id: IDOther, detail: cleaned}
}

// numbers returns those in brackets at the end of one of crypto/tls's texts, such as [304 303].
func numbers(message string) (ids []uint16) {
	_, list, _ := strings.Cut(message, "[")
	for word := range strings.FieldsSeq(strings.TrimRight(list, "]")) {
		if id, err := strconv.ParseUint(word, 16, 16); err == nil {
			ids = append(ids, uint16(id))
		}
	}
	return ids
}

// named returns the names of these numbers.
func named(message string, name func(uint16) string) string {
	if ids := numbers(message); len(ids) > 0 {
		return text.List(ids, name)
	}
	return "none"
}

// refusedClient explains why this side refused the client's certificate.
func refusedClient(refused *tls.CertificateVerificationError) finding {
	who := "the client's certificate"
	if chain := refused.UnverifiedCertificates; len(chain) > 0 {
		who += " " + text.CertName(chain[0])
	}
	f := finding{
		IDClientCertRefused,
		who + ": " + text.Printable(refused.Err.Error(), text.MaxText),
		"",
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](refused); ok {
		f.advice = "add its authority to " + setting.ClientCAs +
			", or have the client send its intermediates"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](refused); ok {
		switch invalid.Reason {
		case x509.Expired:
			f.advice = "renew it, or check this machine's clock"
		case x509.IncompatibleUsage:
			f.advice = "have it reissued with the extended key usage clientAuth"
		}
	}
	return f
}

// plaintextClient explains a first record that is none. Five bytes are all that crypto/tls keeps.
func plaintextClient(record tls.RecordHeaderError, config *tls.Config) finding {
	header := record.RecordHeader[:]
	switch {
	case strings.Contains(record.Msg, "SSLv2"):
		return finding{
			IDVersionNone,
			"the client says hello as SSL 2.0 does",
			clientVersionAdvice(config, nil),
		}
	case !strings.Contains(record.Msg, "does not look like a TLS handshake"):
		return finding{
			IDProtocolError,
			text.Printable(record.Error(), text.MaxText),
			"the client, or a box in the path, does not keep to the protocol",
		}
	}
	what := ""
	if speaks := plaintextClientOf(header); speaks != nil {
		what = " " + speaks.name
	}
	return finding{
		IDClientPlaintext, fmt.Sprintf("the client speaks plaintext%s: its first bytes are %+q (untrusted)", what, header),
		"have it use TLS from the start, or the port for plaintext and STARTTLS",
	}
}

// plaintextClients are known by their first words.
var plaintextClients = []struct{ name, words, hint string }{
	{
		"HTTP", "GET POST HEAD PUT OPTIONS DELETE PATCH CONNECT TRACE PRI",
		"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 34\r\n\r\nThis port is for HTTPS, not HTTP.\n",
	},
	{"SMTP", "EHLO HELO LHLO MAIL RSET", "554 5.7.0 This port is for TLS from the start\r\n"},
	{"POP3", "USER CAPA APOP STLS", "-ERR this port is for TLS from the start\r\n"},
	{"XMPP", "<?xml <stre", ""},
	{"SSH", "SSH-2", ""},
}

// plaintextClientOf returns the entry of the first word. A word may be longer than what is there of
// it.
func plaintextClientOf(header []byte) *struct{ name, words, hint string } {
	end := bytes.IndexAny(header, " \r\n")
	first := string(header)
	if end >= 0 {
		first = first[:end]
	}
	for i := range plaintextClients {
		for word := range strings.FieldsSeq(plaintextClients[i].words) {
			if end < 0 && len(word) > len(first) {
				word = word[:len(first)]
			}
			if strings.EqualFold(word, first) {
				return &plaintextClients[i]
			}
		}
	}
	return nil
}

// PlaintextHint returns what to answer in plaintext to a client whose first bytes were no TLS
// record, before the connection is closed: a line in the protocol that the client seems to speak,
// so that whoever looks at it learns what is wrong. It returns nil where there is nothing to say:
// err is about something else, or the protocol isn't known.
func PlaintextHint(err error) []byte {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || !strings.Contains(record.Msg, "does not look like a TLS handshake") {
		return nil
	}
	client := plaintextClientOf(record.RecordHeader[:])
	if client == nil || client.hint == "" {
		return nil
	}
	return []byte(client.hint)
}
