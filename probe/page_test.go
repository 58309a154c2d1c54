//go:build linux

package probe_test

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// responds is a server that answers a request with a response, and hangs up.
func responds(response string) func(conn *tls.Conn) {
	return func(conn *tls.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 "+response)
			conn.CloseWrite()
		}
	}
}

// layer returns one of a report's layers.
func layer(t *testing.T, report *probe.Report, name string) probe.Layer {
	t.Helper()
	i := slices.IndexFunc(report.Layers, func(l probe.Layer) bool { return l.Name == name })
	if i < 0 {
		t.Fatalf("there is no layer %s: %s", name, summary(report))
	}
	return report.Layers[i]
}

func TestAnswersInPlaceOfAPage(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	const html = "\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><head><title>\n" +
		"No &amp; no</title>"
	for response, test := range map[string]struct {
		id    explain.ID // "": nothing is wrong
		words []string
	}{
		"200 OK\r\n\r\n": {},
		"103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n": {},
		"400 Bad" + html:                      {probe.IDNoPage, []string{`Bad: "No & no"`, "log"}},
		"418 I'm a teapot\r\n\r\n":            {probe.IDNoPage, []string{"418"}},
		"304 Not Modified\r\n\r\n":            {probe.IDNoPage, []string{"304"}},
		"101 Switching\r\n\r\n":               {probe.IDNoPage, []string{"101"}},
		"403 No\r\nContent-Length: 0\r\n\r\n": {probe.IDForbidden, []string{"credentials"}},
		"500 Oops\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"8\r\n{\"a\": 1}\r\n0\r\n\r\n": {probe.IDServerError, []string{`{\"a\": 1}`}},
		"503 Busy\r\n\r\n": {probe.IDBackend, []string{"503", "overloaded"}},
	} {
		report := run(t, ca, serve(t, secure(config, responds(response))), asks("https"))
		answered := layer(t, report, "answer")
		if test.id == "" {
			wantNothing(t, report)
			continue
		}
		wantOnly(t, report, test.id, test.words...)
		if answered.Status != probe.Failed || report.ExitStatus() != probe.ExitFindings {
			t.Errorf("%q: %+v", response, answered)
		}
		if finding := report.Has(test.id); strings.Contains(finding.Mend, "Origin") {
			t.Errorf("no Origin was sent: %s", finding.Mend)
		}
	}
}

// What TLS asks for, and the program behind it insists on.
func TestClientCertificatesThatHTTPInsistsOn(t *testing.T) {
	t.Parallel()
	const nginx = "400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\n" +
		"Content-Length: 208\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 %</title>" +
		"</head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>%</center>" +
		"\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	none := strings.ReplaceAll(nginx, "%", "No required SSL certificate was sent")
	refused := strings.ReplaceAll(nginx, "%", "The SSL certificate error")
	ca, stranger := tlstest.NewCA(t), tlstest.NamedCA(t, "Stranger")
	mine := tlstest.Signed(t, ca, devca.Request{Names: []string{"me"}, Client: true})
	other := tlstest.Signed(t, stranger, devca.Request{Names: []string{"me"}, Client: true})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := with(tlstest.Issued(t, ca, name))
		config.ClientAuth, config.ClientCAs = tls.RequestClientCert, ca.Pool()
		config.MaxVersion = version
		for _, test := range []struct {
			name, response string
			schemes        []string
			shown          *tls.Certificate
			id             explain.ID
			severity       probe.Severity
			required       probe.Taken
		}{
			{"nginx", none, []string{"", "https", "wss"}, nil, explain.IDClientCertRequired,
				probe.Error, probe.Yes},
			{"nginx's own status", "496 \r\n\r\n", []string{"", "https", "wss"}, nil,
				explain.IDClientCertRequired, probe.Error, probe.Yes},
			{"a program", "403 Forbidden\r\n\r\n", []string{"", "https", "wss"}, nil,
				explain.IDClientCertRequired, probe.Warning, probe.Untested},
			{"one that doesn't fit", none, []string{"https"}, &other,
				explain.IDClientCertWithheld, probe.Error, probe.Yes},
			{"one that is refused", refused, []string{"", "https"}, &mine,
				explain.IDClientCertRefused, probe.Error, probe.Untested},
			{"one that is taken", "200 OK\r\n\r\n", []string{"", "https"}, &mine, "", "",
				probe.Untested},
			{"not needed", "200 OK\r\n\r\n", []string{"", "https"}, nil, "", "", probe.No},
		} {
			for _, scheme := range test.schemes {
				t.Run(tls.VersionName(version)+" "+test.name+" "+scheme, func(t *testing.T) {
					t.Parallel()
					port := serve(t, secure(config, responds(test.response)))
					report := run(t, ca, port, asks(scheme),
						func(to *probe.Target, o *probe.Options) {
							o.Certificate = test.shown
							if scheme == "" {
								to.Path = ""
							}
						})
					asked := report.Offers.ClientCertificate
					if !asked.Asked || asked.Required != test.required {
						t.Errorf("%+v", asked)
					}
					client := layer(t, report, "client certificate")
					if test.id == "" {
						wantNothing(t, report)
						if client.Status != probe.Passed {
							t.Errorf("%+v", client)
						}
						return
					}
					want(t, report, test.id, test.response[:3], "Whorl Test CA")
					if report.Has(test.id).Severity != test.severity ||
						report.ExitStatus() != probe.ExitFindings ||
						(client.Status == probe.Failed) != (test.severity == probe.Error) {
						t.Errorf("%s", summary(report))
					}
					if test.severity == probe.Error {
						wantOnly(t, report, test.id)
					}
				})
			}
		}
	}
}

func TestHeaderAndSubprotocols(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	for _, test := range []struct {
		chosen   string
		id       explain.ID
		severity probe.Severity
	}{
		{"b", "", ""},
		{"", probe.IDSubprotocol, probe.Warning},
		{"c", probe.IDSubprotocol, probe.Error},
	} {
		config := with(tlstest.Issued(t, ca, name))
		report := run(t, ca, serve(t, secure(config, func(conn *tls.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			if r.Host != "other.test" || r.Header.Get("Origin") != "https://page.test" ||
				r.Header.Get("Cookie") != "secret=1" || r.Header.Get("User-Agent") == "" ||
				r.Header.Get("Sec-WebSocket-Protocol") != "a, b" {
				t.Errorf("%+v", r)
			}
			upgrade(conn, r, test.chosen)
		})), asks("wss"), func(_ *probe.Target, o *probe.Options) {
			o.Header = http.Header{"Host": {"other.test"}, "Origin": {"https://page.test"},
				"cookie": {"secret=1"}}
			o.Subprotocols = []string{"a", "b"}
		})
		if test.id == "" {
			wantNothing(t, report)
		} else if wantOnly(t, report, test.id); report.Has(test.id).Severity != test.severity {
			t.Errorf("%s", summary(report))
		}
		if report.Answer.Subprotocol != test.chosen {
			t.Errorf("%+v", report.Answer)
		}
		if strings.Contains(summary(report), "secret") {
			t.Errorf("a header's value is in the report: %s", summary(report))
		}
	}
}

// belowOldRoot returns a certificate that is in order, of a root that nobody trusts and that had
// ended before. That root is behind it.
func belowOldRoot(t *testing.T) tls.Certificate {
	from, to := hour()
	root := tlstest.NamedCA(t, "Old")
	template := *root.Cert
	template.NotBefore, template.NotAfter = from.Add(-time.Hour), from
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, root.Key.Public(), root.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := tlstest.Custom(t, root, &x509.Certificate{
		DNSNames: []string{name}, NotBefore: from.Add(time.Minute), NotAfter: to,
	})
	leaf.Certificate = append(leaf.Certificate, der)
	return leaf
}

// Whoever answers in place of the server learns no secret.
func TestNoSecretsForAServerThatIsNotVerified(t *testing.T) {
	t.Parallel()
	from, _ := hour()
	ca, private := tlstest.NewCA(t), tlstest.NamedCA(t, "Private")
	secret := http.Header{"A": {"b"}}
	stranger := tlstest.Issued(t, private, name)
	old := tlstest.Signed(t, ca, devca.Request{Names: []string{name}, NotAfter: from})
	for kind, test := range map[string]struct {
		cert   tls.Certificate
		path   string
		header http.Header
		asked  bool
	}{
		"no root, header":   {stranger, "/", secret, false},
		"no root, query":    {stranger, "/?token=1", nil, false},
		"no root, neither":  {stranger, "/", nil, true},
		"another name":      {tlstest.Issued(t, ca, "a.test"), "/", secret, false},
		"ended":             {old, "/", secret, false},
		"below an old root": {belowOldRoot(t), "/", secret, false},
		"verified, with it": {tlstest.Issued(t, ca, name), "/?a=b", secret, true},
	} {
		var asked atomic.Bool
		report := run(t, ca, serve(t, secure(with(test.cert), func(conn *tls.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				asked.Store(true)
				io.WriteString(conn, "HTTP/1.1 204 Fine\r\n\r\n")
			}
		})), func(to *probe.Target, o *probe.Options) {
			to.Scheme, to.Path, o.Header = "https", test.path, test.header
		})
		if asked.Load() != test.asked ||
			(layer(t, report, "answer").Status == probe.Passed) != test.asked {
			t.Errorf("%s: %s", kind, summary(report))
		}
	}
}

// What can't be asked is an error that names the field, and says nothing of a header's value.
func TestWrongTargetsAndOptions(t *testing.T) {
	t.Parallel()
	header := func(name, value string) func(*probe.Target, *probe.Options) {
		return func(to *probe.Target, o *probe.Options) {
			to.Scheme, o.Header = "https", http.Header{name: {value}}
		}
	}
	for _, test := range []struct {
		field  string
		change func(*probe.Target, *probe.Options)
	}{
		{"Host", func(to *probe.Target, _ *probe.Options) { to.Host = "" }},
		{"Host", func(to *probe.Target, _ *probe.Options) { to.Host = "a b" }},
		{"Port", func(to *probe.Target, _ *probe.Options) { to.Port = 0 }},
		{"Path", func(to *probe.Target, _ *probe.Options) { to.Path = "/\r\nX: y" }},
		{"Scheme", func(to *probe.Target, _ *probe.Options) { to.Scheme = "ftp" }},
		{"ServerName", func(to *probe.Target, _ *probe.Options) { to.ServerName = "a b" }},
		{"StartTLS", func(to *probe.Target, _ *probe.Options) { to.StartTLS = "foo" }},
		{"StartTLS", func(to *probe.Target, _ *probe.Options) {
			to.StartTLS, to.Scheme = "smtp", "https"
		}},
		{"Policy", func(_ *probe.Target, o *probe.Options) { o.Policy = "mine" }},
		{"Injection", func(_ *probe.Target, o *probe.Options) { o.Injection = true }},
		{"Header", func(_ *probe.Target, o *probe.Options) { o.Header = http.Header{"A": {"b"}} }},
		{"Header", header("Sec-Websocket-Key", "secret")},
		{"Header", header("connection", "secret")},
		{"Header", header("a b", "secret")},
		{"Header", header("A", "secret\r\nX: y")},
		{"Subprotocols", func(to *probe.Target, o *probe.Options) {
			to.Scheme, o.Subprotocols = "https", []string{"a"}
		}},
		{"Subprotocols", func(to *probe.Target, o *probe.Options) {
			to.Scheme, o.Subprotocols = "wss", []string{"a, b"}
		}},
	} {
		target, options := probe.Target{Host: "x.test", Port: 1}, probe.Options{}
		test.change(&target, &options)
		report, err := probe.Run(t.Context(), target, options)
		option, ok := errors.AsType[*tlsconfig.OptionError](err)
		if !ok || option.Option != test.field || report != nil ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", test.field, report, err)
		}
	}
}

func TestTargetsInWords(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"x.test:25": "x.test:25", "wss://x.test/ws?a=b": "wss://x.test:443/ws?a=b",
		"https://[::1]:8443": "https://[::1]:8443/",
	} {
		target, err := probe.ParseTarget(given)
		if err != nil || target.String() != want {
			t.Errorf("%s: %s, %v", given, target, err)
		}
	}
}
