package verify

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
)

func TestPins(t *testing.T) {
	cert := tlstest.Issued(t, tlstest.NewCA(t), "mail.test")
	for _, size := range []int{20, 32, 48, 64} {
		p, err := ParsePin(strings.Repeat("00", size))
		if err != nil || len(p.hash(cert.Leaf.Raw)) != size || p.fits(cert.Leaf) {
			t.Errorf("%d bytes: %v", size, err)
		}
		p.Sum = p.hash(cert.Leaf.Raw)
		if !p.fits(cert.Leaf) {
			t.Errorf("%s: does not fit", p.Name)
		}
	}
	if err := CheckPins(tls.ConnectionState{}, nil); err == nil {
		t.Error("nothing fits a fingerprint")
	}
}

// What a handshake pays for the state being looked up.
