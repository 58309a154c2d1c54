package tlsconfig

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
)

// What everybody sees of a connection is the same whether its chain was verified or remembered.
func TestRememberedChainLooksLikeAVerifiedOne(t *testing.T) {
	ca := newCA(t)
	srv := server(chained(t, authority(t, ca, "Issuer", time.Hour), Request{Names: []string{"mail.test", "127.0.0.1"}}))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, where := range []struct{ fixed, host string }{{"", "mail.test"}, {"", "127.0.0.1"}, {"mail.test", "elsewhere.test"}} {
			var seen []tls.ConnectionState
			base := unresumed(ca.Pool())
			base.MaxVersion, base.ServerName = version, where.fixed
			base.VerifyConnection = func(state tls.ConnectionState) error {
				seen = append(seen, state)
				return nil
			}
			for i := range 3 {
				config := NewClient(base).For(where.host) // another client each time: they share what they know
				if got := config.RootCAs != base.RootCAs; got != (i > 0) {
					t.Errorf("%x %v: connection %d relies on a remembered chain: %v", version, where, i, got)
				}
				if config.InsecureSkipVerify {
					t.Errorf("%x %v: crypto/tls doesn't verify", version, where)
				}
				state := met(t, config, srv)
				if len(state.VerifiedChains) != 1 || len(state.VerifiedChains[0]) != 3 || state.VerifiedChains[0][0] != state.PeerCertificates[0] {
					t.Errorf("%x %v: connection %d has the chains %v", version, where, i, state.VerifiedChains)
				}
			}
			if len(seen) != 3 {
				t.Fatalf("%x %v: VerifyConnection was called %d times", version, where, len(seen))
			}
			for i, state := range seen[1:] {
				if !sameChains(state.VerifiedChains, seen[0].VerifiedChains) || state.ServerName != seen[0].ServerName ||
					!slices.EqualFunc(state.PeerCertificates, seen[0].PeerCertificates, (*x509.Certificate).Equal) {
					t.Errorf("%x %v: VerifyConnection saw something else in connection %d", version, where, i+1)
				}
			}
		}
	}
}

func TestVerifyConnectionDecidesEachTime(t *testing.T) {
	ca := newCA(t)
	srv := server(issued(t, ca, "mail.test"))
	var verdict error
	base := unresumed(ca.Pool())
	base.VerifyConnection = func(tls.ConnectionState) error { return verdict }
	client := NewClient(base)
	for i, want := range []error{errors.New("not today"), nil, errors.New("nor tomorrow")} {
		if verdict = want; relies(client) != (i > 0) {
			t.Errorf("connection %d relies on a remembered chain: %v", i, i == 0)
		}
		if m := meetInMemory(t, client.For("mail.test"), srv); m.clientErr != want {
			t.Errorf("connection %d: %v, want %v", i, m.clientErr, want)
		}
	}
}

// VerifyConnection may do with what it is given whatever it likes.
func TestVerifyConnectionCannotChangeWhatIsRemembered(t *testing.T) {
	ca := newCA(t)
	issuer := authority(t, ca, "Issuer", time.Hour)
	cert := chained(t, issuer, forMail())
	base := unresumed(ca.Pool())
	base.VerifyConnection = func(state tls.ConnectionState) error {
		if want := [][]*x509.Certificate{{cert.Leaf, issuer.cert, ca.cert}}; !sameChains(state.VerifiedChains, want) {
			t.Errorf("chains %v, want %v", state.VerifiedChains, want)
		}
		clear(state.VerifiedChains[0])
		clear(state.PeerCertificates[1:]) // crypto/tls wants the first
		return nil
	}
	client := NewClient(base)
	for i := range 3 {
		met(t, client.For("mail.test"), server(cert))
		if known := remembered(base.RootCAs); known == nil || slices.Contains(known.sent, nil) || !relies(client) {
			t.Errorf("after connection %d: %+v", i, known)
		}
	}
}

func TestChainIsRememberedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		srv := server(chained(t, authority(t, ca, "Issuer", time.Hour), forMail()))
		base := unresumed(ca.Pool())
		client := NewClient(base)
		verified := met(t, client.For("mail.test"), srv)
		held := client.For("mail.test")

		time.Sleep(maxChainAge - time.Millisecond)
		known := remembered(base.RootCAs)
		met(t, client.For("mail.test"), srv)
		if !relies(client) || remembered(base.RootCAs) != known {
			t.Error("not remembered for as long as it should")
		}
		time.Sleep(time.Millisecond)
		if relies(client) || relies(NewClient(base)) {
			t.Error("relied on for more than a minute")
		}

		// A configuration that was kept has it verified again, and so it is remembered again.
		for range 2 {
			state := met(t, held, srv)
			if !sameChains(state.VerifiedChains, verified.VerifiedChains) {
				t.Errorf("chains %v, want %v", state.VerifiedChains, verified.VerifiedChains)
			}
			if fresh := remembered(base.RootCAs); fresh == known || !relies(client) {
				t.Error("not verified again")
			} else if client.For("mail.test").RootCAs != held.RootCAs {
				t.Error("another pool for the same roots and certificate")
			}
		}
	})
}

func TestServerThatChangesItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		base := unresumed(ca.Pool())
		client := NewClient(base)
		old, fresh := issued(t, ca, "mail.test"), issued(t, ca, "mail.test")
		met(t, client.For("mail.test"), server(old))
		for range 3 {
			for _, cert := range []tls.Certificate{fresh, old} {
				state := met(t, client.For("mail.test"), server(cert))
				if want := [][]*x509.Certificate{{cert.Leaf, ca.cert}}; !sameChains(state.VerifiedChains, want) {
					t.Errorf("chains %v, want %v", state.VerifiedChains, want)
				}
				if known := remembered(base.RootCAs); !known.chain[0].Equal(old.Leaf) {
					t.Error("each connection changes what is remembered")
				}
			}
		}
		time.Sleep(maxChainAge)
		met(t, client.For("mail.test"), server(fresh))
		if known := remembered(base.RootCAs); !known.chain[0].Equal(fresh.Leaf) || !relies(client) {
			t.Error("the new certificate isn't remembered")
		}
	})
}

func TestChainIsRememberedForItsRootsAndName(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	srv := server(issued(t, ca, "mail.test", "b.test"))
	base := unresumed(ca.Pool())
	client := NewClient(base)
	met(t, client.For("mail.test"), srv)
	if !relies(client) {
		t.Fatal("not remembered")
	}
	if client.For("b.test").RootCAs != base.RootCAs {
		t.Error("relied on for another name")
	}
	for name, roots := range map[string]*x509.CertPool{"a pool with the same in it": ca.Pool(), "the system's": nil, "others": other.Pool()} {
		if relies(NewClient(unresumed(roots))) {
			t.Errorf("relied on for other roots: %s", name)
		}
	}
	strangers := NewClient(unresumed(other.Pool()))
	err := meetInMemory(t, strangers.For("mail.test"), srv).clientErr
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("another authority: %v", err)
	}

	base.RootCAs.AddCert(other.cert)
	if relies(client) {
		t.Error("relied on after the roots were changed")
	}
	met(t, client.For("mail.test"), server(issued(t, other, "mail.test")))
	if !relies(client) {
		t.Error("not remembered by the new roots")
	}
	met(t, client.For("mail.test"), srv)
}

func TestWhatIsNotRemembered(t *testing.T) {
	ca := newCA(t)
	good := issued(t, ca, "mail.test")
	for name, change := range map[string]func(base *tls.Config){
		"InsecureSkipVerify": func(base *tls.Config) { base.InsecureSkipVerify = true },
		"NoSNI":              func(base *tls.Config) { base.ServerName = NoSNI },
		"Time":               func(base *tls.Config) { base.Time = time.Now },
		"VerifyPeerCertificate": func(base *tls.Config) {
			base.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return nil }
		},
		"EncryptedClientHelloConfigList": func(base *tls.Config) { base.EncryptedClientHelloConfigList = []byte{} },
	} {
		base := unresumed(ca.Pool())
		if change(base); remembers(NewClient(base).base) {
			t.Errorf("%s: chains are remembered", name)
		}
		if name == "EncryptedClientHelloConfigList" {
			continue // crypto/tls refuses an empty one
		}
		client := NewClient(base)
		met(t, client.For("mail.test"), server(good))
		if relies(client) || relies(NewClient(unresumed(base.RootCAs))) {
			t.Errorf("%s: the chain was remembered", name)
		}
	}

	authorities := custom(t, ca, &x509.Certificate{DNSNames: []string{"mail.test"}, IsCA: true, BasicConstraintsValid: true})
	issuer, other := authority(t, ca, "Issuer", time.Hour), newCA(t)
	crossed, err := x509.CreateCertificate(rand.Reader, issuer.cert, other.cert, issuer.key.Public(), other.key)
	if err != nil {
		t.Fatal(err)
	}
	twice := chained(t, issuer, forMail())
	twice.Certificate = append(twice.Certificate, crossed)
	crowd := good
	crowd.Certificate = slices.Clone(crowd.Certificate)
	for size := 0; size <= maxChainSize; size += len(other.cert.Raw) {
		crowd.Certificate = append(crowd.Certificate, other.cert.Raw)
	}
	for name, of := range map[string]struct {
		cert  tls.Certificate
		roots []*x509.Certificate
	}{
		"certificate of an authority": {authorities, []*x509.Certificate{ca.cert}},
		"certificate that is a root":  {good, []*x509.Certificate{good.Leaf}},
		"two chains":                  {twice, []*x509.Certificate{ca.cert, other.cert}},
		"much that isn't needed":      {crowd, []*x509.Certificate{ca.cert}},
	} {
		roots := poolOf(of.roots)
		client := NewClient(unresumed(roots))
		met(t, client.For("mail.test"), server(of.cert))
		if relies(client) || remembered(roots) != nil {
			t.Errorf("%s: it was remembered", name)
		}
	}
}

// The system's roots are read once in a process, so that a machine with others needs a process of its own.
func TestChainVerifiedByTheSystemsRootsIsRemembered(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the trust store can be pointed elsewhere on Linux only")
	}
	if !childtest.Alone(t) {
		return
	}
	ca := newCA(t)
	t.Setenv("SSL_CERT_FILE", file(t, "roots.pem", ca.PEM()))
	t.Setenv("SSL_CERT_DIR", "/nonexistent")
	base := unresumed(nil)
	cert := issued(t, ca, "mail.test")
	for i := range 3 {
		client := NewClient(base)
		if relies(client) != (i > 0) {
			t.Errorf("connection %d relies on a remembered chain: %v", i, i == 0)
		}
		state := met(t, client.For("mail.test"), server(cert))
		if want := [][]*x509.Certificate{{cert.Leaf, ca.cert}}; !sameChains(state.VerifiedChains, want) {
			t.Errorf("connection %d: chains %v, want %v", i, state.VerifiedChains, want)
		}
	}
	met(t, NewClient(base).For("mail.test"), server(issued(t, ca, "mail.test")))
	err := meetInMemory(t, NewClient(base).For("mail.test"), server(issued(t, newCA(t), "mail.test"))).clientErr
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("another authority: %v", err)
	}
}

func TestNoChainIsRememberedInFIPSMode(t *testing.T) {
	if childtest.Alone(t, "GODEBUG=fips140=on") && remembers(unresumed(newCA(t).Pool())) {
		t.Error("chains are remembered")
	}
}

func TestChainMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		roots := ca.Pool()
		state := met(t, NewClient(unresumed(roots)).For("mail.test"), server(issued(t, ca, "mail.test")))
		m := chainMemory{chains: make(map[chainKey]*knownChain)}
		for i := range 2 * maxChains {
			key := chainKey{roots, fmt.Sprintf("host%d.test", i)}
			if m.put(key, state); m.get(key) == nil {
				t.Fatalf("%v was not remembered", key)
			}
		}
		if len(m.chains) != maxChains {
			t.Errorf("%d chains are remembered, want %d", len(m.chains), maxChains)
		}
		time.Sleep(maxChainAge)
		m.put(chainKey{roots, "mail.test"}, state)
		if len(m.chains) != 1 {
			t.Errorf("%d chains are remembered of which 1 is of use", len(m.chains))
		}
	})
}

func TestChainIsStaleWhenTheClockGoesBack(t *testing.T) {
	now := time.Now()
	known := &knownChain{at: now, until: now.Add(time.Hour)}
	for _, at := range []struct {
		name string
		time time.Time
		want bool
	}{
		{"at once", now, true},
		{"soon", now.Add(maxChainAge - 1), true},
		{"later", now.Add(maxChainAge), false},
		{"later by the wall clock", now.Add(maxChainAge).Round(0), false},
		{"earlier", now.Add(-1), false},
		{"earlier by the wall clock", now.Add(-1).Round(0), false},
		{"when it has run out", now.Add(time.Hour + 1), false},
	} {
		if got := known.fresh(at.time); got != at.want {
			t.Errorf("%s: fresh is %v, want %v", at.name, got, at.want)
		}
	}
	if known.until = now.Add(time.Second); known.fresh(now.Add(2 * time.Second)) {
		t.Error("fresh though it has run out")
	}
}

func TestRememberedHostCostsNoAllocation(t *testing.T) {
	ca := newCA(t)
	client := NewClient(unresumed(ca.Pool()))
	met(t, client.For("mail.test"), server(issued(t, ca, "mail.test")))
	if n := testing.AllocsPerRun(100, func() { client.For("mail.test") }); n != 0 || !relies(client) {
		t.Errorf("For allocates %v times", n)
	}
}

// Many connections at once, by several clients, some with configurations that they have kept, to a server that has two certificates; now and then everything
// is forgotten.
func TestChainsAreRememberedConcurrently(t *testing.T) {
	ca := newCA(t)
	base := unresumed(ca.Pool())
	certs := []tls.Certificate{issued(t, ca, "mail.test"), issued(t, ca, "mail.test")}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			client := NewClient(base)
			config := client.For("mail.test")
			for i := range 20 {
				if i%5 > 0 {
					config = client.For("mail.test")
				}
				cert := certs[(worker+i/3)%2]
				m := meetInMemory(t, config, server(cert))
				if want := [][]*x509.Certificate{{cert.Leaf, ca.cert}}; m.clientErr != nil || !sameChains(m.client.VerifiedChains, want) {
					t.Errorf("%v, chains %v", m.clientErr, m.client.VerifiedChains)
					return
				}
				if worker == 0 && i%7 == 0 {
					verifiedChains.mu.Lock()
					delete(verifiedChains.chains, chainKey{base.RootCAs, "mail.test"})
					verifiedChains.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}
