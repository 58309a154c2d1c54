//go:build linux

package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// The tests wait more than they compute: for what a server may say, and doesn't.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		flag.Set("test.parallel", "8")
	}
	leaktest.Main(m)
}

// name is whose certificates the servers of these tests have.
const name = "mail.test"

// hosts is a resolver that knows these names and no others.
type hosts map[string][]netip.Addr

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addresses, ok := h[host]; ok {
		return addresses, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// serve starts a server that does what play says with each connection, and returns its port. At the
// end of the test what is still open is closed.
func serve(t testing.TB, play func(conn net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var players sync.WaitGroup
	players.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			players.Go(func() {
				defer conn.Close()
				play(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		players.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// secure is a server that has TLS from the start and then does what behind says; nil: it waits for
// the client to leave.
func secure(config *tls.Config, behind func(conn *tls.Conn)) func(net.Conn) {
	return func(raw net.Conn) { overTLS(raw, raw, config, behind) }
}

// overTLS begins TLS on a connection, of which some has been read already.
func overTLS(raw, through net.Conn, config *tls.Config, behind func(conn *tls.Conn)) {
	conn := tls.Server(through, config)
	if conn.Handshake() != nil {
		// The alert has to arrive before the reset that unread data causes.
		raw.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, raw)
		return
	}
	if behind != nil {
		behind(conn)
	}
	io.Copy(io.Discard, conn)
}

// says is a server that says something and waits for the client to leave.
func says(words string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, words)
		io.Copy(io.Discard, conn)
	}
}

// with is the configuration of a server with that certificate and these above it.
func with(cert tls.Certificate, above ...*tlstest.CA) *tls.Config {
	for _, ca := range above {
		cert.Certificate = append(cert.Certificate, ca.Cert.Raw)
	}
	return tlstest.Server(cert)
}

// run probes a server on the loopback as mail.test, with ca as the only root.
func run(
	t *testing.T,
	ca *tlstest.CA,
	port int,
	change ...func(*probe.Target, *probe.Options),
) *probe.Report {
	t.Helper()
	target := probe.Target{Host: name, Port: port}
	options := probe.Options{
		Roots: x509.NewCertPool(), Timeout: 10 * time.Second, Resolver: hosts{name: {loopback}},
	}
	if ca != nil {
		options.Roots = ca.Pool()
	}
	for _, change := range change {
		change(&target, &options)
	}
	report, err := probe.Run(t.Context(), target, options)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report)
	return report
}

// checkReport checks what holds for every report.
func checkReport(t *testing.T, report *probe.Report) {
	t.Helper()
	seen := map[explain.ID]bool{}
	for _, finding := range report.Findings {
		if seen[finding.ID] {
			t.Errorf("%s is there twice", finding.ID)
		}
		seen[finding.ID] = true
		tlstest.CheckLine(t, finding.Evidence)
		tlstest.CheckLine(t, finding.Mend)
		if finding.Evidence == "" ||
			!strings.ContainsAny(finding.Mend[max(0, len(finding.Mend)-1):], ".?") {
			t.Errorf("%s: %q, mend %q", finding.ID, finding.Evidence, finding.Mend)
		}
	}
	for _, layer := range report.Layers {
		tlstest.CheckLine(t, layer.Detail)
		if layer.Status == probe.Failed && report.ExitStatus() == probe.ExitFine {
			t.Errorf("nothing is wrong, and %s has failed: %s", layer.Name, layer.Detail)
		}
	}
	checkSchema(t, report)
}

// want checks that a report has a finding, with these words in its evidence or its mend, and that
// the status is that of findings.
func want(t *testing.T, report *probe.Report, id explain.ID, words ...string) {
	t.Helper()
	finding := report.Has(id)
	if finding == nil {
		t.Fatalf("want %s, got %s", id, summary(report))
	}
	for _, word := range words {
		if !strings.Contains(finding.Evidence+"\n"+finding.Mend, word) {
			t.Errorf("want %q in\n%s\n%s", word, finding.Evidence, finding.Mend)
		}
	}
}

// wantOnly is want, and there is no other warning and no other error.
func wantOnly(t *testing.T, report *probe.Report, id explain.ID, words ...string) {
	t.Helper()
	want(t, report, id, words...)
	for _, finding := range report.Findings {
		if finding.ID != id && finding.Severity != probe.Info {
			t.Errorf("want only %s, got %s", id, summary(report))
		}
	}
}

// wantNothing checks that there is no warning and no error.
func wantNothing(t *testing.T, report *probe.Report) {
	t.Helper()
	if report.ExitStatus() != probe.ExitFine {
		t.Errorf("want nothing, got %s", summary(report))
	}
}

func summary(report *probe.Report) string {
	var b strings.Builder
	for _, finding := range report.Findings {
		fmt.Fprintf(
			&b,
			"\n%s %s: %s\n  %s",
			finding.Severity,
			finding.ID,
			finding.Evidence,
			finding.Mend,
		)
	}
	for _, layer := range report.Layers {
		fmt.Fprintf(&b, "\n%s %s: %s", layer.Name, layer.Status, layer.Detail)
	}
	return b.String()
}

// must returns the certificate of a call that can't fail.
func must(cert tls.Certificate, err error) tls.Certificate {
	if err != nil {
		panic(err)
	}
	return cert
}

func selfSigned(names ...string) tls.Certificate {
	return must(devca.SelfSigned(devca.Request{Names: names}))
}

// hour is from an hour ago to one from now.
func hour() (from, to time.Time) {
	return time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
}

// ahead is a connection of which some was read already.
type ahead struct {
	net.Conn
	*bufio.Reader
}

func (a ahead) Read(p []byte) (int, error) { return a.Reader.Read(p) }
