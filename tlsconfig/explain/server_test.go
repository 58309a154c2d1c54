package explain_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// serve returns a Server.
func serve(t testing.TB, options tlsconfig.ServerOptions) *tlsconfig.Server {
	t.Helper()
	s, err := tlsconfig.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ready returns options with that certificate.
func ready(cert tls.Certificate) tlsconfig.ServerOptions {
	return tlsconfig.ServerOptions{Certificates: []tlsconfig.ServerCertificate{{Certificate: &cert}}}
}

// explainedServer returns the explanation of what the server's side of a meeting failed of.
func explainedServer(t *testing.T, err error, config *tls.Config) *explain.HandshakeError {
	t.Helper()
	e, ok := errors.AsType[*explain.HandshakeError](explain.Server(err, "192.0.2.7:4711", config))
	if !ok {
		t.Fatalf("%v is not explained", err)
	}
	tlstest.CheckLine(t, e.Error())
	if !errors.Is(e, err) || e.Host != "192.0.2.7:4711" {
		t.Errorf("%#v", e)
	}
	if explain.Server(e, "", nil) != error(e) {
		t.Error("explained twice")
	}
	return e
}

func TestServer(t *testing.T) {
	ca, clients := tlstest.NewCA(t), tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	now := time.Now()
	mine := func(ca *tlstest.CA, change func(*devca.Request)) tls.Certificate {
		r := devca.Request{Names: []string{"me@client.test"}, Client: true}
		change(&r)
		return tlstest.Signed(t, ca, r)
	}
	require := func(o *tlsconfig.ServerOptions) {
		o.ClientCerts, o.ClientCAPEM = tlsconfig.ClientCertsRequire, clients.PEM()
	}
	with := func(cert tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
	}
	for _, test := range []struct {
		name   string
		server func(*tlsconfig.ServerOptions)
		client func(*tls.Config)
		reason explain.Reason
		words  []string
	}{
		{"no trust", nil, func(c *tls.Config) { c.RootCAs = tlstest.NewCA(t).Pool() }, explain.ReasonCertificateRefused, []string{"alert 42", "full chain"}},
		{"another name", nil, func(c *tls.Config) { c.ServerName = "evil.test" }, explain.ReasonCertificateRefused, nil},
		{"version", nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
			explain.ReasonProtocolVersion, []string{"TLS 1.0", "TLS 1.1"}},
		{"newer version", func(o *tlsconfig.ServerOptions) { o.MaxVersion = tls.VersionTLS12 }, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 },
			explain.ReasonProtocolVersion, []string{"only TLS 1.3"}},
		{"suites", func(o *tlsconfig.ServerOptions) {
			o.MaxVersion, o.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}, func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} },
			explain.ReasonHandshakeFailure, []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
		{"groups", func(o *tlsconfig.ServerOptions) { o.Groups = []tls.CurveID{tls.CurveP521} }, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} },
			explain.ReasonHandshakeFailure, []string{"group"}},
		{"ALPN", func(o *tlsconfig.ServerOptions) { o.ALPN = []string{"h2"} }, func(c *tls.Config) { c.NextProtos = []string{"imap", "x\x1b[31m"} },
			explain.ReasonNoCommonALPN, []string{`"imap"`}},
		{"name", func(o *tlsconfig.ServerOptions) { o.StrictSNI = true }, func(c *tls.Config) { c.ServerName = "evil.test" }, explain.ReasonUnrecognizedName, []string{"StrictSNI"}},
		{"no client certificate", require, nil, explain.ReasonClientCertRequired, []string{"ClientCAFiles"}},
		{"stranger", require, with(mine(ca, func(*devca.Request) {})), explain.ReasonClientCertRefused, []string{"add its authority", `"me@client.test"`}},
		{"expired client", require, with(mine(clients, func(r *devca.Request) { r.NotAfter = now.Add(-time.Hour) })), explain.ReasonClientCertRefused, []string{"renew"}},
		{"server as client", require, with(mine(clients, func(r *devca.Request) { r.Client = false })), explain.ReasonClientCertRefused, []string{"clientAuth"}},
		{"not pinned", func(o *tlsconfig.ServerOptions) {
			require(o)
			o.ClientFingerprints = []string{strings.Repeat("00", 32)}
		},
			with(mine(clients, func(*devca.Request) {})), explain.ReasonClientCertRefused, []string{"SHA-256"}},
	} {
		options := ready(cert)
		if test.server != nil {
			test.server(&options)
		}
		client := &tls.Config{RootCAs: ca.Pool(), ServerName: "mail.test"}
		if test.client != nil {
			test.client(client)
		}
		s := serve(t, options)
		m := tlstest.Meet(t, client, s.Config())
		if m.ServerErr == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			checkServer(t, explainedServer(t, m.ServerErr, s.Config()), test.reason, test.words...)
		})
	}
	if explain.Server(nil, "", nil) != nil {
		t.Error("nil is explained")
	}
}

// checkServer fails the test unless the explanation has that reason and these words.
func checkServer(t *testing.T, e *explain.HandshakeError, reason explain.Reason, words ...string) {
	t.Helper()
	if e.Reason != reason {
		t.Errorf("got %v, want %q", e, reason)
	}
	for _, word := range words {
		if !strings.Contains(e.Error(), word) {
			t.Errorf("%v does not say %q", e, word)
		}
	}
}

// talk returns the error of a server's handshake with a client that says something else, and what
// the client gets to read.
func talk(t *testing.T, config *tls.Config, say string) (answer string, err error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	a.SetDeadline(time.Now().Add(30 * time.Second))
	b.SetDeadline(time.Now().Add(30 * time.Second))
	done := make(chan string)
	go func() {
		io.WriteString(a, say)
		if say == "" {
			a.Close()
		}
		read, _ := io.ReadAll(a)
		done <- string(read)
	}()
	err = tls.Server(b, config).Handshake()
	b.Write(explain.PlaintextHint(err))
	b.Close()
	return <-done, err
}

func TestExplainPlaintextClients(t *testing.T) {
	s := serve(t, ready(tlstest.Issued(t, tlstest.NewCA(t), "mail.test")))
	for _, test := range []struct{ say, reason, word, hint string }{
		{"GET / ", "plaintext client", "HTTP", "HTTP/1.0 400 "},
		{"OPTIONS / HTTP/1.1\r\n", "plaintext client", "HTTP", "HTTP/1.0 400 "},
		{"PUT / ", "plaintext client", "HTTP", "HTTP/1.0 400 "},
		{"EHLO me\r\n", "plaintext client", "SMTP", "554 5.7.0 "},
		{"ehlo me\r\n", "plaintext client", "SMTP", "554 5.7.0 "},
		{"CAPA\r\n", "plaintext client", "POP3", "-ERR "},
		{"USER x\r\n", "plaintext client", "POP3", "-ERR "},
		{"<?xml version", "plaintext client", "XMPP", ""},
		{"SSH-2.0-x\r\n", "plaintext client", "SSH", ""},
		{"\x1b[31m\x07\x00", "plaintext client", "first bytes", ""},
		{"\x80\x2e\x01\x00\x02", "protocol version", "SSL 2.0", "\x15"}, // an alert,
		{"", "closed during handshake", "left", ""},
	} {
		answer, err := talk(t, s.Config(), test.say)
		checkServer(t, explainedServer(t, err, s.Config()), explain.Reason(test.reason), test.word)
		if !strings.HasPrefix(answer, test.hint) || test.hint == "" && answer != "" {
			t.Errorf("%q is answered with %q", test.say, answer)
		}
	}
	for _, err := range []error{nil, io.EOF, tls.RecordHeaderError{Msg: "oversized record"}} {
		if hint := explain.PlaintextHint(err); hint != nil {
			t.Errorf("%v: %q", err, hint)
		}
	}
	// The length that the hint for HTTP says of itself is right.
	_, err := talk(t, s.Config(), "GET / HTTP/1.1\r\n")
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(explain.PlaintextHint(err))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(body), "HTTP.\n") {
		t.Errorf("%q, %v", body, err)
	}
}

// What can't be brought about here: errors of other clients, and of the system.
func TestServerErrors(t *testing.T) {
	remote := func(code uint8) error {
		return fmt.Errorf("tls: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(code)})
	}
	for _, test := range []struct {
		err    error
		reason explain.Reason
		alert  int
	}{
		{remote(48), explain.ReasonCertificateRefused, 48},
		{remote(45), explain.ReasonCertificateRefused, 45},
		{remote(46), explain.ReasonCertificateRefused, 46},
		{remote(51), explain.ReasonCertificateRefused, 51},
		{remote(70), explain.ReasonProtocolVersion, 70},
		{remote(20), explain.ReasonProtocolError, 20},
		{remote(40), explain.ReasonHandshakeFailure, 40},
		{remote(71), explain.ReasonHandshakeFailure, 71},
		{remote(90), explain.ReasonClosed, 90},
		{remote(112), explain.ReasonUnrecognizedName, 112},
		{remote(120), explain.ReasonNoCommonALPN, 120},
		{remote(80), explain.ReasonAlert, 80},
		{remote(255), explain.ReasonAlert, 255},
		{&net.OpError{Op: "local error", Err: errors.New("tls: bad record MAC")}, explain.ReasonCertificateRefused, -1},
		{&net.OpError{Op: "local error", Err: errors.New("tls: unexpected message")}, explain.ReasonProtocolError, -1},
		{errors.New("tls: invalid PSK binder"), explain.ReasonProtocolError, -1},
		{tls.RecordHeaderError{Msg: "oversized record received with length 20000"}, explain.ReasonProtocolError, -1},
		{&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, explain.ReasonReset, -1},
		{io.ErrUnexpectedEOF, explain.ReasonClosed, -1},
		{context.DeadlineExceeded, explain.ReasonTimeout, -1},
		{os.ErrDeadlineExceeded, explain.ReasonTimeout, -1},
		{context.Canceled, explain.ReasonCanceled, -1},
		{net.ErrClosed, explain.ReasonCanceled, -1},
		{errors.New("something else\x1b[31m"), explain.ReasonOther, -1},
		{errors.New("tls: client offered only unsupported versions: []"), explain.ReasonProtocolVersion, -1},
	} {
		e := explainedServer(t, test.err, nil)
		if e.Reason != test.reason || e.Alert != test.alert {
			t.Errorf("%v: %q, alert %d, want %q", test.err, e.Reason, e.Alert, test.reason)
		}
	}
}

func TestLocal(t *testing.T) {
	err := errors.New("panic: assignment to entry in nil map\n\ngoroutine 7 [running]:\nmain.pick(0x1)")
	e, ok := errors.AsType[*explain.HandshakeError](explain.Local(err, "192.0.2.7:4711"))
	if !ok || e.Reason != explain.ReasonLocalFault || !errors.Is(e, err) || e.Alert != -1 {
		t.Fatalf("%#v", e)
	}
	tlstest.CheckLine(t, e.Error())
	if text := e.Error(); !strings.Contains(text, "panic: assignment to entry in nil map") || strings.Contains(text, "main.pick") {
		t.Error(text)
	}
	if explain.Local(e, "") != error(e) || explain.Server(e, "", nil) != error(e) || explain.Client(e, "", nil) != error(e) {
		t.Error("explained twice")
	}
}
