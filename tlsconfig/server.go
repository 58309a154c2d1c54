package tlsconfig

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A Server is the TLS side of a listener: its certificates, what it asks of clients, and the keys
// of its session tickets. All of it can be renewed while connections are made.
//
// There is one configuration for all connections (Config), and it never changes. For each handshake
// it looks up the current state, which Reload replaces as a whole. So a handshake sees the old
// files or the new ones, never a mixture, and connections that are established notice nothing.
//
// All methods may be called concurrently. NewServer, Reload and Watch read files, so they may
// block: call them off the event loop. A handshake reads none.
type Server struct {
	options ServerOptions
	clients clientPolicy // but for the authorities, which are part of the state
	front   *tls.Config

	now         func() time.Time
	systemRoots func() (*x509.CertPool, error)

	state    atomic.Pointer[serverState]
	rotateAt atomic.Int64 // seconds of Unix time at which the ticket keys are to change

	// Held by who replaces the state or its ticket keys; a handshake never waits for it.
	mu      sync.Mutex
	tickets ticketKeys // guarded by mu
}

// A serverState is what the files said when they were read. But for its ticket keys it never
// changes.
type serverState struct {
	digest   [sha256.Size]byte // of all that was read
	config   *tls.Config       // of the connections
	certs    []*tls.Certificate
	names    nameIndex
	warnings []*CertificateError
	secret   []byte // from which ticket keys are derived, if they are
	policy   [sha256.Size]byte
}

// NewServer reads and checks all that options name. An *OptionError says what is wrong with the
// options, a *CertificateError what is wrong with a file. What only some clients would stumble over
// is in Warnings instead.
func NewServer(options ServerOptions) (*Server, error) {
	return newServer(options, time.Now, x509.SystemCertPool)
}

func newServer(
	options ServerOptions,
	now func() time.Time,
	systemRoots func() (*x509.CertPool, error),
) (*Server, error) {
	options, err := options.checked()
	if err != nil {
		return nil, err
	}
	s := &Server{
		options:     options,
		now:         now,
		systemRoots: systemRoots,
		tickets:     ticketKeys{options: options.Tickets},
	}
	if s.clients, err = options.clientPolicy(); err != nil {
		return nil, err
	}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	s.front = &tls.Config{
		MinVersion:             options.MinVersion,
		MaxVersion:             options.MaxVersion,
		NextProtos:             options.ALPN,
		SessionTicketsDisabled: options.Tickets.Off,
		Time:                   now,
		GetConfigForClient:     s.configFor,
	}
	return s, nil
}

// Config returns the configuration for every connection of a listener: the same one each time. It
// must not be modified, and there is no need to clone it. A clone works as well, but what is
// changed in it has no effect: each handshake takes its configuration from the Server.
func (s *Server) Config() *tls.Config { return s.front }

// configFor is GetConfigForClient.
//
// The name is checked here and not where the certificate is chosen, as a session that is resumed
// needs no certificate.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if s.ticketsDue() && s.mu.TryLock() { // else another one is at it
		s.renewTickets(s.state.Load())
		s.mu.Unlock()
	}
	state := s.state.Load()
	if s.options.StrictSNI && state.names.find(hello.ServerName) == nil {
		// Without certificates crypto/tls answers with the alert unrecognized_name; for an error it
		// would be internal_error.
		return &tls.Config{
			MinVersion:             s.options.MinVersion,
			MaxVersion:             s.options.MaxVersion,
			SessionTicketsDisabled: true,
		}, nil
	}
	return state.config, nil
}

// Reload reads the files again, and takes them into use if they have changed. If there is anything
// wrong with them the Server keeps what it has, all of it, and the error says what is wrong: as
// from NewServer, but for the dates of a certificate that is in use already, which are warnings.
//
// Files are compared by their contents, through links: replacing a link (as certbot and Kubernetes
// do) is a change, touching a file is none.
//
// Sessions that were made before can still be resumed, unless the policy for client certificates
// has changed.
func (s *Server) Reload() (changed bool, err error) {
	changed, _, err = s.reload()
	return changed, err
}

// reload is Reload. It returns the digest of what was read as well, zero if that failed.
func (s *Server) reload() (changed bool, digest [sha256.Size]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.options.read()
	if err != nil {
		return false, digest, err
	}
	old := s.state.Load()
	if old != nil && old.digest == m.digest {
		return false, m.digest, nil
	}
	state, err := s.build(m, old)
	if err != nil {
		return false, m.digest, err
	}
	s.renewTickets(state)
	s.state.Store(state)
	return true, m.digest, nil
}

// Warnings returns what some clients may stumble over in the certificates that are in use, as it
// was found when they were loaded. It does not tell that a certificate will run out: see Watch.
func (s *Server) Warnings() []*CertificateError { return slices.Clone(s.state.Load().warnings) }

// Certificates returns the certificates that are in use, without their intermediates, in the order
// of the options. They must not be modified.
func (s *Server) Certificates() []*x509.Certificate {
	var leaves []*x509.Certificate
	for _, cert := range s.state.Load().certs {
		leaves = append(leaves, cert.Leaf)
	}
	return leaves
}

// build makes a state of what was read. Old is the state in use, nil at first.
func (s *Server) build(m *material, old *serverState) (*serverState, error) {
	state := &serverState{digest: m.digest, secret: m.secret}
	check := checker{now: s.now(), systemRoots: s.systemRoots}
	for i, source := range s.options.Certificates {
		cert, chain, err := m.certificate(i, source)
		if err != nil {
			return nil, err
		}
		for _, problem := range check.chain(source.label(i), chain, source.Names) {
			dates := problem.Reason == explain.ReasonExpired ||
				problem.Reason == explain.ReasonNotYetValid
			switch {
			case problem.warning,
				slices.Contains(s.options.Tolerate, problem.Reason),
				dates && old.uses(cert.Leaf):
				// One that has run out meanwhile must not keep its neighbour's renewal away.
				problem.warning = true
				state.warnings = append(state.warnings, problem)
			default:
				return nil, problem
			}
		}
		state.certs = append(state.certs, cert)
		state.names.add(cert, source.Names)
	}
	clients := s.clients
	clients.authorities = m.authorities
	state.policy = clients.digest()
	state.config = &tls.Config{
		GetCertificate:         state.certificate,
		MinVersion:             s.options.MinVersion,
		MaxVersion:             s.options.MaxVersion,
		CipherSuites:           s.options.CipherSuites,
		CurvePreferences:       s.options.Groups,
		NextProtos:             s.options.ALPN,
		SessionTicketsDisabled: s.options.Tickets.Off,
		Time:                   s.now,
	}
	clients.apply(state.config)
	return state, nil
}

func (state *serverState) uses(leaf *x509.Certificate) bool {
	return state != nil &&
		slices.ContainsFunc(
			state.certs,
			func(cert *tls.Certificate) bool { return cert.Leaf.Equal(leaf) },
		)
}

// certificate is GetCertificate.
func (state *serverState) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := state.names.find(hello.ServerName)
	if candidates == nil {
		candidates = state.names.fallback
	}
	if len(candidates) > 1 { // of several kinds of keys
		unnamed := *hello
		unnamed.ServerName = "" // SupportsCertificate would look at it, and it has been decided by
		for _, cert := range candidates {
			if unnamed.SupportsCertificate(cert) == nil {
				return cert, nil
			}
		}
	}
	return candidates[0], nil
}

// A material is what was read, before it is looked at.
type material struct {
	// One for each certificate of the options; empty for one that was given ready.
	pairs       []pemPair
	authorities []*x509.Certificate
	secret      []byte
	digest      [sha256.Size]byte
}

// read reads all files.
func (o *ServerOptions) read() (*material, error) {
	m := &material{pairs: make([]pemPair, len(o.Certificates))}
	hash := sha256.New()
	add := func(data []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(data)))
		hash.Write(length[:]) // so that no two lists are the same bytes
		hash.Write(data)
	}
	for i, source := range o.Certificates {
		p := &m.pairs[i]
		*p = pemPair{
			cert:       source.CertPEM,
			key:        source.KeyPEM,
			certFile:   source.label(i),
			keyFile:    source.label(i),
			passphrase: source.Passphrase,
		}
		if source.CertFile != "" {
			p.certFile, p.keyFile = source.CertFile, source.KeyFile
			if err := p.read(); err != nil {
				return nil, err
			}
		}
		add(p.cert)
		add(p.key)
	}
	var err error
	if m.authorities, _, err = readAllAuthorities("Client", o.ClientCAFiles, o.ClientCADirs, o.ClientCAPEM); err != nil {
		return nil, err
	}
	for _, cert := range m.authorities {
		add(cert.Raw)
	}
	m.secret = o.Tickets.Secret
	if file := o.Tickets.SecretFile; file != "" {
		data, err := readFile(file)
		if err != nil {
			return nil, err
		}
		m.secret = bytes.TrimSpace(data)
		if len(m.secret) < minSecret {
			return nil, &CertificateError{
				Reason: explain.ReasonFileUnreadable, File: file, Detail: fmt.Sprintf("it has %d bytes, a secret has %d at least", len(m.secret), minSecret),
				Advice: "openssl rand -hex 32 makes one",
			}
		}
	}
	add(m.secret)
	hash.Sum(m.digest[:0])
	return m, nil
}

// certificate parses what was read for one certificate of the options, or looks at the one that was
// given ready.
func (m *material) certificate(
	i int,
	source ServerCertificate,
) (*tls.Certificate, []*x509.Certificate, error) {
	p := &m.pairs[i]
	var cert tls.Certificate
	if source.Certificate == nil {
		parsed, err := p.parse()
		if err != nil {
			return nil, nil, err
		}
		cert = parsed
	} else {
		cert = *source.Certificate
	}
	var chain []*x509.Certificate
	for j, der := range cert.Certificate {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, unreadable(p.certFile, j, err)
		}
		chain = append(chain, parsed)
	}
	if len(chain) == 0 {
		return nil, nil, &CertificateError{
			Reason: explain.ReasonUnreadableCertificate,
			File:   p.certFile,
			Detail: "the tls.Certificate has no certificate in it",
		}
	}
	cert.Leaf = chain[0]
	if source.Certificate != nil {
		key, ok := cert.PrivateKey.(crypto.Signer) // may be in another device
		if !ok {
			return nil, nil, p.keyError(
				explain.ReasonUnreadableKey,
				fmt.Sprintf("a key of type %T can't sign", cert.PrivateKey),
				"",
				nil,
			)
		}
		if err := p.matches(key, chain); err != nil {
			return nil, nil, err
		}
	}
	return &cert, chain, nil
}

var errNoCertificate = errors.New("there is none: a server needs a certificate")
