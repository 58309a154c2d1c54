package tlsconfig

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A visitor comes back with the session of its last visit.
type visitor struct {
	t      testing.TB
	config *tls.Config
}

func newVisitor(t testing.TB, ca *tlstest.CA, version uint16) *visitor {
	config := trusting(ca, "mail.test")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	config.MaxVersion = version
	return &visitor{t, config}
}

// resumes connects and reports whether the session was resumed.
func (v *visitor) resumes(s *Server) bool {
	v.t.Helper()
	m := tlstest.Meet(v.t, v.config, s.Config())
	if m.ClientErr != nil || m.ServerErr != nil {
		v.t.Fatal(m.ClientErr, m.ServerErr)
	}
	return m.Server.DidResume
}

// visits connects to one server and then to another, without a renewed ticket in between.
func (v *visitor) carries(from, to *Server) bool {
	v.t.Helper()
	v.config.ClientSessionCache.Put("mail.test", nil)
	v.resumes(from)
	return v.resumes(to)
}

func eachVersion(t *testing.T, run func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { run(t, version) })
	}
}

func TestTicketKeysRotate(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	eachVersion(t, func(t *testing.T, version uint16) {
		for name, tickets := range map[string]TicketOptions{
			"random": {Rotation: time.Hour},
			"secret": {Rotation: time.Hour, Secret: bytes.Repeat([]byte{7}, 32)},
		} {
			for _, test := range []struct {
				wait time.Duration
				want bool
			}{
				{0, true}, {50 * time.Minute, true}, {2 * time.Hour, true}, {3*time.Hour - time.Minute, true}, {5 * time.Hour, false}, {100 * time.Hour, false},
				{-30 * time.Minute, true}, // the clock is set back
			} {
				c := newClock()
				c.now = c.now.Truncate(time.Hour).Add(30 * time.Minute)
				options := ready(cert)
				options.Tickets = tickets
				s := serve(t, options, c)
				v := newVisitor(t, ca, version)
				v.resumes(s)
				for range int(test.wait / time.Hour) { // an hour at a time, as keys change when someone comes
					c.move(time.Hour)
					s.rotate()
				}
				c.move(test.wait % time.Hour)
				if got := v.resumes(s); got != test.want {
					t.Errorf("%s, after %v: resumed %t", name, test.wait, got)
				}
			}
		}
	})
}

// A key encrypts for one rotation only, even if nobody but clients is there to change it.
func TestHandshakesChangeTicketKeys(t *testing.T) {
	ca := tlstest.NewCA(t)
	c := newClock()
	s := serve(t, ready(tlstest.Issued(t, ca, "mail.test")), c)
	v := newVisitor(t, ca, tls.VersionTLS13)
	key := func() [32]byte { return s.tickets.random[0].key }
	v.resumes(s)
	first := key()
	c.move(defaultRotation - time.Minute)
	v.resumes(s)
	if key() != first {
		t.Error("changed too early")
	}
	c.move(2 * time.Minute)
	v.resumes(s)
	if key() == first {
		t.Error("not changed in time")
	}
	for range 10 {
		c.move(defaultRotation)
		v.resumes(s)
	}
	if n := len(s.tickets.random); n != 1+oldTicketKeys {
		t.Errorf("%d keys are kept", n)
	}
	for range 10 {
		c.move(-time.Hour)
		s.rotate()
	}
	if n := len(s.tickets.random); n > 1+oldTicketKeys {
		t.Errorf("%d keys are kept by a clock that is set back again and again", n)
	}
	// A clock that was wrong when the key was made must not keep it for years.
	c.move(-5 * 365 * 24 * time.Hour)
	old := key()
	s.rotate()
	if key() == old {
		t.Error("the key from the future is still in use")
	}
}

func TestTicketsBetweenServers(t *testing.T) {
	ca, clients := tlstest.NewCA(t), tlstest.NewCA(t)
	others := tlstest.NamedCA(t, "Others") // a client keeps its certificate back if the server does not name its authority
	cert := tlstest.Issued(t, ca, "mail.test")
	secret, another := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	c := newClock()
	ahead := newClock()
	ahead.now = c.now.Add(50 * time.Minute)
	with := func(c *clock, tickets TicketOptions, change func(*ServerOptions)) *Server {
		options := ready(cert)
		options.Tickets = tickets
		if change != nil {
			change(&options)
		}
		return serve(t, options, c)
	}
	hourly := TicketOptions{Secret: secret, Rotation: time.Hour}
	request := func(ca *tlstest.CA) func(*ServerOptions) {
		return func(o *ServerOptions) { o.ClientCerts, o.ClientCAPEM = ClientCertsRequest, ca.PEM() }
	}
	require := func(o *ServerOptions) { o.ClientCerts, o.ClientCAPEM = ClientCertsRequire, clients.PEM() }
	secretFile := tlstest.File(t, "secret", append(bytes.Clone(bytes.Repeat([]byte("s"), 40)), '\n'))
	keys := [][32]byte{{1}, {2}}

	eachVersion(t, func(t *testing.T, version uint16) {
		for _, test := range []struct {
			name     string
			from, to *Server
			want     bool
		}{
			{"one secret", with(c, hourly, nil), with(c, hourly, nil), true},
			{"clocks differ", with(c, hourly, nil), with(ahead, hourly, nil), true},
			{"clocks differ the other way", with(ahead, hourly, nil), with(c, hourly, nil), true},
			{"another secret", with(c, hourly, nil), with(c, TicketOptions{Secret: another, Rotation: time.Hour}, nil), false},
			{"no secret", with(c, TicketOptions{}, nil), with(c, TicketOptions{}, nil), false},
			{"secret in a file", with(c, TicketOptions{SecretFile: secretFile}, nil), with(c, TicketOptions{Secret: bytes.Repeat([]byte("s"), 40)}, nil), true},
			{"keys", with(c, TicketOptions{Keys: keys[:1]}, nil), with(c, TicketOptions{Keys: [][32]byte{{2}, {1}}}, nil), true},
			{"another key", with(c, TicketOptions{Keys: keys[:1]}, nil), with(c, TicketOptions{Keys: keys[1:]}, nil), false},
			{"off", with(c, TicketOptions{Off: true}, nil), with(c, TicketOptions{Off: true}, nil), false},
			{"one policy", with(c, hourly, request(clients)), with(c, hourly, request(clients)), true},
			{"from no policy", with(c, hourly, nil), with(c, hourly, request(clients)), false},
			{"to no policy", with(c, hourly, request(clients)), with(c, hourly, nil), false},
			{"to a stricter policy", with(c, hourly, request(clients)), with(c, hourly, require), false},
			{"to another authority", with(c, hourly, request(clients)), with(c, hourly, request(others)), false},
		} {
			v := newVisitor(t, ca, version)
			me := tlstest.Signed(t, clients, devca.Request{Names: []string{"me@client.test"}, Client: true})
			v.config.Certificates = []tls.Certificate{me}
			if got := v.carries(test.from, test.to); got != test.want {
				t.Errorf("%s: resumed %t", test.name, got)
			}
		}
	})
}

func TestSetTicketKeys(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	if err := serve(t, options, nil).SetTicketKeys([][32]byte{{1}}); err == nil {
		t.Error("keys were given to a server that makes its own")
	}
	options.Tickets.Keys = [][32]byte{{1}}
	s := serve(t, options, nil)
	v := newVisitor(t, ca, tls.VersionTLS13)
	v.resumes(s)
	for _, step := range []struct {
		keys [][32]byte
		want bool
	}{{[][32]byte{{2}, {1}}, true}, {[][32]byte{{2}}, true}, {[][32]byte{{3}}, false}} {
		if err := s.SetTicketKeys(step.keys); err != nil {
			t.Fatal(err)
		}
		if got := v.resumes(s); got != step.want {
			t.Errorf("%v: resumed %t", step.keys[0][0], got)
		}
	}
	if err := s.SetTicketKeys(nil); err == nil {
		t.Error("no keys were taken")
	}
}

// Nobody came for days, so that the old key is the last one still: it is too old nevertheless.
func TestOldTicketKeysEndByTime(t *testing.T) {
	ca := tlstest.NewCA(t)
	c := newClock()
	s := serve(t, ready(tlstest.Issued(t, ca, "mail.test")), c)
	v := newVisitor(t, ca, tls.VersionTLS13)
	v.resumes(s)
	c.move((1 + oldTicketKeys) * defaultRotation)
	if v.resumes(s) {
		t.Error("resumed")
	}
}

// A client whose certificate was accepted once must not get around a policy that has changed since.
func TestReloadEndsSessionsOfAnotherPolicy(t *testing.T) {
	ca, clients, others := tlstest.NewCA(t), tlstest.NewCA(t), tlstest.NewCA(t)
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	write(t, authorities, clients.PEM())
	certFile, keyFile := tlstest.Pair(t, tlstest.Issued(t, ca, "mail.test"))
	s := serve(t, ServerOptions{
		Certificates: []ServerCertificate{{CertFile: certFile, KeyFile: keyFile}},
		ClientCerts:  ClientCertsRequire, ClientCAFiles: []string{authorities},
		Tickets: TicketOptions{Secret: bytes.Repeat([]byte{1}, 32)},
	}, nil)
	v := newVisitor(t, ca, tls.VersionTLS13)
	v.config.Certificates = []tls.Certificate{tlstest.Signed(t, clients, devca.Request{Names: []string{"me@client.test"}, Client: true})}
	v.resumes(s)
	reload(t, s, false)
	if !v.resumes(s) {
		t.Error("a reload without a change ended the session")
	}
	chain, key, err := devca.EncodePEM(tlstest.Issued(t, ca, "mail.test"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, chain)
	write(t, keyFile, key)
	reload(t, s, true)
	if !v.resumes(s) {
		t.Error("a new certificate ended the session")
	}
	write(t, authorities, append(clients.PEM(), others.PEM()...))
	reload(t, s, true)
	if v.resumes(s) {
		t.Error("another policy, and resumed")
	}
	write(t, authorities, others.PEM())
	reload(t, s, true)
	if m := tlstest.Meet(t, v.config, s.Config()); m.ServerErr == nil {
		t.Error("a client of an authority that is no longer trusted got in by its session")
	}
}

func TestSecretFiles(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := ready(tlstest.Issued(t, ca, "mail.test"))
	options.Tickets.SecretFile = tlstest.File(t, "secret", []byte("  too short\n"))
	if _, err := NewServer(options); err == nil || !strings.Contains(err.Error(), "it has 9 bytes") {
		t.Error(err)
	}
	write(t, options.Tickets.SecretFile, bytes.Repeat([]byte("a"), 32))
	s := serve(t, options, nil)
	v := newVisitor(t, ca, tls.VersionTLS13)
	v.resumes(s)
	write(t, options.Tickets.SecretFile, bytes.Repeat([]byte("b"), 32))
	reload(t, s, true)
	if v.resumes(s) {
		t.Error("the old secret is still in use")
	}
	if !v.resumes(s) {
		t.Error("the new secret is not in use")
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload fails the test unless Reload says that.
func reload(t testing.TB, s *Server, want bool) {
	t.Helper()
	if changed, err := s.Reload(); err != nil || changed != want {
		t.Fatalf("Reload: %t, %v", changed, err)
	}
}
