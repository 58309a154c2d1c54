package verify_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/internal/verify"
)

func TestPathGoesBySignatures(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	root := tlstest.NewCA(t)
	upper := tlstest.Intermediate(t, root, "Upper", from, to)
	lower := tlstest.Intermediate(t, upper, "Lower", from, to)
	impostor := tlstest.Intermediate(t, root, "Lower", from, to)
	leaf := tlstest.Issued(t, lower, "mail.test").Leaf
	for name, test := range map[string]struct {
		chain, path []*x509.Certificate
		ended       bool
	}{
		"alone":       {[]*x509.Certificate{leaf}, []*x509.Certificate{leaf}, false},
		"twice":       {[]*x509.Certificate{leaf, leaf}, []*x509.Certificate{leaf}, false},
		"self-signed": {[]*x509.Certificate{root.Cert, leaf}, []*x509.Certificate{root.Cert}, true},
		"out of order": {
			[]*x509.Certificate{leaf, root.Cert, upper.Cert, lower.Cert},
			[]*x509.Certificate{leaf, lower.Cert, upper.Cert, root.Cert}, true,
		},
		"an impostor before the issuer": {
			[]*x509.Certificate{leaf, impostor.Cert, lower.Cert},
			[]*x509.Certificate{leaf, lower.Cert}, false,
		},
	} {
		path, ended := verify.Path(test.chain)
		if !slices.Equal(path, test.path) || ended != test.ended {
			t.Errorf("%s: %d certificates, ended %v", name, len(path), ended)
		}
	}
}

// A peer can't have more signatures checked than crypto/x509 would.
func TestPathIsBounded(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	root := tlstest.NewCA(t)
	lower := tlstest.Intermediate(t, root, "Lower", from, to)
	leaf := tlstest.Issued(t, lower, "mail.test").Leaf
	chain := []*x509.Certificate{leaf}
	for range 100 {
		chain = append(chain, tlstest.Intermediate(t, root, "Lower", from, to).Cert)
	}
	if path, ended := verify.Path(append(chain, lower.Cert)); len(path) != 1 || ended {
		t.Errorf("%d certificates are on the path", len(path))
	}
	if path, _ := verify.Path(append(chain[:100:100], lower.Cert)); len(path) != 2 {
		t.Errorf("%d certificates are on the path", len(path))
	}
}
