//go:build interop

package interop

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// probePlace has whorl probe look at a server: with its authority there is nothing that doesn't
// work, without it that is what is wrong.
func probePlace(t *testing.T, config *tls.Config, p place) {
	t.Helper()
	host, port, err := net.SplitHostPort(p.addr)
	leaktest.Check(t, err)
	target := probe.Target{Host: host, StartTLS: string(p.protocol), ServerName: config.ServerName}
	target.Port, err = strconv.Atoi(port)
	leaktest.Check(t, err)
	injectable := false
	switch p.protocol {
	case starttls.SMTP, starttls.LMTP, starttls.IMAP, starttls.POP3, starttls.Sieve, starttls.FTP,
		starttls.NNTP:
		injectable = true
	}
	report, err := probe.Run(t.Context(), target, probe.Options{
		Roots: config.RootCAs, Timeout: leaktest.Patience, Injection: injectable,
	})
	leaktest.Check(t, err)
	for _, finding := range report.Findings {
		if finding.Severity == probe.Error {
			t.Errorf("%s: %s", finding.ID, finding.Evidence)
		}
	}
	if injectable && report.Injection.Verdict != probe.Safe {
		t.Errorf("injection: %+v", report.Injection)
	}
	if report.Session == nil || report.Offers == nil || len(report.Certificates) == 0 {
		text, _ := json.MarshalIndent(report, "", " ")
		t.Errorf("%s", text)
		return
	}
	taken := 0
	for _, version := range report.Offers.Versions {
		if version.Taken == probe.Yes {
			taken++
		}
	}
	if taken == 0 || report.Offers.Suites[0].Taken == probe.No {
		t.Errorf("%+v", report.Offers)
	}
	untrusted, err := probe.Run(t.Context(), target, probe.Options{
		Roots: servers.NewCA(t).Pool(), Timeout: leaktest.Patience,
	})
	leaktest.Check(t, err)
	if untrusted.Has(explain.IDChainUnknownIssuer) == nil && untrusted.Has(explain.IDChainPrivateRoot) == nil {
		t.Errorf("without the authority: %+v", untrusted.Findings)
	}
}

// nginx ends the handshake without the client's certificate, and refuses by HTTP.
func TestProbeOfAnNginxThatWantsClientCertificates(t *testing.T) {
	dir, ca := servers.NewFolder(t), servers.NewCA(t)
	dir.Certify(ca)
	mine, err := ca.Sign(devca.Request{Names: []string{"me"}, Client: true})
	leaktest.Check(t, err)
	addr, port := servers.FreeAddress(t)
	nginx := dir.Start(servers.Find(t, "nginx"), "-e", "stderr", "-p", dir.Dir, "-c",
		dir.Write("nginx.conf", fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; events {}
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		ssl_client_certificate %[5]s; ssl_verify_client on;
		location / { return 200 "hello"; }
	}
}
`, dir.Dir, addr, dir.Path("cert.pem"), dir.Path("key.pem"),
			dir.Path("ca.pem"))))
	nginx.Dial("tcp", addr).Close()
	number, err := strconv.Atoi(port)
	leaktest.Check(t, err)
	for _, scheme := range []string{"", "https"} {
		for _, shown := range []*tls.Certificate{nil, &mine} {
			report, err := probe.Run(t.Context(), probe.Target{
				Host: "127.0.0.1", Port: number, Scheme: scheme,
			}, probe.Options{Roots: ca.Pool(), Timeout: leaktest.Patience, Certificate: shown})
			leaktest.Check(t, err)
			refused := report.Has(explain.IDClientCertRequired)
			if (refused != nil) != (shown == nil) ||
				(report.ExitStatus() == probe.ExitFine) != (shown != nil) {
				t.Errorf("%q: %+v", scheme, report.Findings)
			}
			if shown == nil && (refused.Severity != probe.Error ||
				report.Offers.ClientCertificate.Required != probe.Yes) {
				t.Errorf("%q: %+v", scheme, report.Offers.ClientCertificate)
			}
		}
	}
}
