package explain_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// failed shakes hands and returns the explanation of the failure, after checking what holds for
// every explanation.
func failed(t *testing.T, config *tls.Config, serve func(net.Conn)) *explain.HandshakeError {
	t.Helper()
	_, err := tlstest.Dial(t, config, serve)
	if err == nil {
		t.Fatal("the handshake succeeded")
	}
	return explained(t, err, config)
}

func explained(t *testing.T, err error, config *tls.Config) *explain.HandshakeError {
	t.Helper()
	got := explain.Client(err, "mail.test", config)
	wrapped := explain.Client(&net.OpError{Op: "handshake", Net: "tcp", Err: errors.Join(err)}, "mail.test", config)
	if wrapped.Error() != got.Error() {
		t.Errorf("within the error of an operation it is explained otherwise: %v\nand not: %v", wrapped, got)
	}
	e, ok := got.(*explain.HandshakeError)
	if !ok {
		t.Fatalf("got %T, want a *explain.HandshakeError", got)
	}
	tlstest.CheckLine(t, e.Error())
	if e.ID.Reason() != e.Reason {
		t.Errorf("%s isn't of %q: %v", e.ID, e.Reason, e)
	}
	if !errors.Is(e, err) {
		t.Errorf("%v does not wrap %v", e, err)
	}
	if explain.Client(fmt.Errorf("again: %w", e), "x", nil).Error() != "again: "+e.Error() {
		t.Error("an explained error was explained again")
	}
	return e
}

// check fails the test unless the reason is as wanted and the message has all the words.
func check(t *testing.T, e *explain.HandshakeError, reason explain.Reason, words ...string) {
	t.Helper()
	for _, word := range append(words, "tls handshake with mail.test: "+string(reason)) {
		if e.Reason != reason || !strings.Contains(e.Error(), word) {
			t.Errorf("want %q and %q in:\n%v\nfor %v", reason, word, e, e.Err)
		}
	}
}

// say returns a server that sends text at once and hangs up when the client does.
func say(text string) func(net.Conn) {
	return func(raw net.Conn) {
		io.WriteString(raw, text)
		raw.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, raw)
	}
}

func TestNilIsNotExplained(t *testing.T) {
	if err := explain.Client(nil, "mail.test", nil); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestExplainPlaintext(t *testing.T) {
	config := tlsconfig.NewClient(nil).For("mail.test")
	for greeting, words := range map[string][]string{
		"220 mail.test ESMTP\r\n":            {`plaintext SMTP (or FTP)`, `"220 m" (untrusted)`, "STARTTLS"},
		"421 too busy\r\n":                   {"refuses", "try later"},
		"454 TLS not available\r\n":          {"refuses", "answered with 220"},
		"554 go away\r\n":                    {"refuses"},
		"* OK IMAP4rev1\r\n":                 {"IMAP", "993"},
		"+OK POP3 ready\r\n":                 {"POP3", "995"},
		"HTTP/1.1 400 Bad Request\r\n\r\n":   {"HTTP", "HTTPS port"},
		"SSH-2.0-OpenSSH_9.9\r\n":            {"SSH"},
		"200 news\r\n":                       {"NNTP"},
		":irc.test NOTICE * :hello\r\n":      {"IRC", "6697"},
		"<?xml version='1.0'?><stream>":      {"XMPP"},
		"\"IMPLEMENTATION\" \"x\"\r\n":       {"ManageSieve"},
		"J\x00\x00\x00\n8.0.36\x00":          {`plaintext MySQL: its first bytes are "J\x00\x00\x00\n" (untrusted)`, "ask for TLS within"},
		"\x1b[2J\xff\u202e and more of this": {`did not answer with TLS: its first bytes are "\x1b[2J\xff" (untrusted)`, "right port"},
	} {
		e := failed(t, config, say(greeting))
		check(t, e, explain.ReasonPlaintext, words...)
		if record, ok := errors.AsType[tls.RecordHeaderError](e); !ok || string(record.RecordHeader[:]) != greeting[:5] {
			t.Errorf("the RecordHeaderError is lost: %v", e.Err)
		}
	}
	check(t, failed(t, config, say("\x16\x03\x03\xff\xff")), explain.ReasonProtocolError, "oversized record")
}

func TestExplainProtocolVersion(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.MaxVersion = tls.VersionTLS12
	config := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13}).For("mail.test")
	e := failed(t, config, tlstest.Speak(srv))
	check(t, e, explain.ReasonProtocolVersion, "alert 70 (protocol version not supported)", "offered was TLS 1.3 only")
	if e.Alert != 70 {
		t.Errorf("alert %d, want 70", e.Alert)
	}

	config = tlsconfig.NewClient(nil).For("mail.test")
	e = failed(t, config, answer(serverHello(0x0301, "")))
	check(t, e, explain.ReasonProtocolVersion, "version 0x301", "offered was TLS 1.2 to TLS 1.3")
	if e.Alert != -1 {
		t.Errorf("alert %d, want -1", e.Alert)
	}
	check(t, failed(t, config, answer(serverHello(0x0303, "DOWNGRD\x01"))), explain.ReasonProtocolVersion, "tampering")

	config = tlsconfig.NewClient(&tls.Config{MaxVersion: tls.VersionTLS11}).For("mail.test")
	check(t, failed(t, config, say("")), explain.ReasonProtocolVersion, "no version to offer")
}

// serverHello returns a record with a ServerHello of that version, whose random ends as given, with
// the extensions.
func serverHello(version uint16, randomEnd string, extensions ...byte) []byte {
	body := []byte{byte(version >> 8), byte(version)}
	body = append(body, make([]byte, 32-len(randomEnd))...)
	body = append(body, randomEnd...)
	body = append(body, 0, 0xc0, 0x2f, 0) // no session, ECDHE-RSA-AES128-GCM-SHA256, no compression
	if len(extensions) > 0 {
		body = append(body, 0, byte(len(extensions)))
		body = append(body, extensions...)
	}
	message := append([]byte{2, 0, 0, byte(len(body))}, body...)
	return append([]byte{0x16, 3, byte(version), 0, byte(len(message))}, message...)
}

// answer returns a server that sends the record after it has read something.
func answer(record []byte) func(net.Conn) {
	return func(raw net.Conn) {
		raw.Read(make([]byte, 16<<10))
		raw.Write(record)
		io.Copy(io.Discard, raw)
	}
}

func TestExplainNoCommonParameters(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test")) // an ECDSA key
	base := &tls.Config{RootCAs: ca.Pool(), MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	e := failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonHandshakeFailure, "alert 40", "TLS 1.2 only", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ssl_ciphers")

	srv.CurvePreferences = []tls.CurveID{tls.CurveP384}
	base = &tls.Config{RootCAs: ca.Pool(), CurvePreferences: []tls.CurveID{tls.X25519}}
	e = failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonHandshakeFailure, "alert 40", "groups X25519", "ssl_ecdh_curve")
}

func TestExplainClientCertificate(t *testing.T) {
	ca := tlstest.NewCA(t)
	other := tlstest.NamedCA(t, "Another CA")
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.ClientAuth, srv.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	base := &tls.Config{RootCAs: ca.Pool()}
	e := failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonClientCertRequired, "alert 116", "this side has no certificate", "ssl_cert_file")

	base.MaxVersion = tls.VersionTLS12
	e = failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonHandshakeFailure, "may also mean that it wants a client certificate")

	stranger, err := other.Sign(devca.Request{Names: []string{"me@mail.test"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	base = &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{stranger}}
	e = failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonClientCertRequired, "it was not sent")

	base.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	e = failed(t, tlsconfig.NewClient(base).For("mail.test"), tlstest.Speak(srv))
	check(t, e, explain.ReasonClientCertRefused, "alert 48", "has not ended")
}

func TestExplainOtherAlerts(t *testing.T) {
	ca := tlstest.NewCA(t)
	config := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"h2\n"}}).For("mail.test")
	check(t, failed(t, config, tlstest.Speak(&tls.Config{})), explain.ReasonUnrecognizedName, "alert 112", "ssl_host_name")

	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.NextProtos = []string{"http/1.1"}
	check(t, failed(t, config, tlstest.Speak(srv)), explain.ReasonNoCommonALPN, "alert 120", `offered was "h2\n"`, "http/1.1")

	srv = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, errors.New("none")
	}}
	check(t, failed(t, config, tlstest.Speak(srv)), explain.ReasonAlert, "alert 80 (internal error)")
	check(t, failed(t, config, say("\x15\x03\x03\x00\x02\x02\x5a")), explain.ReasonAlert, "alert 90 (user canceled)")
	check(t, failed(t, config, say("\x15\x03\x03\x00\x02\x02\xc8")), explain.ReasonAlert, "alert 200 (alert(200))")

	// QUIC's type.
	check(t, explained(t, fmt.Errorf("quic: %w", tls.AlertError(40)), config), explain.ReasonHandshakeFailure, "alert 40")
	// What only looks like an alert.
	for _, op := range []*net.OpError{{Op: "remote error", Err: io.ErrNoProgress}, {Op: "read", Err: tls.AlertError(0)}} {
		if e := explained(t, op, config); e.Alert > 0 {
			t.Errorf("%v: alert %d", op, e.Alert)
		}
	}
}

func TestExplainProtocolErrors(t *testing.T) {
	ca := tlstest.NewCA(t)
	config := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"a"}}).For("mail.test")
	alpn := []byte{0, 16, 0, 4, 0, 2, 1, 'b'}
	check(t, failed(t, config, answer(serverHello(0x0303, "", alpn...))), explain.ReasonNoCommonALPN, `offered was "a"`)
	check(t, failed(t, config, say("\x16\x03\x03\x00\x04\x0e\x00\x00\x00")), explain.ReasonProtocolError, "unexpected")
	check(t, failed(t, config, say("\x16\x03\x03\x00\x10")), explain.ReasonClosed)

	// A key that is not the certificate's.
	cert := tlstest.Issued(t, ca, "mail.test")
	cert.PrivateKey = tlstest.Issued(t, ca, "mail.test").PrivateKey
	check(t, failed(t, config, tlstest.Speak(tlstest.Server(cert))), explain.ReasonProtocolError, "does not hold the key")

	cert.Certificate = [][]byte{{0x30, 1, 2, 3}}
	check(t, failed(t, config, tlstest.Speak(tlstest.Server(cert))), explain.ReasonUnreadableCertificate, "reissue it")
	err := errors.New("tls: failed to parse certificate from server: x509: negative serial number")
	check(t, explained(t, err, config), explain.ReasonUnreadableCertificate, "GODEBUG=x509negativeserial=1")
}

func TestExplainConnectionsThatEnd(t *testing.T) {
	config := tlsconfig.NewClient(nil).For("mail.test")
	check(t, failed(t, config, func(raw net.Conn) {
		raw.Read(make([]byte, 16<<10))
	}), explain.ReasonClosed, "server's log")

	e := failed(t, config, func(raw net.Conn) {
		raw.Read(make([]byte, 1))
		raw.(*net.TCPConn).SetLinger(0)
	})
	check(t, e, explain.ReasonReset, "firewall")
	if !errors.Is(e, syscall.ECONNRESET) {
		t.Errorf("%v is no ECONNRESET", e.Err)
	}
	check(t, explained(t, syscall.EPIPE, config), explain.ReasonClosed)
	check(t, explained(t, errors.New("multi\nline\x1b[31m"), config), explain.ReasonOther, "multi line?[31m")
}

func TestExplainTimeoutAndCancel(t *testing.T) {
	config := tlsconfig.NewClient(nil).For("mail.test")
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go io.Copy(io.Discard, theirs) // a server that waits for a command

	ours.SetDeadline(time.Now().Add(20 * time.Millisecond))
	e := explained(t, tls.Client(ours, config).Handshake(), config)
	check(t, e, explain.ReasonTimeout, "STARTTLS", "X25519")
	var netErr net.Error
	if !errors.Is(e, os.ErrDeadlineExceeded) || !errors.As(e, &netErr) || !netErr.Timeout() {
		t.Errorf("%v does not say that it is a timeout", e.Err)
	}

	ours.SetDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	check(t, explained(t, tls.Client(ours, config).HandshakeContext(ctx), config), explain.ReasonTimeout)

	ours.Close()
	check(t, explained(t, tls.Client(ours, config).Handshake(), config), explain.ReasonClosed)
	check(t, explained(t, context.Canceled, config), explain.ReasonCanceled)
	check(t, explained(t, &net.OpError{Op: "read", Err: net.ErrClosed}, config), explain.ReasonCanceled, "this side gave up")
}

func TestExplainNoServerName(t *testing.T) {
	srv := tlstest.Server(tlstest.Issued(t, tlstest.NewCA(t), "mail.test"))
	check(t, failed(t, &tls.Config{}, tlstest.Speak(srv)), explain.ReasonNoServerName, "Client.For", "ssl_host_name")
	config := tlsconfig.NewClient(&tls.Config{ServerName: tlsconfig.NoSNI}).For("")
	check(t, failed(t, config, tlstest.Speak(srv)), explain.ReasonNoServerName)
}

// What the GODEBUGs rsa1024min and tlssha1 would let pass.
func TestExplainKeysAndSignaturesOfThePast(t *testing.T) {
	ca := tlstest.NewCA(t)
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "mail.test"}
	tiny := tlstest.Server(tlstest.Tiny(t, ca, "mail.test"))
	tiny.MaxVersion = tls.VersionTLS12
	e := failed(t, config, tlstest.Speak(tiny))
	check(t, e, explain.ReasonWeak, "512 bits", "rsa1024min")

	old := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	old.MaxVersion, old.CurvePreferences = tls.VersionTLS12, []tls.CurveID{tls.X25519}
	e = failed(t, config, func(raw net.Conn) {
		tls.Server(tlstest.SHA1{Conn: raw}, old).Handshake()
	})
	check(t, e, explain.ReasonHandshakeFailure, "SHA-1", "tlssha1")
	if e.ID != explain.IDSignaturesNone {
		t.Error(e.ID)
	}
}

// Under TLS 1.3 either side may change its keys at any time, and the other one has to follow.
func TestExplainKeysThatDoNotFit(t *testing.T) {
	alert := &net.OpError{Op: "remote error", Err: tls.AlertError(20)}
	own := &net.OpError{Op: "local error", Err: errors.New("tls: bad record MAC")}
	check(t, explained(t, alert, nil), explain.ReasonProtocolError, "alert 20", "it can't decrypt", "KeyUpdate")
	check(t, explained(t, own, nil), explain.ReasonProtocolError, "can't be decrypted", "KeyUpdate")
}
