package tlsconfig

import (
	"crypto/tls"
	"strings"

	"github.com/whorl-go/whorl/internal/names"
)

// A nameIndex finds the certificates for the name that a client asks for.
type nameIndex struct {
	given, own nameTable // names from the options go before those in the certificates
	// For a client that asks for nothing that is known: the first, and what else is there for the
	// same name.
	fallback []*tls.Certificate
}

type nameTable struct {
	full, wildcard map[string][]*tls.Certificate // wildcards without their "*."
}

// add enters a certificate under the given names, or under its own if there are none.
func (x *nameIndex) add(cert *tls.Certificate, names []string) {
	table := &x.given
	if len(names) == 0 {
		table, names = &x.own, cert.Leaf.DNSNames
	}
	for _, name := range names {
		table.add(name, cert)
	}
	switch {
	case x.fallback == nil:
		x.fallback = []*tls.Certificate{cert}
	case sameNames(x.fallback[0], cert):
		x.fallback = append(x.fallback, cert)
	}
}

// sameNames reports whether two certificates are for the same, as an ECDSA and an RSA certificate
// of one server are.
func sameNames(a, b *tls.Certificate) bool {
	if len(a.Leaf.DNSNames) == 0 || len(a.Leaf.DNSNames) != len(b.Leaf.DNSNames) {
		return false
	}
	for _, name := range b.Leaf.DNSNames {
		if a.Leaf.VerifyHostname(strings.Replace(name, "*", "any", 1)) != nil {
			return false
		}
	}
	return true
}

func (t *nameTable) add(name string, cert *tls.Certificate) {
	if t.full == nil {
		t.full, t.wildcard = map[string][]*tls.Certificate{}, map[string][]*tls.Certificate{}
	}
	name = names.Server(name)
	if domain, ok := strings.CutPrefix(name, "*."); ok {
		t.wildcard[domain] = append(t.wildcard[domain], cert)
		return
	}
	t.full[name] = append(t.full[name], cert)
}

// find returns the certificates for a name, nil if there are none.
func (x *nameIndex) find(name string) []*tls.Certificate {
	if name == "" {
		return nil
	}
	name = names.Server(name)
	_, domain, _ := strings.Cut(name, ".")
	for _, table := range []*nameTable{&x.given, &x.own} {
		if certs := table.full[name]; certs != nil {
			return certs
		}
		if certs := table.wildcard[domain]; certs != nil {
			return certs
		}
	}
	return nil
}
