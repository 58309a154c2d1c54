package tlsconfig

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
)

// explainedServer returns the explanation of what the server's side of a meeting failed of.
func explainedServer(t *testing.T, err error) *HandshakeError {
	t.Helper()
	e, ok := errors.AsType[*HandshakeError](ExplainServer(err, "192.0.2.7:4711"))
	if !ok {
		t.Fatalf("%v is not explained", err)
	}
	checkLine(t, e.Error())
	if !errors.Is(e, err) || e.Host != "192.0.2.7:4711" {
		t.Errorf("%#v", e)
	}
	if ExplainServer(e, "") != error(e) {
		t.Error("explained twice")
	}
	return e
}

func TestExplainServer(t *testing.T) {
	ca, clients := newCA(t), newCA(t)
	cert := issued(t, ca, "mail.test")
	now := time.Now()
	mine := func(ca *CA, change func(*Request)) tls.Certificate {
		r := Request{Names: []string{"me@client.test"}, Client: true}
		change(&r)
		return signed(t, ca, r)
	}
	require := func(o *ServerOptions) { o.ClientCerts, o.ClientCAPEM = ClientCertsRequire, clients.PEM() }
	with := func(cert tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
	}
	for _, test := range []struct {
		name   string
		server func(*ServerOptions)
		client func(*tls.Config)
		reason Reason
		words  []string
	}{
		{"no trust", nil, func(c *tls.Config) { c.RootCAs = newCA(t).Pool() }, ReasonCertificateRefused, []string{"alert 42", "full chain"}},
		{"another name", nil, func(c *tls.Config) { c.ServerName = "evil.test" }, ReasonCertificateRefused, nil},
		{"version", nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
			ReasonProtocolVersion, []string{"TLS 1.0", "TLS 1.1"}},
		{"newer version", func(o *ServerOptions) { o.MaxVersion = tls.VersionTLS12 }, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 },
			ReasonProtocolVersion, []string{"only TLS 1.3"}},
		{"suites", func(o *ServerOptions) {
			o.MaxVersion, o.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}, func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} },
			ReasonHandshakeFailure, []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
		{"groups", func(o *ServerOptions) { o.Groups = []tls.CurveID{tls.CurveP521} }, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} },
			ReasonHandshakeFailure, []string{"group"}},
		{"ALPN", func(o *ServerOptions) { o.ALPN = []string{"h2"} }, func(c *tls.Config) { c.NextProtos = []string{"imap", "x\x1b[31m"} },
			ReasonNoCommonALPN, []string{`"imap"`}},
		{"name", func(o *ServerOptions) { o.StrictSNI = true }, func(c *tls.Config) { c.ServerName = "evil.test" }, ReasonUnrecognizedName, []string{"StrictSNI"}},
		{"no client certificate", require, nil, ReasonClientCertRequired, []string{"ClientCAFiles"}},
		{"stranger", require, with(mine(ca, func(*Request) {})), ReasonClientCertRefused, []string{"add its authority", `"me@client.test"`}},
		{"expired client", require, with(mine(clients, func(r *Request) { r.NotAfter = now.Add(-time.Hour) })), ReasonClientCertRefused, []string{"renew"}},
		{"server as client", require, with(mine(clients, func(r *Request) { r.Client = false })), ReasonClientCertRefused, []string{"clientAuth"}},
		{"not pinned", func(o *ServerOptions) { require(o); o.ClientFingerprints = []string{strings.Repeat("00", 32)} },
			with(mine(clients, func(*Request) {})), ReasonClientCertRefused, []string{"SHA-256"}},
	} {
		options := ready(cert)
		if test.server != nil {
			test.server(&options)
		}
		client := trusting(ca, "mail.test")
		if test.client != nil {
			test.client(client)
		}
		m := meet(t, client, serve(t, options, nil).Config())
		if m.serverErr == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		t.Run(test.name, func(t *testing.T) { checkServer(t, explainedServer(t, m.serverErr), test.reason, test.words...) })
	}
	if ExplainServer(nil, "") != nil {
		t.Error("nil is explained")
	}
}

// checkServer fails the test unless the explanation has that reason and these words.
func checkServer(t *testing.T, e *HandshakeError, reason Reason, words ...string) {
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

// talk returns the error of a server's handshake with a client that says something else, and what the client gets to read.
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
	b.Write(PlaintextHint(err))
	b.Close()
	return <-done, err
}

func TestExplainPlaintextClients(t *testing.T) {
	s := serve(t, ready(issued(t, newCA(t), "mail.test")), nil)
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
		checkServer(t, explainedServer(t, err), Reason(test.reason), test.word)
		if !strings.HasPrefix(answer, test.hint) || test.hint == "" && answer != "" {
			t.Errorf("%q is answered with %q", test.say, answer)
		}
	}
	for _, err := range []error{nil, io.EOF, tls.RecordHeaderError{Msg: "oversized record"}} {
		if hint := PlaintextHint(err); hint != nil {
			t.Errorf("%v: %q", err, hint)
		}
	}
	// The length that the hint for HTTP says of itself is right.
	_, err := talk(t, s.Config(), "GET / HTTP/1.1\r\n")
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(PlaintextHint(err))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(body), "HTTP.\n") {
		t.Errorf("%q, %v", body, err)
	}
}

// What can't be brought about here: errors of other clients, and of the system.
func TestExplainServerErrors(t *testing.T) {
	remote := func(code uint8) error {
		return fmt.Errorf("tls: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(code)})
	}
	for _, test := range []struct {
		err    error
		reason Reason
		alert  int
	}{
		{remote(48), ReasonCertificateRefused, 48},
		{remote(45), ReasonCertificateRefused, 45},
		{remote(46), ReasonCertificateRefused, 46},
		{remote(51), ReasonCertificateRefused, 51},
		{remote(70), ReasonProtocolVersion, 70},
		{remote(40), ReasonHandshakeFailure, 40},
		{remote(71), ReasonHandshakeFailure, 71},
		{remote(90), ReasonClosed, 90},
		{remote(112), ReasonUnrecognizedName, 112},
		{remote(120), ReasonNoCommonALPN, 120},
		{remote(80), ReasonAlert, 80},
		{remote(255), ReasonAlert, 255},
		{&net.OpError{Op: "local error", Err: errors.New("tls: bad record MAC")}, ReasonCertificateRefused, -1},
		{&net.OpError{Op: "local error", Err: errors.New("tls: unexpected message")}, ReasonProtocolError, -1},
		{errors.New("tls: invalid PSK binder"), ReasonProtocolError, -1},
		{tls.RecordHeaderError{Msg: "oversized record received with length 20000"}, ReasonProtocolError, -1},
		{&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, ReasonReset, -1},
		{io.ErrUnexpectedEOF, ReasonClosed, -1},
		{context.DeadlineExceeded, ReasonTimeout, -1},
		{os.ErrDeadlineExceeded, ReasonTimeout, -1},
		{context.Canceled, ReasonCanceled, -1},
		{net.ErrClosed, ReasonCanceled, -1},
		{errors.New("something else\x1b[31m"), ReasonOther, -1},
		{errors.New("tls: client offered only unsupported versions: []"), ReasonProtocolVersion, -1},
	} {
		e := explainedServer(t, test.err)
		if e.Reason != test.reason || e.Alert != test.alert {
			t.Errorf("%v: %q, alert %d, want %q", test.err, e.Reason, e.Alert, test.reason)
		}
	}
}
