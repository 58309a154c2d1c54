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

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
)

// A finding is what has been found out.
type finding struct {
	id     ID
	detail string
	advice string
}

// An explainer knows what was attempted.
type explainer struct {
	host   string
	config *tls.Config
	now    time.Time
	file   bool // it is about a certificate that no server has sent
}

// orFile returns what to say of a server, or of a file where there is none.
func (x *explainer) orFile(server, file string) string {
	if x.file {
		return file
	}
	return server
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
	return (&explainer{host: host, config: config}).explain(err)
}

// File is [Client] for a *tls.CertificateVerificationError of a chain that is in a file, and was
// sent by no server.
func File(err error, host string, config *tls.Config) error {
	return (&explainer{host: host, config: config, file: true}).explain(err)
}

func (x *explainer) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*HandshakeError](err); ok {
		return err
	}
	if x.config == nil {
		x.config = &tls.Config{}
	}
	x.now = time.Now()
	if x.config.Time != nil {
		x.now = x.config.Time()
	}

	alert := -1
	var f finding
	cause := belowOperations(err)
	if code, ok := remoteAlert(err, cause); ok {
		alert = int(code)
		f = x.alert(code)
	} else {
		f = x.find(cause)
	}
	return &HandshakeError{
		ID:     f.id,
		Reason: f.id.Reason(),
		Host:   x.host,
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
	if rejected, ok := errors.AsType[*tls.ECHRejectionError](err); ok {
		return ech(rejected)
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
		return finding{id: IDCanceled, detail: "this side gave up"}, ended
	case ReasonTimeout:
		return finding{
			IDTimeout,
			"the server did not finish the handshake in time",
			"if the port speaks plaintext first, the server is waiting for a command: use STARTTLS or the TLS port; " +
				"else a firewall may drop the large ClientHello of the post-quantum groups: " +
				"try X25519 alone in " + setting.Groups,
		}, ended
	case ReasonReset:
		return finding{
			IDReset,
			"the connection was reset before the handshake was done",
			"a firewall or a filter on names, or a server that can't take this ClientHello: try " +
				"another network, then X25519 alone in " + setting.Groups,
		}, ended
	case ReasonClosed:
		return finding{
			IDClosed,
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
			IDVersionNone,
			fmt.Sprintf(
				"the server answered with version 0x%s, offered was %s",
				lastWord(cleaned),
				x.versions(),
			),
			x.versionAdvice(),
		}
	case has("tls: no supported versions satisfy MinVersion and MaxVersion"):
		return finding{
			IDVersionNone,
			setting.Versions + " leave no version to offer",
			"correct the two",
		}
	case has("tls: downgrade attempt detected"):
		return finding{
			IDVersionDowngrade,
			"both sides can do a newer version than the one that was negotiated",
			"someone in between is tampering with the handshake, or a box in the path is broken",
		}
	case has("tls: server selected unadvertised ALPN protocol"):
		return x.alpn("the server chose a protocol that was not offered")
	case has("tls: failed to parse certificate from server"),
		has("tls: server sent certificate containing RSA key larger"),
		has("tls: server's certificate contains an unsupported type of public key"):
		return finding{IDCertUnreadable, cleaned, unreadableAdvice(message)}
	case has("tls: bad record MAC"):
		return finding{
			IDRecordMAC, "what the server sent can't be decrypted",
			adviceKeys,
		}
	case has("-bit keys are insecure"):
		_, size, _ := strings.Cut(cleaned, "crypto/rsa: ")
		size, _, _ = strings.Cut(size, "-bit keys")
		return finding{
			IDCertWeak,
			fmt.Sprintf("the certificate's RSA key has %s bits, which is not accepted any more",
				size),
			"have it reissued for a key of ECDSA P-256, or of RSA with 2048 bits; " +
				"GODEBUG=rsa1024min=0 is a stop-gap, and unsafe",
		}
	case has("tls: certificate used with invalid signature algorithm"):
		return finding{
			IDSignaturesNone,
			"the server signs the handshake in a way that was not offered, mostly that is SHA-1",
			"update the server; GODEBUG=tlssha1=1 is a stop-gap, and unsafe",
		}
	case has("invalid signature by the server certificate"):
		return finding{
			IDKeyNotHeld,
			"the server does not hold the key of the certificate it sent",
			"its key file belongs to another certificate",
		}
	case strings.HasPrefix(message, "tls: "), strings.HasPrefix(message, "local error: tls: "):
		return finding{
			IDProtocolError,
			cleaned,
			"the server, or a box in the path, does not keep to the protocol",
		}
	}
	return finding{id: IDOther, detail: cleaned}
}

// ech explains that the server has not taken the encrypted hello. RFC 9849, section 6.1.6.
func ech(rejected *tls.ECHRejectionError) finding {
	if len(rejected.RetryConfigList) > 0 {
		return finding{
			IDECHRejected,
			"the server has other keys for Encrypted Client Hello than those that were used, and sent them",
			"connect again with the " + setting.ECHRetry + " of this error, and renew the list " +
				"in DNS (HTTPS record)",
		}
	}
	return finding{
		IDECHRejected,
		"the server does not do Encrypted Client Hello (any more)",
		"connect without " + setting.ECH + ", and take the list out of DNS (HTTPS record)",
	}
}

func noName() finding {
	return finding{
		IDServerNameUnset,
		"the configuration does not say whose certificate to expect",
		"give the host to " + setting.ClientFor + ", or set " + setting.ServerName,
	}
}

func unreadableAdvice(message string) string {
	if strings.Contains(message, "negative serial number") {
		return "reissue it; GODEBUG=x509negativeserial=1 is a stop-gap"
	}
	return "reissue it"
}

// versions returns the range of versions that was offered.
func (x *explainer) versions() string {
	lowest, highest := versionRange(x.config)
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
