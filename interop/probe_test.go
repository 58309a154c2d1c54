//go:build interop

package interop

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"strconv"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/starttls"
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
