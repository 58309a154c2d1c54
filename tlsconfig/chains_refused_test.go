package tlsconfig

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A refusal is a way for a server to be refused by a client that has just remembered its good certificate.
type refusal struct {
	name string

	// present returns what it shows then. The default is the good certificate, with its issuer's.
	present func(t *testing.T, good tls.Certificate, issuer *CA) tls.Certificate

	runsOut string // which certificate of the chain does so meanwhile
	byUs    bool   // it is VerifyConnection that finds it
}

var refusals = []refusal{
	{name: "expired", present: request(func(r *Request) { r.NotBefore, r.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour) })},
	{name: "not yet valid", present: request(func(r *Request) { r.NotBefore, r.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour) })},
	{name: "another name", present: request(func(r *Request) { r.Names = []string{"evil.test"} })},
	{name: "a client's", present: request(func(r *Request) { r.Client = true })},
	{name: "another authority", present: func(t *testing.T, _ tls.Certificate, issuer *CA) tls.Certificate {
		return chained(t, namesake(t, issuer), forMail())
	}},
	{name: "self-signed", present: func(t *testing.T, _ tls.Certificate, _ *CA) tls.Certificate {
		// Were its subject that of the remembered one, x509 would add to the error that it isn't signed by that.
		cert, err := SelfSigned(Request{Names: []string{"mail.test"}, CommonName: "Myself"})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}},
	{name: "issued with the remembered one", present: func(t *testing.T, good tls.Certificate, _ *CA) tls.Certificate {
		forged := issued(t, &CA{cert: good.Leaf, key: newKey(t, good)}, "mail.test")
		forged.Certificate = append(forged.Certificate, good.Certificate...)
		return forged
	}},
	{name: "without its key", present: func(_ *testing.T, good tls.Certificate, issuer *CA) tls.Certificate {
		good.PrivateKey = issuer.key
		return good
	}},
	{name: "tampered with", present: tampered(0)},
	{name: "intermediate tampered with", present: tampered(1), byUs: true},
	{name: "another intermediate", byUs: true, present: func(t *testing.T, good tls.Certificate, issuer *CA) tls.Certificate {
		good.Certificate = [][]byte{good.Certificate[0], namesake(t, issuer).cert.Raw}
		return good
	}},
	{name: "no intermediate", byUs: true, present: func(_ *testing.T, good tls.Certificate, _ *CA) tls.Certificate {
		good.Certificate = good.Certificate[:1]
		return good
	}},
	{name: "has run out", runsOut: "leaf"},
	{name: "intermediate has run out", runsOut: "intermediate", byUs: true},
	{name: "root has run out", runsOut: "root", byUs: true},
}

// request presents another certificate of the same issuer.
func request(change func(*Request)) func(*testing.T, tls.Certificate, *CA) tls.Certificate {
	return func(t *testing.T, _ tls.Certificate, issuer *CA) tls.Certificate {
		r := forMail()
		change(&r)
		return chained(t, issuer, r)
	}
}

// tampered presents the same chain but for a bit of a signature.
func tampered(which int) func(*testing.T, tls.Certificate, *CA) tls.Certificate {
	return func(_ *testing.T, good tls.Certificate, _ *CA) tls.Certificate {
		certs := slices.Clone(good.Certificate)
		certs[which] = bytes.Clone(certs[which])
		certs[which][len(certs[which])-1] ^= 1
		good.Certificate = certs
		return good
	}
}

// namesake is an intermediate of the same name, with another key, below a root that nobody trusts.
func namesake(t *testing.T, issuer *CA) *CA {
	return authority(t, newCA(t), issuer.cert.Subject.CommonName, time.Hour)
}

// Whoever is refused by crypto/tls is refused by a client that remembers the host, with the same error and the same alert, and is not remembered.
func TestRememberedHostIsRefusedAsByCryptoTLS(t *testing.T) {
	for _, refusal := range refusals {
		t.Run(refusal.name, func(t *testing.T) { synctest.Test(t, refusal.test) })
	}
}

func (r refusal) test(t *testing.T) {
	lasts := func(which string) time.Duration {
		if which == r.runsOut {
			return maxChainAge / 2
		}
		return time.Hour
	}
	ca := authority(t, nil, "Root", lasts("root"))
	issuer := authority(t, ca, "Issuer", lasts("intermediate"))
	good := chained(t, issuer, Request{Names: []string{"mail.test"}, NotAfter: time.Now().Add(lasts("leaf"))})

	base := unresumed(ca.Pool())
	client := NewClient(base)
	met(t, client.For("mail.test"), server(good))
	held, known := client.For("mail.test"), remembered(base.RootCAs)
	if held.RootCAs == base.RootCAs {
		t.Fatal("the good chain isn't remembered")
	}
	if r.runsOut != "" {
		time.Sleep(maxChainAge/2 + time.Second)
	}
	srv := server(good)
	if r.present != nil {
		srv = server(r.present(t, good, issuer))
	}

	plain := base.Clone()
	plain.ServerName = "mail.test"
	want := meetInMemory(t, plain, srv)
	if want.clientErr == nil {
		t.Fatal("crypto/tls accepts it")
	}
	for who, config := range map[string]*tls.Config{"the client": client.For("mail.test"), "a configuration that was kept": held} {
		got := meetInMemory(t, config, srv)
		if fmt.Sprintf("%T %[1]v", got.clientErr) != fmt.Sprintf("%T %[1]v", want.clientErr) {
			t.Errorf("%s: %v (%[2]T), want %v (%[3]T)", who, got.clientErr, want.clientErr)
		}
		if fmt.Sprint(got.serverErr) != fmt.Sprint(want.serverErr) {
			t.Errorf("%s: the server hears %v, want %v", who, got.serverErr, want.serverErr)
		}
	}
	if remembered(base.RootCAs) != known {
		t.Error("it is remembered")
	}

	// Should VerifyConnection get lost, that is as far as it may go.
	lost := held.Clone()
	lost.VerifyConnection = nil
	if m := meetInMemory(t, lost, srv); (m.clientErr == nil) != r.byUs {
		t.Errorf("crypto/tls by itself: %v", m.clientErr)
	}
}
