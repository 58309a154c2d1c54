package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A place is where a session is made of a remembered chain, in a cache that others have too.
type place struct {
	ca, issuer *CA
	base       *tls.Config // with the cache
	srv        *tls.Config
	verified   [][]*x509.Certificate
}

func newPlace(t *testing.T, version uint16, intermediateLasts time.Duration) *place {
	ca := newCA(t)
	p := &place{ca: ca, issuer: authority(t, ca, "Issuer", intermediateLasts)}
	p.base = &tls.Config{RootCAs: ca.Pool(), MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	p.srv = server(chained(t, p.issuer, forMail()))
	p.verified = met(t, NewClient(unresumed(p.base.RootCAs)).For("mail.test"), p.srv).VerifiedChains
	p.session(t)
	return p
}

// session makes another one.
func (p *place) session(t *testing.T) {
	t.Helper()
	p.base.ClientSessionCache.Put("mail.test", nil)
	client := NewClient(p.base)
	if !relies(client) {
		t.Fatal("the chain isn't remembered")
	}
	if state := met(t, client.For("mail.test"), p.srv); state.DidResume {
		t.Fatal("resumed")
	}
}

// plain is a configuration for crypto/tls alone, with the same cache.
func (p *place) plain(roots *x509.CertPool) *tls.Config {
	config := p.base.Clone()
	config.RootCAs, config.ServerName = roots, "mail.test"
	return config
}

func forVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, version) }) })
	}
}

// A session of a connection whose chain was remembered is like any other.
func TestSessionOfARememberedChain(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		p := newPlace(t, version, time.Hour)
		client := NewClient(p.base)
		resumed := func(who string, config *tls.Config) {
			t.Helper()
			if state := met(t, config, p.srv); !state.DidResume || !sameChains(state.VerifiedChains, p.verified) {
				t.Errorf("%s: resumed: %v, chains %v", who, state.DidResume, state.VerifiedChains)
			}
		}
		resumed("the client", client.For("mail.test"))
		resumed("crypto/tls", p.plain(p.base.RootCAs))
		resumed("crypto/tls with other pool", p.plain(p.ca.Pool()))
		another := p.base.Clone()
		another.RootCAs = p.ca.Pool()
		resumed("another client", NewClient(another).For("mail.test"))
		time.Sleep(2 * maxChainAge)
		if relies(client) {
			t.Fatal("still remembered")
		}
		resumed("the client, later", client.For("mail.test"))
		if relies(client) {
			t.Error("a chain that was verified long ago is remembered for being resumed")
		}
	})
}

// Neither with other roots nor when the chain has run out is a session resumed, as by crypto/tls alone.
func TestSessionOfARememberedChainIsNotResumed(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		p := newPlace(t, version, time.Hour)
		others := newCA(t).Pool()
		foreign := &tls.Config{RootCAs: others, ClientSessionCache: p.base.ClientSessionCache}
		for who, config := range map[string]*tls.Config{"crypto/tls": p.plain(others), "a client": NewClient(foreign).For("mail.test")} {
			p.session(t)
			err := meetInMemory(t, config, p.srv).clientErr
			if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
				t.Errorf("%s with other roots: %v", who, err)
			}
		}
	})
	forVersions(t, func(t *testing.T, version uint16) {
		p := newPlace(t, version, 30*time.Second)
		held := NewClient(p.base).For("mail.test")
		time.Sleep(31 * time.Second)
		for who, config := range map[string]*tls.Config{
			"crypto/tls": p.plain(p.base.RootCAs), "a client": NewClient(p.base).For("mail.test"), "a kept configuration": held,
		} {
			err := meetInMemory(t, config, p.srv).clientErr
			if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || invalid.Reason != x509.Expired {
				t.Errorf("%s: %v", who, err)
			}
		}
	})
}

// A session that was made without verification, or by trust in the certificate itself, is worth to a client that remembers the chain what it is worth to
// crypto/tls.
func TestSessionOfOthersWithARememberedChain(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		p := newPlace(t, version, time.Hour)
		p.base.ClientSessionCache.Put("mail.test", nil)
		careless := p.plain(p.base.RootCAs)
		careless.InsecureSkipVerify = true
		met(t, careless, p.srv)
		if state := met(t, careless, p.srv); !state.DidResume {
			t.Fatal("no session")
		}
		if state := met(t, NewClient(p.base).For("mail.test"), p.srv); state.DidResume || !sameChains(state.VerifiedChains, p.verified) {
			t.Errorf("without verification: resumed: %v, chains %v", state.DidResume, state.VerifiedChains)
		}
	})
	forVersions(t, func(t *testing.T, version uint16) {
		p := newPlace(t, version, time.Hour)
		pinned := p.plain(poolOf([]*x509.Certificate{p.srv.Certificates[0].Leaf}))
		pin := func() {
			p.base.ClientSessionCache.Put("mail.test", nil)
			met(t, pinned, p.srv)
		}
		pin()
		var mu sync.Mutex
		p.base.VerifyConnection = func(state tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			if !sameChains(state.VerifiedChains, p.verified) {
				t.Errorf("VerifyConnection saw the chains %v", state.VerifiedChains)
			}
			return nil
		}
		client := NewClient(p.base)
		config := client.For("mail.test")
		var wg sync.WaitGroup
		for range 4 { // which have one session's chains in common
			wg.Go(func() {
				if m := meetInMemory(t, config, p.srv); m.clientErr != nil || !m.client.DidResume {
					t.Errorf("resumed: %v, %v", m.client.DidResume, m.clientErr)
				}
			})
		}
		wg.Wait()

		time.Sleep(maxChainAge)
		pin()
		if relies(client) {
			t.Fatal("still remembered")
		}
		if state := met(t, client.For("mail.test"), p.srv); state.DidResume {
			t.Error("a session that was made by other roots was resumed")
		}
	})
}
