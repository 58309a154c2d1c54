package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/internal/verify"
)

func TestClientDefaults(t *testing.T) {
	config := NewClient(nil).For("mail.test")
	if config.ServerName != "mail.test" || config.InsecureSkipVerify || config.MinVersion != tls.VersionTLS12 ||
		config.MaxVersion != 0 || config.ClientSessionCache == nil || config.RootCAs != nil {
		t.Errorf("got %+v", config)
	}
}

func TestClientKeepsWhatTheBaseSays(t *testing.T) {
	cache := tls.NewLRUClientSessionCache(1)
	base := &tls.Config{MinVersion: tls.VersionTLS10, ServerName: "other.test", InsecureSkipVerify: true, NextProtos: []string{"a"}}
	client := NewClient(base)
	base.ServerName = "changed afterwards"
	config := client.For("mail.test")
	if config.ServerName != "other.test" || !config.InsecureSkipVerify || config.MinVersion != tls.VersionTLS10 ||
		len(config.NextProtos) != 1 || config.VerifyConnection != nil {
		t.Errorf("got %+v", config)
	}
	if got := NewClient(&tls.Config{ClientSessionCache: cache}).For("a.test").ClientSessionCache; got != cache {
		t.Errorf("session cache is %v, want the base's", got)
	}
}

func TestServerNameForms(t *testing.T) {
	for host, want := range map[string]string{
		"mail.test":          "mail.test",
		"Mail.TEST.":         "mail.test",
		"mail.test..":        "mail.test",
		"127.0.0.1":          "127.0.0.1",
		"::1":                "::1",
		"[::1]":              "::1",
		"fe80::1%eth0":       "fe80::1",
		"0:0:0:0:0:0:0:1":    "::1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"":                   "",
		".":                  "",
		"\u212aelvin.test":   "\u212aelvin.test",
		"xn--bcher-kva.test": "xn--bcher-kva.test",
	} {
		if got := names.Server(host); got != want {
			t.Errorf("names.Server(%q) = %q, want %q", host, got, want)
		}
		if got := NewClient(nil).For(host).ServerName; got != want {
			t.Errorf("For(%q).ServerName = %q, want %q", host, got, want)
		}
	}
}

func TestClientVerifiesNamesAndAddresses(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test", "127.0.0.1", "::1")
	client := NewClient(&tls.Config{RootCAs: ca.Pool()})
	for _, host := range []string{"mail.test", "MAIL.test.", "127.0.0.1", "::1", "::1%lo"} {
		if _, err := tlstest.Dial(t, client.For(host), tlstest.Speak(tlstest.Server(cert))); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"evil.test", "127.0.0.2", "", "."} {
		if _, err := tlstest.Dial(t, client.For(host), tlstest.Speak(tlstest.Server(cert))); err == nil {
			t.Errorf("%s: the handshake succeeded", host)
		}
	}
}

func TestOneHostOneConfiguration(t *testing.T) {
	client := NewClient(nil)
	first := client.For("mail.test")
	if client.For("mail.test") != first {
		t.Error("two configurations for one host")
	}
	if n := testing.AllocsPerRun(100, func() { client.For("mail.test") }); n != 0 {
		t.Errorf("For allocates %v times", n)
	}
	for i := range 3 * maxHosts {
		client.For(fmt.Sprintf("host%d.test", i))
	}
	if n := len(client.hosts); n != maxHosts {
		t.Errorf("%d configurations kept, want %d", n, maxHosts)
	}
}

func TestClientConcurrently(t *testing.T) {
	client := NewClient(nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 2 * maxHosts {
				host := fmt.Sprintf("host%d.test", (i*7+worker)%(maxHosts+50))
				if got := client.For(host).ServerName; got != host {
					t.Errorf("For(%s) is for %s", host, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

// resumes reports whether the second of two connections resumed the session of the first.
func resumes(t *testing.T, srv, first, second *tls.Config) bool {
	t.Helper()
	if _, err := tlstest.Dial(t, first, tlstest.Speak(srv)); err != nil {
		t.Fatal(err)
	}
	state, err := tlstest.Dial(t, second, tlstest.Speak(srv))
	if err != nil {
		t.Fatal(err)
	}
	return state.DidResume
}

func TestSessionsStayWithTheirHost(t *testing.T) {
	ca := tlstest.NewCA(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, base := range []*tls.Config{
			{},
			{ServerName: "a.test"}, // one name for all hosts: crypto/tls alone would mix them
			{ServerName: NoSNI},
		} {
			base.RootCAs, base.MaxVersion = ca.Pool(), version
			srv := tlstest.Server(tlstest.Issued(t, ca, "a.test", "b.test", "127.0.0.1"))
			client := NewClient(base)
			if !resumes(t, srv, client.For("a.test"), client.For("a.test")) {
				t.Errorf("%x %q: the session was not resumed", version, base.ServerName)
			}
			if !resumes(t, srv, client.For("a.test"), client.For("A.test.")) {
				t.Errorf("%x %q: the session was not resumed for another spelling", version, base.ServerName)
			}
			if resumes(t, srv, client.For("a.test"), client.For("b.test")) {
				t.Errorf("%x %q: the session went to another host", version, base.ServerName)
			}
			if resumes(t, srv, client.For("a.test"), NewClient(base).For("a.test")) {
				t.Errorf("%x %q: the session went to another policy", version, base.ServerName)
			}
		}
	}
}

func TestNoSNIStillVerifies(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test", "127.0.0.1"))
	sni := "none"
	srv.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		sni = hello.ServerName
		return nil, nil
	}
	called := 0
	client := NewClient(&tls.Config{
		RootCAs:    ca.Pool(),
		ServerName: NoSNI,
		VerifyConnection: func(state tls.ConnectionState) error {
			called++
			if len(state.VerifiedChains) == 0 {
				return errors.New("no chains")
			}
			return nil
		},
	})
	for _, host := range []string{"mail.test", "127.0.0.1"} {
		if _, err := tlstest.Dial(t, client.For(host), tlstest.Speak(srv)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if sni != "" {
			t.Errorf("%s: SNI %q was sent", host, sni)
		}
	}
	if called != 2 {
		t.Errorf("the base's VerifyConnection was called %d times, want 2", called)
	}

	_, err := tlstest.Dial(t, client.For("evil.test"), tlstest.Speak(srv))
	if _, ok := errors.AsType[x509.HostnameError](err); !ok {
		t.Errorf("another host: got %v, want a HostnameError", err)
	}
	strangers := NewClient(&tls.Config{RootCAs: tlstest.NewCA(t).Pool(), ServerName: NoSNI})
	_, err = tlstest.Dial(t, strangers.For("mail.test"), tlstest.Speak(srv))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("another CA: got %v, want an UnknownAuthorityError", err)
	}
	if _, err := tlstest.Dial(t, client.For(""), tlstest.Speak(srv)); !errors.Is(err, verify.ErrNoName) {
		t.Errorf("no host: got %v, want verify.ErrNoName", err)
	}
	// Without Client.For it fails closed.
	if _, err := tlstest.Dial(t, &tls.Config{RootCAs: ca.Pool(), ServerName: NoSNI}, tlstest.Speak(srv)); err == nil {
		t.Error("NoSNI given to crypto/tls was accepted")
	}
	// Verification that was switched off by name stays off.
	lax := NewClient(&tls.Config{InsecureSkipVerify: true, ServerName: NoSNI})
	if _, err := tlstest.Dial(t, lax.For("evil.test"), tlstest.Speak(srv)); err != nil {
		t.Errorf("InsecureSkipVerify: %v", err)
	}
}

func TestVerifyConnectionSeesTheName(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test", "127.0.0.1"))
	var seen string
	base := &tls.Config{RootCAs: ca.Pool(), VerifyConnection: func(state tls.ConnectionState) error {
		seen = state.ServerName
		return nil
	}}
	for _, host := range []string{"mail.test", "127.0.0.1"} {
		if _, err := tlstest.Dial(t, NewClient(base).For(host), tlstest.Speak(srv)); err != nil || seen != host {
			t.Errorf("%s: %v, VerifyConnection saw %q", host, err, seen)
		}
	}
	base.ServerName = "127.0.0.1"
	if _, err := tlstest.Dial(t, NewClient(base).For("mail.test"), tlstest.Speak(srv)); err != nil || seen != "127.0.0.1" {
		t.Errorf("fixed name: %v, VerifyConnection saw %q", err, seen)
	}
}

func TestTLS12IsTheFloor(t *testing.T) {
	ca := tlstest.NewCA(t)
	srv := tlstest.Server(tlstest.Issued(t, ca, "mail.test"))
	srv.MinVersion, srv.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := tlstest.Dial(t, NewClient(&tls.Config{RootCAs: ca.Pool()}).For("mail.test"), tlstest.Speak(srv)); err == nil {
		t.Error("TLS 1.1 was negotiated by default")
	}
	base := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10}
	state, err := tlstest.Dial(t, NewClient(base).For("mail.test"), tlstest.Speak(srv))
	if err != nil || state.Version != tls.VersionTLS11 {
		t.Errorf("asked for by name: version %x, %v", state.Version, err)
	}
}

func BenchmarkFor(b *testing.B) {
	client := NewClient(nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			client.For("mail.test")
		}
	})
}
