package tlsconfig

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/verify"
)

// A clientPolicy says which certificates of clients a server takes.
type clientPolicy struct {
	mode        ClientCerts
	authorities []*x509.Certificate
	depth       int // 0: no limit
	selfSigned  bool
	pins        []verify.Pin
}

// clientPolicy returns the policy without its authorities.
func (o *ServerOptions) clientPolicy() (clientPolicy, error) {
	p := clientPolicy{
		mode:       o.ClientCerts,
		depth:      o.ClientVerifyDepth,
		selfSigned: o.AllowSelfSignedClients,
	}
	authorities := len(o.ClientCAFiles)+len(o.ClientCADirs)+len(o.ClientCAPEM) > 0
	switch {
	case p.mode < ClientCertsNone || p.mode > ClientCertsRequire:
		return p, &OptionError{
			"ClientCerts",
			errors.New("want ClientCertsNone, ClientCertsRequest or ClientCertsRequire"),
		}
	case p.mode == ClientCertsNone && (authorities || p.depth != 0 || p.selfSigned || len(o.ClientFingerprints) > 0):
		return p, &OptionError{
			"ClientCerts",
			errors.New("is ClientCertsNone, and yet there are rules for certificates of clients: " +
				"set ClientCertsRequest or ClientCertsRequire"),
		}
	case p.mode != ClientCertsNone && !authorities:
		return p, &OptionError{
			"ClientCerts",
			errors.New(
				"there is nothing to verify certificates by: set ClientCAFiles, ClientCADirs or ClientCAPEM",
			),
		}
	case p.depth < 0:
		return p, &OptionError{"ClientVerifyDepth", errors.New("is negative")}
	case len(o.ClientFingerprints) > 0 && p.mode != ClientCertsRequire:
		return p, &OptionError{"ClientFingerprints", errors.New("needs ClientCertsRequire")}
	}
	var err error
	p.pins, err = parsePins("ClientFingerprints", o.ClientFingerprints)
	return p, err
}

// apply sets the policy in a configuration.
func (p clientPolicy) apply(config *tls.Config) {
	if p.mode == ClientCertsNone {
		return
	}
	required := p.mode == ClientCertsRequire
	config.ClientCAs = poolOf(p.authorities)
	switch {
	case p.selfSigned && required: // crypto/tls would refuse them: verify takes over
		config.ClientAuth = tls.RequireAnyClientCert
	case p.selfSigned:
		config.ClientAuth = tls.RequestClientCert
	case required:
		config.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if !p.selfSigned && p.depth == 0 && len(p.pins) == 0 {
		return
	}
	config.VerifyConnection = func(state tls.ConnectionState) error { return p.verify(state, config.ClientCAs, config.Time) }
}

// verify checks what crypto/tls doesn't. It runs on connections that resume a session as well.
func (p clientPolicy) verify(
	state tls.ConnectionState,
	roots *x509.CertPool,
	now func() time.Time,
) (err error) {
	if len(state.PeerCertificates) == 0 {
		return nil // crypto/tls has seen to it where one is required
	}
	if p.selfSigned {
		check := verify.Verifier{Roots: roots, Now: now, AcceptSelfSigned: true, Client: true}
		if state.VerifiedChains, err = check.Verify(state); err != nil {
			return err
		}
	}
	if p.depth > 0 {
		if err := verify.CheckDepth(state, p.depth); err != nil {
			return err
		}
	}
	if len(p.pins) > 0 {
		return verify.CheckPins(state, p.pins)
	}
	return nil
}

// digest returns a hash that two policies have in common only if they let in the same clients.
func (p clientPolicy) digest() (sum [sha256.Size]byte) {
	hash := sha256.New()
	var flags []byte
	flags = binary.BigEndian.AppendUint64(flags, uint64(p.mode))
	flags = binary.BigEndian.AppendUint64(flags, uint64(p.depth))
	if p.selfSigned {
		flags = append(flags, 1)
	}
	hash.Write(flags)
	// Their order says nothing, and one may be there twice.
	list := make([]string, 0, len(p.authorities)+len(p.pins))
	for _, cert := range p.authorities {
		list = append(list, "authority "+text.Fingerprint(cert.Raw))
	}
	for _, pin := range p.pins {
		list = append(list, "pin "+pin.Name+" "+string(pin.Sum))
	}
	slices.Sort(list)
	hash.Write([]byte(strings.Join(slices.Compact(list), "\n")))
	hash.Sum(sum[:0])
	return sum
}
