//go:build linux

package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// briefly makes a probe give up soon.
func briefly(_ *probe.Target, o *probe.Options) { o.Timeout = time.Second }

func TestWrongPorts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		row   string
		says  string
		id    explain.ID
		words []string
	}{
		{"17 SMTP", "220 mail.test ESMTP\r\n", explain.IDPortStartTLS,
			[]string{"SMTP", "STARTTLS in smtp"}},
		{"17 FTP", "220 ProFTPD Server\r\n", explain.IDPortStartTLS,
			[]string{"FTP", "STARTTLS in ftp"}},
		{"17 IMAP", "* OK ready\r\n", explain.IDPortStartTLS, []string{"IMAP", "STARTTLS in imap"}},
		{"17 POP3", "+OK ready\r\n", explain.IDPortStartTLS, []string{"POP3", "STARTTLS in pop3"}},
		{"17 NNTP", "200 news\r\n", explain.IDPortStartTLS, []string{"NNTP", "STARTTLS in nntp"}},
		{"17 ManageSieve", "\"IMPLEMENTATION\" \"x\"\r\n", explain.IDPortStartTLS,
			[]string{"STARTTLS in sieve"}},
		{"17 IRC", ":irc.test NOTICE * :hello\r\n", explain.IDPortStartTLS,
			[]string{"IRC", "6697"}},
		{"17 MySQL", "J\x00\x00\x00\n8.0.36\x00", explain.IDPortStartTLS,
			[]string{"MySQL", "STARTTLS in mysql"}},
		{"17 SSH", "SSH-2.0-OpenSSH_9.9\r\n", explain.IDPortPlaintext, []string{"SSH", "ssh"}},
		{"17 a refusal", "554 go away\r\n", explain.IDPortRefuses, []string{"554 go away"}},
		{"17 what nobody knows", "\x1b[2Jhello\xff", explain.IDPortPlaintext,
			[]string{`\x1b[2Jhello\xff`}},
	} {
		t.Run(test.row, func(t *testing.T) {
			t.Parallel()
			report := run(t, nil, serve(t, says(test.says)))
			wantOnly(t, report, test.id, test.words...)
			tlstest.CheckLine(t, report.Greeting)
		})
	}
}

// answersTo is a server that waits, and answers only who says what it knows.
func answersTo(question, answer string) func(net.Conn) {
	return func(conn net.Conn) {
		said := make([]byte, len(question))
		if _, err := io.ReadFull(conn, said); err == nil && string(said) == question {
			io.WriteString(conn, answer)
		}
		io.Copy(io.Discard, conn)
	}
}

func TestSilentPorts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		row, question, answer string
		id                    explain.ID
		words                 []string
	}{
		{"16 HTTP that waits for a request", "GET ", "HTTP/1.0 200 OK\r\n\r\n", explain.IDPortHTTP,
			[]string{"ws://"}},
		{"18 PostgreSQL", "\x00\x00\x00\x08", "S", explain.IDPortStartTLS,
			[]string{"STARTTLS in postgres"}},
		{"18 Redis", "PING", "+PONG\r\n", explain.IDPortPlaintext, []string{"Redis", "tls-port"}},
		{"18 LDAP", "\x30\x1d", "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
			explain.IDPortStartTLS, []string{"STARTTLS in ldap"}},
		{"18 XMPP", "<?xm", "<?xml version='1.0'?><stream:stream>", explain.IDPortStartTLS,
			[]string{"XMPP"}},
		{"18 mail behind a balancer", "NOOP", "250 ok\r\n", explain.IDPortStartTLS,
			[]string{"STARTTLS in smtp"}},
		{"18 nobody", "never said", "", probe.IDPortSilent, []string{"says nothing"}},
	} {
		t.Run(test.row, func(t *testing.T) {
			t.Parallel()
			wantOnly(
				t,
				run(t, nil, serve(t, answersTo(test.question, test.answer)), briefly),
				test.id,
				test.words...)
		})
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	port := serve(t, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 5))
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn)
	})
	wantOnly(t, run(t, nil, port), explain.IDPortHTTP, "HTTP", "ws://")
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	ca, stranger := tlstest.NewCA(t), tlstest.NamedCA(t, "Stranger")
	cert := tlstest.Issued(t, ca, name)
	rsaCert, sha1Only := shortKey(t, ca, 2048), shortKey(t, ca, 2048)
	sha1Only.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA1}
	config := func(change func(*tls.Config)) *tls.Config {
		c := with(cert)
		change(c)
		return c
	}
	shown := func(cert tls.Certificate) func(*probe.Target, *probe.Options) {
		return func(_ *probe.Target, o *probe.Options) { o.Certificate = &cert }
	}
	wants := func(highest uint16) *tls.Config {
		return config(func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool(),
				highest
		})
	}
	client := tlstest.Signed(t, ca, devca.Request{Names: []string{"me"}, Client: true})
	other := tlstest.Signed(t, stranger, devca.Request{Names: []string{"me"}, Client: true})
	anyCA := wants(0)
	anyCA.GetConfigForClient = nil

	for _, test := range []struct {
		row    string
		config *tls.Config
		change func(*probe.Target, *probe.Options)
		id     explain.ID
		words  []string
	}{
		{"21 only TLS 1.0 and 1.1", config(func(c *tls.Config) {
			c.MinVersion,
				c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}),
			nil, explain.IDVersionNone, []string{"TLS 1.1", "MinVersion"}},
		{"22 RSA key exchange", &tls.Config{Certificates: []tls.Certificate{rsaCert},
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
			nil, explain.IDParametersNone, []string{"tlsrsakex"}},
		{"31 3DES", &tls.Config{Certificates: []tls.Certificate{rsaCert},
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}},
			nil, explain.IDParametersNone, []string{"tls3des"}},
		{"22 suites don't fit the key", config(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12,
				[]uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}), nil, explain.IDParametersNone, []string{"alert 40", "kind of key"}},
		{"23 no common group", config(func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{30} // X448, which crypto/tls doesn't have
		}), nil, explain.IDParametersNone, []string{"alert 40", "X25519"}},
		{"31 signatures by SHA-1", &tls.Config{Certificates: []tls.Certificate{sha1Only},
			MaxVersion: tls.VersionTLS12}, nil, explain.IDParametersNone, []string{"tlssha1"}},
		{"31 RSA below 1024 bits", &tls.Config{
			Certificates: []tls.Certificate{tlstest.Tiny(t, ca, name)}, MaxVersion: tls.VersionTLS12,
		}, nil, explain.IDCertWeak, []string{"512", "rsa1024min"}},
		{"24 ALPN", config(func(c *tls.Config) { c.NextProtos = []string{"imap"} }),
			func(to *probe.Target, o *probe.Options) { to.Scheme, o.Timeout = "wss", time.Second },
			explain.IDALPNNone,
			[]string{"http/1.1"}},
		{"25 client certificate, TLS 1.3", wants(0), nil, explain.IDClientCertRequired,
			[]string{"Whorl Test CA"}},
		{"25 client certificate, TLS 1.2", wants(tls.VersionTLS12), nil,
			explain.IDClientCertRequired, []string{"Whorl Test CA", "alert 40"}},
		{"25 one that doesn't fit", wants(0), shown(other), explain.IDClientCertWithheld,
			[]string{"Whorl Test CA"}},
		{"26 client certificate of an authority that nobody named", config(func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		}), shown(other), explain.IDClientCertRefused, []string{"alert 48", "authority"}},
		{"26 client certificate of another authority", config(func(c *tls.Config) {
			c.ClientAuth = tls.RequireAnyClientCert
			c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no") }
		}), shown(other), explain.IDClientCertRefused, nil},
		{"27 name that makes the server fail", config(func(c *tls.Config) {
			c.Certificates = nil
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil,
					errors.New("no")
			}
		}), nil, explain.IDAlertInternal, []string{"no certificate for this name"}},
		{"27 unknown name", config(func(c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if hello.ServerName != "" {
					return &tls.Config{}, nil
				}
				return nil, nil
			}
		}), nil, explain.IDSNIUnrecognized, nil},
	} {
		t.Run(test.row, func(t *testing.T) {
			t.Parallel()
			change := test.change
			if change == nil {
				change = func(*probe.Target, *probe.Options) {}
			}
			report := run(t, ca, serve(t, secure(test.config, nil)), change)
			want(t, report, test.id, test.words...)
		})
	}
	t.Run("a client certificate that fits", func(t *testing.T) {
		report := run(t, ca, serve(t, secure(wants(0), nil)), shown(client))
		wantNothing(t, report)
		if asked := report.Offers.ClientCertificate; !asked.Asked || len(asked.Authorities) != 1 {
			t.Errorf("%+v", asked)
		}
	})
}

// All that can be found out without a client certificate is.
func TestOffersOfAServerThatWantsAClientCertificate(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	for _, highest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := with(tlstest.Issued(t, ca, name))
		config.ClientAuth, config.MaxVersion = tls.RequireAnyClientCert, highest
		report := run(t, ca, serve(t, secure(config, nil)))
		wantOnly(t, report, explain.IDClientCertRequired)
		o := report.Offers
		if o == nil || o.ClientCertificate.Required != probe.Yes ||
			taken(o.Versions, "TLS 1.2") != probe.Yes ||
			taken(o.Groups, "X25519") != probe.Yes || report.Answer != nil {
			t.Errorf("%s", summary(report))
		}
	}
}

func TestServersThatHangUp(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	t.Run("28 closed at the hello", func(t *testing.T) {
		wantOnly(t, run(t, ca, serve(t, func(conn net.Conn) {
			hello(bufio.NewReaderSize(conn, 1<<14))
		})), explain.IDClosed, "log")
	})
	t.Run("29 reset", func(t *testing.T) {
		wantOnly(t, run(t, ca, serve(t, func(conn net.Conn) {
			hello(bufio.NewReaderSize(conn, 1<<14))
			conn.(*net.TCPConn).SetLinger(0)
		})), explain.IDReset, "firewall")
	})
	// hangsUp is a server that hangs up on hellos that it doesn't like.
	hangsUp := func(likes func(hello []byte) bool) func(net.Conn) {
		return func(conn net.Conn) {
			r := bufio.NewReaderSize(conn, 1<<14)
			if first := hello(r); first != nil && likes(first) {
				overTLS(conn, ahead{conn, r}, config, nil)
			}
		}
	}
	t.Run("30 large hello", func(t *testing.T) {
		report := run(
			t,
			ca,
			serve(t, hangsUp(func(hello []byte) bool { return len(hello) < 1000 })),
		)
		want(t, report, probe.IDHelloLarge, "post-quantum", "two packets")
	})
	t.Run("28 filter on names", func(t *testing.T) {
		report := run(t, ca, serve(t, hangsUp(func(hello []byte) bool {
			return !strings.Contains(string(hello), name)
		})))
		want(t, report, probe.IDSNIFiltered, "without a name")
	})
	t.Run("28 intolerant of TLS 1.3", func(t *testing.T) {
		report := run(t, ca, serve(t, hangsUp(func(hello []byte) bool {
			return !strings.Contains(string(hello), "\x03\x04\x03\x03")
		})))
		want(t, report, probe.IDIntolerant, "TLS 1.3")
	})
}

// hello looks at a client's whole first record, nil if it doesn't come.
func hello(r *bufio.Reader) []byte {
	header, err := r.Peek(5)
	if err != nil {
		return nil
	}
	whole, _ := r.Peek(5 + int(header[3])<<8 + int(header[4]))
	return whole
}

// An alert in plaintext, where TLS 1.3 has it encrypted, is told as what it is.
func TestAlertInPlaintext(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	report := run(t, ca, serve(t, func(conn net.Conn) {
		// The server's hello, and then the alert in place of the rest.
		overTLS(conn, &spoils{Conn: conn}, config, nil)
	}))
	want(t, report, explain.IDAlert, "alert 49", "access denied")
}

// spoils is a connection of which the second record that is written is another one.
type spoils struct {
	net.Conn
	done bool
}

func (s *spoils) Write(p []byte) (int, error) {
	if s.done {
		return len(p), nil
	}
	s.done = true
	first := 5 + int(p[3])<<8 + int(p[4])
	s.Conn.Write(append(p[:first:first], 21, 3, 3, 0, 2, 2, 49))
	return len(p), nil
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).Port
	l.Close()
	refused := run(t, nil, closed)
	wantOnly(t, refused, probe.IDRefused, "127.0.0.1", "refused")
	unknown := run(
		t,
		nil,
		closed,
		func(to *probe.Target, _ *probe.Options) { to.Host = "nobody.test" },
	)
	wantOnly(t, unknown, probe.IDDNS, "no such host")
	broadcast := run(t, nil, closed, func(_ *probe.Target, o *probe.Options) {
		o.Resolver = hosts{name: {netip.MustParseAddr("255.255.255.255")}}
	})
	wantOnly(t, broadcast, probe.IDUnreachable)
	for _, report := range []*probe.Report{refused, unknown, broadcast} {
		if report.ExitStatus() != probe.ExitUnreachable || report.Reachable {
			t.Errorf("exit status %d: %s", report.ExitStatus(), summary(report))
		}
	}

	ca := tlstest.NewCA(t)
	port := serve(t, secure(with(tlstest.Issued(t, ca, name)), nil))
	report := run(t, ca, port, func(_ *probe.Target, o *probe.Options) {
		o.Resolver = hosts{name: {netip.MustParseAddr("127.0.0.2"), loopback}}
	})
	wantOnly(t, report, probe.IDAddressDead, "127.0.0.2 (connection refused)")
	if len(report.Addresses) != 2 || report.Session == nil {
		t.Errorf("%+v", report)
	}
}

func TestGivenUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	port := serve(t, func(conn net.Conn) {
		cancel() // the probe waits for a greeting, or for the handshake
		io.Copy(io.Discard, conn)
	})
	report, err := probe.Run(ctx, probe.Target{Host: "127.0.0.1", Port: port}, probe.Options{})
	if !errors.Is(err, context.Canceled) || report == nil {
		t.Fatalf("%v, %v", report, err)
	}
	checkReport(t, report)
}

func TestInACoroutine(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	port := serve(t, secure(with(tlstest.Issued(t, ca, name)), nil))
	err := runtime.Run(func(ctx context.Context) error {
		report, err := probe.Run(ctx, probe.Target{Host: name, Port: port}, probe.Options{
			Roots: ca.Pool(), Resolver: hosts{name: {loopback}},
		})
		if err == nil {
			wantNothing(t, report)
		}
		return err
	}, runtime.WithLogger(zap.NewNop()))
	if err != nil {
		t.Error(err)
	}
}

// What a hostile server says of itself can't do harm where it is printed.
func TestHostileWords(t *testing.T) {
	t.Parallel()
	ca := tlstest.NamedCA(t, strings.ToValidUTF8(tlstest.Nasty, "?"))
	ascii := strings.Map(func(r rune) rune { return r & 0x7f }, tlstest.Nasty)
	cert := tlstest.Custom(t, ca, &x509.Certificate{
		Subject:               pkix.Name{CommonName: strings.ToValidUTF8(tlstest.Nasty, "?")},
		DNSNames:              []string{ascii, strings.Repeat(ascii, 100)},
		IssuingCertificateURL: []string{ascii},
	})
	config := with(cert)
	config.ClientAuth, config.ClientCAs = tls.RequestClientCert, ca.Pool()
	report := run(t, nil, serve(t, secure(config, func(conn *tls.Conn) {
		io.WriteString(conn, "HTTP/1.1 302 "+tlstest.Nasty+"\r\nLocation: \x1b[31m\u202e\r\n\r\n")
	})), func(to *probe.Target, _ *probe.Options) { to.Scheme = "wss" })
	want(t, report, explain.IDChainIncomplete)
	for _, line := range append(report.Certificates[0].Names, report.Certificates[0].Subject,
		report.Certificates[0].Issuer, report.Answer.Text, report.Answer.Location,
		report.Offers.ClientCertificate.Authorities[0]) {
		tlstest.CheckLine(t, line)
	}
	for _, words := range []string{tlstest.Nasty, strings.Repeat("\x1b", 100000)} {
		report := run(t, nil, serve(t, says(words)))
		tlstest.CheckLine(t, report.Greeting)
	}
}
