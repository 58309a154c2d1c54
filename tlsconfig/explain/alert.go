package explain

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/text"
)

// The alerts that have an explanation of their own (RFC 8446, Section 6.2).
const (
	alertBadRecordMAC         = 20
	alertHandshakeFailure     = 40
	alertBadCertificate       = 42
	alertUnsupportedCert      = 43
	alertCertificateRevoked   = 44
	alertCertificateExpired   = 45
	alertCertificateUnknown   = 46
	alertUnknownCA            = 48
	alertDecryptError         = 51
	alertProtocolVersion      = 70
	alertInsufficientSecurity = 71
	alertInternalError        = 80
	alertUserCanceled         = 90
	alertUnrecognizedName     = 112
	alertCertificateRequired  = 116
	alertNoApplicationProto   = 120
)

// remoteAlert returns the alert that the peer sent, if that is what err is about; cause is err
// without the operations around it. crypto/tls keeps it in an unexported type, with an exported
// twin for QUIC only, so that reflection is the way to its number. The twin is how package socket
// tells of an alert that came unencrypted, see ClearAlert.
func remoteAlert(err, cause error) (tls.AlertError, bool) {
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert, true
	}
	op, ok := errors.AsType[*net.OpError](cause)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	value := reflect.ValueOf(op.Err)
	if value.Kind() != reflect.Uint8 {
		return 0, false
	}
	return tls.AlertError(value.Uint()), true
}

// ClearAlert adds to err, the error of a handshake, the alert that the peer has sent in plaintext
// where it should have been encrypted. OpenSSL's clients do so under TLS 1.3 when they refuse the
// server's certificate, and crypto/tls only says that it can't decrypt it ("bad record MAC").
// Anybody on the way can have sent it, so it is an explanation and no more.
func ClearAlert(err error, code uint8) error {
	return &clearAlert{err: err, alert: tls.AlertError(code)}
}

type clearAlert struct {
	err   error
	alert tls.AlertError
}

func (e *clearAlert) Error() string {
	return fmt.Sprintf(
		"%v, after an alert in plaintext: %s",
		e.err,
		strings.TrimPrefix(e.alert.Error(), "tls: "),
	)
}

func (e *clearAlert) Unwrap() []error { return []error{e.err, e.alert} }

// alert explains an alert of the server's.
func (x *explainer) alert(code tls.AlertError) finding {
	said := fmt.Sprintf(
		"the server sent alert %d (%s)",
		uint8(code),
		strings.TrimPrefix(code.Error(), "tls: "),
	)
	switch code {
	case alertProtocolVersion:
		return finding{
			IDVersionNone,
			said + ", offered was " + x.versions(),
			x.versionAdvice(),
		}
	case alertHandshakeFailure, alertInsufficientSecurity:
		return finding{
			IDParametersNone,
			said + ": it found no common " + x.parameters(),
			x.parameterAdvice(),
		}
	case alertCertificateRequired,
		alertBadCertificate,
		alertUnsupportedCert,
		alertCertificateRevoked,
		alertCertificateExpired,
		alertCertificateUnknown,
		alertUnknownCA:
		return x.clientCert(code, said)
	case alertUnrecognizedName:
		return finding{
			IDSNIUnrecognized,
			said,
			"connect by a name that the server has a certificate for, or set " +
				setting.ServerName + " to one",
		}
	case alertNoApplicationProto:
		return x.alpn(said)
	case alertBadRecordMAC:
		return finding{
			IDRecordMAC,
			said + ": it can't decrypt what this side sends",
			adviceKeys,
		}
	case alertInternalError:
		return finding{
			IDAlertInternal,
			said,
			"look at the server's log; often it has no certificate for this name",
		}
	}
	return finding{IDAlert, said, "look at the server's log"}
}

// adviceKeys is about an alert bad_record_mac. RFC 8446, section 4.6.3: whoever is asked for new
// keys answers before it sends anything else, and the answer is the last thing under the old ones.
const adviceKeys = "a box in the path changes what is sent; or the two sides don't agree since when new keys hold, " +
	"after a KeyUpdate that the other side has not answered, or whose answer it has overlooked"

// clientCert explains alerts about the client's certificate, of which there may be none.
func (x *explainer) clientCert(code tls.AlertError, said string) finding {
	if len(x.config.Certificates) == 0 && x.config.GetClientCertificate == nil {
		return finding{
			IDClientCertRequired,
			said + " and this side has no certificate",
			"set " + setting.Certificate + " to a certificate from an authority that the server " +
				"trusts",
		}
	}
	if code == alertCertificateRequired {
		return finding{
			IDClientCertWithheld,
			said + ": this side has a certificate, but from none of the authorities that the server named, so it was not sent",
			"get one from those, and have the file contain the intermediates; " +
				setting.Authorities + " sees which ones they are",
		}
	}
	return finding{
		IDClientCertRefused,
		said,
		"see that the certificate, of " + setting.Certificate + ", has not ended, comes with " +
			"its intermediates, is for clients, and from an authority that the server trusts",
	}
}

// parameters says what was offered, where the configuration restricts it.
func (x *explainer) parameters() string {
	what := "parameters in " + x.versions()
	if ids := x.config.CipherSuites; len(ids) > 0 {
		what += ", cipher suites " + text.List(ids, tls.CipherSuiteName)
	}
	if groups := x.config.CurvePreferences; len(groups) > 0 {
		what += ", groups " + text.List(groups, tls.CurveID.String)
	}
	return what
}

func (x *explainer) parameterAdvice() string {
	advice := "the server may have only older cipher suites or groups"
	if len(x.config.CipherSuites) > 0 || len(x.config.CurvePreferences) > 0 {
		advice = "drop the restriction of " + setting.CipherSuites + " or " + setting.Groups +
			"; suites have to fit the server's kind of key, ECDSA or RSA"
	}
	if len(x.config.Certificates) == 0 && x.config.GetClientCertificate == nil {
		advice += "; under TLS 1.2 it may also mean that it wants a client certificate"
	}
	return advice
}

func (x *explainer) alpn(said string) finding {
	offered := "none"
	if protocols := x.config.NextProtos; len(protocols) > 0 {
		offered = text.List(protocols, text.Quoted)
	}
	return finding{
		IDALPNNone,
		said + ", offered was " + offered,
		"set " + setting.ALPN + " to what the server speaks; for WebSocket the server has to " +
			"offer http/1.1, not h2 alone",
	}
}
