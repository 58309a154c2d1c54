package explain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/internal/verify"
)

// A finding is what has been found out.
type finding struct {
	reason Reason
	detail string
	advice string
}

// An explainer knows what was attempted.
type explainer struct {
	host   string
	config *tls.Config
	now    time.Time
}

// Client turns the error of a client's handshake, or of its first Read after one, into a
// *HandshakeError that says what was wrong and what mends it. (Under TLS 1.3 a server that refuses
// the client's certificate says so only after the client's handshake has succeeded.) It returns nil
// if err is nil, and err itself if it is explained already.
//
// Host is the host that was dialled, config the configuration of the connection, from
// tlsconfig.Client.For or another; nil stands for the zero configuration. It is read to say what
// was offered and which roots are trusted.
//
// It does no network I/O and may be called concurrently.
func Client(err error, host string, config *tls.Config) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*HandshakeError](err); ok {
		return err
	}
	if config == nil {
		config = &tls.Config{}
	}
	x := explainer{host: host, config: config, now: time.Now()}
	if config.Time != nil {
		x.now = config.Time()
	}

	alert := -1
	var f finding
	cause := belowOperations(err)
	if code, ok := remoteAlert(cause); ok {
		alert = int(code)
		f = x.alert(code)
	} else {
		f = x.find(cause)
	}
	return &HandshakeError{
		Reason: f.reason,
		Host:   host,
		Detail: f.detail,
		Advice: f.advice,
		Alert:  alert,
		Err:    err,
	}
}

// belowOperations takes off what the connection has put around the error of crypto/tls: operation
// and addresses, in a *net.OpError such as crypto/tls uses for the two kinds of alerts.
func belowOperations(err error) error {
	for {
		op, ok := errors.AsType[*net.OpError](err)
		switch {
		case !ok || op.Err == nil:
			return err
		case op.Op == "remote error", op.Op == "local error":
			return op
		}
		err = op.Err
	}
}

// find explains all but alerts.
func (x *explainer) find(err error) finding {
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return x.certificate(refused)
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return plaintext(record)
	}
	if f, ok := connectionEnded(err); ok {
		return f
	}
	return x.fromText(err)
}

// ending returns the class of an error of the connection below TLS.
func ending(err error) (Reason, bool) {
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed):
		return ReasonCanceled, true
	case errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, context.DeadlineExceeded),
		isNet && netErr.Timeout():
		return ReasonTimeout, true
	case errors.Is(err, syscall.ECONNRESET):
		return ReasonReset, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.ErrClosedPipe):
		return ReasonClosed, true
	}
	return "", false
}

// connectionEnded explains the errors of the connection below TLS.
func connectionEnded(err error) (finding, bool) {
	reason, ended := ending(err)
	switch reason {
	case ReasonCanceled:
		return finding{reason: reason, detail: "this side gave up"}, ended
	case ReasonTimeout:
		return finding{
			reason,
			"the server did not finish the handshake in time",
			"if the port speaks plaintext first, the server is waiting for a command: use STARTTLS or the TLS port; " +
				"else a firewall may drop the large ClientHello of the post-quantum groups: " +
				"try CurvePreferences (ssl_ecdh_curve) X25519",
		}, ended
	case ReasonReset:
		return finding{
			reason,
			"the connection was reset before the handshake was done",
			"a firewall or a filter on names, or a server that can't take this ClientHello: try another network, then " +
				"CurvePreferences (ssl_ecdh_curve) X25519",
		}, ended
	case ReasonClosed:
		return finding{
			reason,
			"the server closed the connection before the handshake was done",
			"look at the server's log; it may have no certificate for this name, be over a limit, or not speak TLS on " +
				"this port; a filter in between does the same",
		}, ended
	}
	return finding{}, ended
}

// fromText explains errors for which crypto/tls has no type. The texts are Go 1.26's. If one
// changes, the explanation becomes ReasonProtocolError or ReasonOther, which the tests notice.
func (x *explainer) fromText(err error) finding {
	message := err.Error()
	cleaned := text.Printable(message, text.MaxText)
	has := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case errors.Is(err, verify.ErrNoName),
		has("either ServerName or InsecureSkipVerify must be specified"):
		return noName()
	case has("tls: server selected unsupported protocol version"):
		return finding{
			ReasonProtocolVersion,
			fmt.Sprintf(
				"the server answered with version 0x%s, offered was %s",
				lastWord(cleaned),
				x.versions(),
			),
			"have the server enable TLS 1.2 or 1.3; to go below is possible by MinVersion (ssl_protocols), and unsafe",
		}
	case has("tls: no supported versions satisfy MinVersion and MaxVersion"):
		return finding{
			ReasonProtocolVersion,
			"MinVersion and MaxVersion leave no version to offer",
			"correct the two",
		}
	case has("tls: downgrade attempt detected"):
		return finding{
			ReasonProtocolVersion,
			"both sides can do a newer version than the one that was negotiated",
			"someone in between is tampering with the handshake, or a box in the path is broken",
		}
	case has("tls: server selected unadvertised ALPN protocol"):
		return x.alpn("the server chose a protocol that was not offered")
	case has("tls: failed to parse certificate from server"),
		has("tls: server sent certificate containing RSA key larger"),
		has("tls: server's certificate contains an unsupported type of public key"):
		return finding{ReasonUnreadableCertificate, cleaned, unreadableAdvice(message)}
	case has("tls: bad record MAC"):
		return finding{
			ReasonProtocolError, "what the server sent can't be decrypted",
			adviceKeys,
		}
	case has("invalid signature by the server certificate"):
		return finding{
			ReasonProtocolError,
			"the server does not hold the key of the certificate it sent",
			"its key file belongs to another certificate",
		}
	case strings.HasPrefix(message, "tls: "), strings.HasPrefix(message, "local error: tls: "):
		return finding{
			ReasonProtocolError,
			cleaned,
			"the server, or a box in the path, does not keep to the protocol",
		}
	}
	return finding{reason: ReasonOther, detail: cleaned}
}

func noName() finding {
	return finding{
		ReasonNoServerName,
		"the configuration does not say whose certificate to expect",
		"give the host to tlsconfig.Client.For, or set ServerName (ssl_host_name)",
	}
}

func unreadableAdvice(message string) string {
	if strings.Contains(message, "negative serial number") {
		return "reissue it; GODEBUG=x509negativeserial=1 is a stop-gap"
	}
	return "reissue it"
}

// plaintext explains a first record that is none. Five bytes are all that crypto/tls keeps.
func plaintext(record tls.RecordHeaderError) finding {
	if !strings.Contains(record.Msg, "does not look like a TLS handshake") {
		return finding{
			ReasonProtocolError, text.Printable(record.Error(), text.MaxText),
			"the server, or a box in the path, does not keep to the protocol",
		}
	}
	header := string(record.RecordHeader[:])
	speaks, advice := "", "is this the right port? On a port with STARTTLS, ask for the upgrade first"
	for _, p := range plaintextProtocols {
		if strings.HasPrefix(header, p.prefix) {
			speaks, advice = p.speaks, p.advice
			break
		}
	}
	detail := "the server did not answer with TLS"
	if speaks != "" {
		detail = "the server still speaks plaintext " + speaks
	}
	return finding{
		ReasonPlaintext,
		fmt.Sprintf("%s: its first bytes are %+q (untrusted)", detail, header),
		advice,
	}
}

const (
	adviceMail = "connect in plaintext and upgrade with STARTTLS, or use the port for TLS " +
		"(SMTP 465, IMAP 993, POP3 995, FTP 990)"
	adviceRefused = "see its full answer over a plaintext connection; was STARTTLS answered with 220?"
	adviceHTTP    = "use the HTTPS port, or plain http:// or ws:// on this one"
)

// plaintextProtocols is searched from top to bottom.
var plaintextProtocols = []struct{ prefix, speaks, advice string }{
	{"HTTP/", "HTTP", adviceHTTP},
	{"<html", "HTTP", adviceHTTP},
	{"220 ", "SMTP (or FTP)", adviceMail},
	{"220-", "SMTP (or FTP)", adviceMail},
	{"421 ", "SMTP (or FTP), and refuses", "the server is busy or refuses this client: try later"},
	{"4", "SMTP (or FTP), and refuses", adviceRefused},
	{"5", "SMTP (or FTP), and refuses", adviceRefused},
	{"200 ", "NNTP", "connect in plaintext and upgrade with STARTTLS, or use port 563"},
	{"201 ", "NNTP", "connect in plaintext and upgrade with STARTTLS, or use port 563"},
	{"* ", "IMAP", adviceMail},
	{"+OK", "POP3", adviceMail},
	{"-ERR", "POP3 or Redis, and refuses", adviceMail},
	{"SSH-", "SSH", "this port is for ssh"},
	{":", "IRC", "use the port for TLS (6697)"},
	{"NOTIC", "IRC", "use the port for TLS (6697)"},
	{`"`, "ManageSieve", "connect in plaintext and upgrade with STARTTLS"},
	{"<?xml", "XMPP", "connect in plaintext and upgrade with STARTTLS, or use port 5223"},
	{"<stre", "XMPP", "connect in plaintext and upgrade with STARTTLS, or use port 5223"},
}

// versions returns the range of versions that was offered.
func (x *explainer) versions() string {
	lowest, highest := x.config.MinVersion, x.config.MaxVersion
	if lowest == 0 {
		lowest = tls.VersionTLS12
	}
	if highest == 0 {
		highest = tls.VersionTLS13
	}
	if lowest == highest {
		return tls.VersionName(lowest) + " only"
	}
	return tls.VersionName(lowest) + " to " + tls.VersionName(highest)
}

// systemRootsEmpty reports whether the system's trust store is in use and has nothing in it.
func (x *explainer) systemRootsEmpty() bool {
	if x.config.RootCAs != nil {
		return false
	}
	pool, err := x509.SystemCertPool()
	return err == nil && pool.Equal(x509.NewCertPool())
}

func lastWord(s string) string {
	return s[strings.LastIndexByte(s, ' ')+1:]
}
