package tlsconfig_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// NewServer stops at the first thing that is wrong; Inspect has them all.
func TestInspectFindsAllThatIsWrong(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Signed(t, ca, devca.Request{
		Names: []string{"a.test"}, Client: true, NotAfter: time.Now().Add(-time.Hour),
	})
	certFile, _ := tlstest.Pair(t, cert)
	_, keyFile := tlstest.Pair(t, tlstest.Issued(t, ca, "b.test"))
	chain, problems := tlsconfig.Inspect(tlsconfig.ServerCertificate{
		CertFile: certFile, KeyFile: keyFile, Names: []string{"mail.test"},
	}, ca.Pool())
	if len(chain) != 1 || !chain[0].Equal(cert.Leaf) {
		t.Errorf("chain %v", chain)
	}
	found := map[explain.ID]bool{}
	for _, problem := range problems {
		tlstest.CheckLine(t, problem.Error())
		found[problem.ID()] = true
		if problem.Warning() {
			t.Errorf("a warning: %v", problem)
		}
	}
	for _, id := range []explain.ID{
		explain.IDKeyMismatch, explain.IDCertExpired, explain.IDNameMismatch, explain.IDCertUsage,
	} {
		if !found[id] {
			t.Errorf("%s is not among %v", id, problems)
		}
	}
}

func TestInspectWarnsOfWhatOnlySomeStumbleOver(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	stranger := tlstest.NamedCA(t, "Stranger")
	cert.Certificate = append(cert.Certificate, ca.Cert.Raw, stranger.Cert.Raw)
	certFile, keyFile := tlstest.Pair(t, cert)
	_, problems := tlsconfig.Inspect(tlsconfig.ServerCertificate{
		CertFile: certFile, KeyFile: keyFile,
	}, ca.Pool())
	if len(problems) != 1 || problems[0].ID() != explain.IDChainStray || !problems[0].Warning() {
		t.Errorf("%v", problems)
	}
}

func FuzzInspect(f *testing.F) {
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		f.Fatal(err)
	}
	chain, key, err := devca.EncodePEM(cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chain, key, "mail.test")
	f.Add(append(chain, chain...), key, "")
	f.Add(key, chain, tlstest.Nasty)
	f.Fuzz(func(t *testing.T, cert, key []byte, name string) {
		pair := tlsconfig.ServerCertificate{CertPEM: cert, KeyPEM: key}
		if name != "" {
			pair.Names = []string{name}
		}
		chain, problems := tlsconfig.Inspect(pair, x509.NewCertPool())
		if chain == nil && problems == nil {
			t.Error("nothing could be read, and nothing is wrong")
		}
		for _, problem := range problems {
			tlstest.CheckLine(t, problem.Error())
			if problem.ID().Reason() != problem.Reason {
				t.Errorf("%s is of %q", problem.ID(), problem.Reason)
			}
		}
	})
}
