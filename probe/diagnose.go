package probe

import (
	"context"
	"crypto/tls"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// diagnose finds out why the first handshake has failed, by trying others. It returns the session
// of one that works, nil if none does.
func (p *prober) diagnose(ctx context.Context, s *session, err error, layer string) *session {
	if layer == layerStartTLS {
		p.report.add(p.startTLSFinding(ctx, s.failure))
		return nil
	}
	e := asExplained(err)
	if e == nil {
		id, said := unreached(err)
		p.report.add(found(id, layer, "the connection for the handshake: "+said))
		return nil
	}
	switch e.Reason {
	case explain.ReasonTimeout, explain.ReasonClosed, explain.ReasonReset:
		if found := p.withLess(ctx, e); found != nil {
			return found
		}
		if e.Reason == explain.ReasonTimeout && p.protocol == nil {
			p.report.add(p.silent(ctx))
			return nil
		}
	case explain.ReasonProtocolVersion, explain.ReasonHandshakeFailure:
		p.report.add(explained(e, layer))
		return p.withMore(ctx)
	case explain.ReasonUnrecognizedName, explain.ReasonAlert:
		p.report.add(explained(e, layer))
		return p.tryNext(ctx, attempt{noSNI: true})
	case explain.ReasonNoCommonALPN:
		p.report.add(explained(e, layer))
		return p.tryNext(ctx, attempt{})
	case explain.ReasonPlaintext:
		p.plaintext(ctx, e)
		return nil
	case explain.ReasonClientCertRequired, explain.ReasonClientCertRefused:
		p.refusesClient(s, e, layer)
		if len(s.state.PeerCertificates) > 0 {
			return s // all but the answer can be found out nevertheless
		}
		return nil
	}
	p.report.add(explained(e, layer))
	return nil
}

// tryNext tries another handshake; the rest of the probe goes on with it if it works.
func (p *prober) tryNext(ctx context.Context, a attempt) *session {
	began := time.Now()
	s, err := p.shakeFirst(ctx, a)
	if err != nil {
		return nil
	}
	p.base = a
	p.report.layer(layerHandshake, Passed, a.describe()+": "+s.describe(), began)
	return s
}

// describe says in what an attempt differs from a usual one.
func (a attempt) describe() string {
	var parts []string
	switch {
	case a.lowest == tls.VersionTLS10:
		parts = append(parts, "with all versions and suites")
	case a.highest == tls.VersionTLS12:
		parts = append(parts, "without TLS 1.3")
	}
	if a.groups != nil {
		parts = append(parts, "without post-quantum groups")
	}
	if a.noSNI {
		parts = append(parts, "without SNI")
	}
	if parts == nil {
		return "without ALPN"
	}
	return strings.Join(parts, ", ")
}

// classical are the groups whose ClientHello fits into one packet.
var classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}

// withLess offers less to a server that hung up or said nothing, and says which part it was.
func (p *prober) withLess(ctx context.Context, e *explain.HandshakeError) *session {
	for _, less := range []struct {
		attempt attempt
		finding Finding
	}{
		{attempt{alpn: p.base.alpn, groups: classical},
			found(IDHelloLarge, layerHandshake, e.Detail+
				"; with a ClientHello without post-quantum groups, which is smaller, it works")},
		{attempt{alpn: p.base.alpn, groups: classical, highest: tls.VersionTLS12},
			found(IDIntolerant, layerHandshake,
				e.Detail+"; without the offer of TLS 1.3 it works")},
		{attempt{groups: classical, noSNI: true}, found(IDSNIFiltered, layerHandshake, e.Detail+
			"; without a name (SNI) it works")},
	} {
		if s := p.tryNext(ctx, less.attempt); s != nil {
			p.report.add(less.finding)
			return s
		}
		if e.Reason == explain.ReasonTimeout {
			break // each one costs the whole time-out
		}
	}
	return nil
}

// withMore offers all that crypto/tls has to a server that found nothing in common.
func (p *prober) withMore(ctx context.Context) *session {
	s := p.tryNext(ctx, anything())
	finding := &p.report.Findings[len(p.report.Findings)-1]
	if s == nil {
		if finding.ID == explain.IDParametersNone {
			finding.Evidence += "; nor is there anything among all that crypto/tls can offer, " +
				"which has no DHE, PSK, CCM, ARIA and CAMELLIA, and no signatures by SHA-1"
			finding.Mend = "Switch on suites with ECDHE that fit the server's kind of key, ECDSA " +
				"or RSA, the group X25519, and signatures by SHA-256 (for SHA-1 a stop-gap, and " +
				"unsafe, is GODEBUG=tlssha1=1 in clients of Go)."
		}
		return nil
	}
	stopGap := ""
	name := tls.CipherSuiteName(s.state.CipherSuite)
	switch {
	case s.state.Version < tls.VersionTLS12:
		stopGap = "this side's " + setting.MinVersion + " below TLS 1.2"
	case strings.Contains(name, "3DES"):
		stopGap = "GODEBUG=tls3des=1 in clients of Go"
	case strings.HasPrefix(name, "TLS_RSA_"):
		stopGap = "GODEBUG=tlsrsakex=1 in clients of Go"
	default:
		return s
	}
	finding.Evidence += "; with all that crypto/tls has it agrees on " + s.describe()
	finding.Mend = "Update the server; a stop-gap, and unsafe, is " + stopGap + "."
	return s
}

// plaintext adds what the server has said, more of it than crypto/tls keeps.
func (p *prober) plaintext(ctx context.Context, e *explain.HandshakeError) {
	finding := explained(e, layerHandshake)
	if e.ID != explain.IDPortHTTP { // it speaks first: ask again, and wait longer
		if c, err := p.connect(ctx, nil); err == nil {
			said, _ := p.recv(ctx, c, p.options.Timeout)
			c.Close()
			if len(said) > 0 {
				finding = p.spoke(said, layerHandshake)
			}
		}
	}
	p.report.add(finding)
}
