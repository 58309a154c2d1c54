package tlsconfig

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// shown returns the certificate that the server shows for a name.
func shown(t testing.TB, s *Server, name string) []byte {
	t.Helper()
	m := tlstest.Meet(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}, s.Config())
	if m.ClientErr != nil {
		t.Fatal(m.ClientErr)
	}
	return m.Client.PeerCertificates[0].Raw
}

// fromFiles returns options with the certificates that are in files, and writes these.
func fromFiles(t testing.TB, certs ...tls.Certificate) (o ServerOptions) {
	t.Helper()
	for _, cert := range certs {
		certFile, keyFile := tlstest.Pair(t, cert)
		o.Certificates = append(o.Certificates, ServerCertificate{CertFile: certFile, KeyFile: keyFile})
	}
	return o
}

func replace(t testing.TB, c ServerCertificate, cert tls.Certificate) {
	t.Helper()
	if err := devca.WritePEM(cert, c.CertFile, c.KeyFile); err != nil {
		t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	ca := tlstest.NewCA(t)
	first, second := tlstest.Issued(t, ca, "mail.test"), tlstest.Issued(t, ca, "mail.test")
	options := fromFiles(t, first)
	files := options.Certificates[0]
	s := serve(t, options, nil)
	config := s.Config()
	reload(t, s, false)
	if err := os.Chtimes(files.CertFile, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	reload(t, s, false) // a newer time alone is no change

	replace(t, files, second)
	if string(shown(t, s, "mail.test")) != string(first.Leaf.Raw) {
		t.Error("the new files are in use without a reload")
	}
	reload(t, s, true)
	if string(shown(t, s, "mail.test")) != string(second.Leaf.Raw) {
		t.Error("the new files are not in use")
	}
	reload(t, s, false)
	if s.Config() != config {
		t.Error("another configuration")
	}

	// The time and the size of a file may be the same.
	info, err := os.Stat(files.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	data[40] ^= 1
	write(t, files.CertFile, data)
	if err := os.Chtimes(files.CertFile, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(); err == nil {
		t.Error("a change was not seen")
	}
}

func TestBadReloadKeepsTheOld(t *testing.T) {
	ca := tlstest.NewCA(t)
	good, second := tlstest.Issued(t, ca, "mail.test"), tlstest.Issued(t, ca, "second.test")
	options := fromFiles(t, good, second)
	s := serve(t, options, nil)
	files := options.Certificates[0]
	chain, err := os.ReadFile(files.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	renewed := tlstest.Issued(t, ca, "second.test")
	replace(t, options.Certificates[1], renewed) // is in order, but one bad file holds up all

	for _, test := range []struct {
		data   []byte
		reason explain.Reason
	}{
		{nil, explain.ReasonNotPEM},
		{chain[:len(chain)/2], explain.ReasonNotPEM},
		{chainPEM(tlstest.Issued(t, ca, "mail.test").Leaf), explain.ReasonKeyMismatch},
	} {
		write(t, files.CertFile, test.data)
		for range 2 { // the mistake does not go away by itself
			changed, err := s.Reload()
			checkCertificateError(t, err, test.reason)
			if changed {
				t.Error("changed")
			}
		}
		if string(shown(t, s, "mail.test")) != string(good.Leaf.Raw) || string(shown(t, s, "second.test")) != string(second.Leaf.Raw) {
			t.Error("the old ones are not in use any more")
		}
	}
	if err := os.Remove(files.CertFile); err != nil {
		t.Fatal(err)
	}
	_, err = s.Reload()
	checkCertificateError(t, err, explain.ReasonFileMissing)

	write(t, files.CertFile, chain)
	reload(t, s, true)
	if string(shown(t, s, "second.test")) != string(renewed.Leaf.Raw) {
		t.Error("the renewed one is not in use")
	}
}

// One certificate that nobody renewed must not keep the renewal of another away.
func TestExpiredNeighbourDoesNotHoldUpAReload(t *testing.T) {
	ca := tlstest.NewCA(t)
	c := newClock()
	forgotten := tlstest.Signed(t, ca, devca.Request{Names: []string{"forgotten.test"}, NotAfter: c.now.Add(time.Hour)})
	options := fromFiles(t, forgotten, tlstest.Issued(t, ca, "mail.test"))
	s := serve(t, options, c)
	c.move(2 * time.Hour)
	renewed := tlstest.Issued(t, ca, "mail.test")
	replace(t, options.Certificates[1], renewed)
	reload(t, s, true)
	if string(shown(t, s, "mail.test")) != string(renewed.Leaf.Raw) {
		t.Error("not renewed")
	}
	if w := s.Warnings(); len(w) != 1 || w[0].Reason != explain.ReasonExpired {
		t.Errorf("warnings: %v", w)
	}

	// A new one that has expired already is refused.
	replace(t, options.Certificates[0], tlstest.Signed(t, ca, devca.Request{Names: []string{"forgotten.test"}, NotAfter: c.now.Add(-time.Minute)}))
	_, err := s.Reload()
	checkCertificateError(t, err, explain.ReasonExpired)
}

// Certbot makes links to files of a new name, Kubernetes swaps a link to a directory two steps up.
func TestReloadFollowsLinks(t *testing.T) {
	ca := tlstest.NewCA(t)
	dir := t.TempDir()
	make := func(version string) tls.Certificate {
		cert := tlstest.Issued(t, ca, "mail.test")
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := devca.WritePEM(cert, filepath.Join(dir, version, "tls.crt"), filepath.Join(dir, version, "tls.key")); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	make("..1")
	link("..1", "..data")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")
	s := serve(t, ServerOptions{Certificates: []ServerCertificate{{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}}}, nil)
	reload(t, s, false)
	second := make("..2")
	reload(t, s, false)
	link("..2", "..data")
	reload(t, s, true)
	if string(shown(t, s, "mail.test")) != string(second.Leaf.Raw) {
		t.Error("the old one is in use")
	}
	third := make("..3")
	link("..3/tls.crt", "tls.crt")
	if _, err := s.Reload(); err == nil {
		t.Error("half of a renewal was taken")
	}
	link("..3/tls.key", "tls.key")
	reload(t, s, true)
	if string(shown(t, s, "mail.test")) != string(third.Leaf.Raw) {
		t.Error("the old one is in use")
	}
}

// Every handshake succeeds, with a certificate and a key that belong together, whatever is going
// on.
func TestReloadUnderHandshakes(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := fromFiles(t, tlstest.Issued(t, ca, "mail.test"), tlstest.Issued(t, ca, "other.test"))
	options.Tickets.Rotation = minRotation
	c := newClock()
	s := serve(t, options, c)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 3 {
		wg.Go(func() {
			name := []string{"mail.test", "other.test", "mail.test"}[i]
			config := trusting(ca, name)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for {
				select {
				case <-done:
					return
				default:
				}
				if m := tlstest.Meet(t, config, s.Config()); m.ClientErr != nil || m.ServerErr != nil {
					t.Error(m.ClientErr, m.ServerErr)
					return
				}
			}
		})
	}
	for i := range 30 {
		replace(t, options.Certificates[i%2], tlstest.Issued(t, ca, []string{"mail.test", "other.test"}[i%2]))
		reload(t, s, true)
		c.move(minRotation + time.Second)
		s.Warnings()
		s.Certificates()
	}
	close(done)
	wg.Wait()
}

func TestWritePEM(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	one := filepath.Join(t.TempDir(), "one.pem")
	if err := devca.WritePEM(cert, one, one); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(one)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := NewServer(ServerOptions{Certificates: []ServerCertificate{{CertFile: one}}}); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := devca.WritePEM(cert, filepath.Join(dir, "no", "cert.pem"), filepath.Join(dir, "key.pem")); err == nil {
		t.Error("wrote into a folder that isn't there")
	}
	if err := devca.WritePEM(cert, dir, filepath.Join(dir, "key.pem")); err == nil {
		t.Error("wrote over a folder")
	}
	if err := devca.WritePEM(tls.Certificate{}, one, one); err == nil {
		t.Error("wrote nothing")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "*.pem.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
