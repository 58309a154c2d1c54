package probe

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/whorl-go/whorl/internal/tlstest"
)

// checkFindings checks that findings are fit to be printed.
func checkFindings(t *testing.T, findings []Finding) {
	for _, finding := range findings {
		tlstest.CheckLine(t, finding.Evidence)
		tlstest.CheckLine(t, finding.Mend)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, said := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
		"HTTP/1.1 301 Moved\r\nLocation: https://x/\x1b[31m\r\n\r\n", "HTTP/1.1 999 \xff\r\n\r\n",
		"220 mail\r\n", "", "\x1b[2J", "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 400 Bad\r\nContent-Type: text/html\r\n\r\n<title>\x1b[31mNo\n</title>",
		"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		f.Add([]byte(said), "/path")
	}
	f.Fuzz(func(t *testing.T, said []byte, path string) {
		answer, response, body := readAnswer(final(said))
		complete(said)
		if answer == nil != (len(final(said)) == 0) {
			t.Errorf("%q: %+v", said, answer)
		}
		if answer != nil {
			tlstest.CheckLine(t, answer.describe())
			tlstest.CheckLine(t, answer.Location)
			tlstest.CheckLine(t, answer.Body)
			tlstest.CheckLine(t, answer.Subprotocol)
			if answer.Protocol == "WebSocket" && answer.Status != http.StatusSwitchingProtocols {
				t.Errorf("%+v", answer)
			}
		}
		for _, scheme := range []string{"https", "wss"} {
			p := &prober{target: Target{Host: "x.test", Scheme: scheme, Path: path}}
			checkFindings(t, p.judgeAnswer(answer, response, "key"))
			s := &session{plain: &tls.Config{}, asked: &tls.CertificateRequestInfo{}}
			if finding, _ := p.withoutCertificate(s, answer, body); finding != nil {
				checkFindings(t, []Finding{*finding})
			}
		}
	})
}

func FuzzStaple(f *testing.F) {
	ca := tlstest.NewCA(f)
	leaf := tlstest.Issued(f, ca, "mail.test").Leaf
	now := time.Now()
	for _, status := range []int{ocsp.Good, ocsp.Revoked, ocsp.Unknown} {
		response, err := ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{
			Status: status, SerialNumber: leaf.SerialNumber, ThisUpdate: now, NextUpdate: now,
		}, ca.Key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(response)
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		p := &prober{report: &Report{}}
		for _, chain := range [][]*x509.Certificate{{leaf}, {leaf, ca.Cert}} {
			if staple := p.judgeStaple(response, chain, now); staple.Sent != (len(response) > 0) {
				t.Errorf("%+v", staple)
			}
		}
		checkFindings(t, p.report.Findings)
	})
}

func FuzzTarget(f *testing.F) {
	for _, text := range []string{"mail.test:25", "[::1]:443", "wss://x/y?z", "https://u:p@x:1#f",
		"x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			return
		}
		if target.Port < 1 || target.Port > 65535 || target.Host == "" {
			t.Errorf("%q: %+v", text, target)
		}
		if target.check() == nil {
			p := &prober{target: target, name: target.name()}
			for _, c := range p.request("key") {
				if c < ' ' && c != '\r' && c != '\n' {
					t.Errorf("%q is in the request", c)
				}
			}
		}
	})
}

func TestSentences(t *testing.T) {
	for advice, want := range map[string]string{
		"": "Look at the server's log.", "mend it": "Mend it.", "Mend it.": "Mend it.",
		"is it?": "Is it?", "x": "X.",
	} {
		if got := sentence(advice); got != want {
			t.Errorf("%q: %q, want %q", advice, got, want)
		}
	}
	for _, entry := range own {
		if entry.mend != "" && sentence(entry.mend) != entry.mend {
			t.Errorf("%s: %q is no sentence", entry.id, entry.mend)
		}
	}
}
