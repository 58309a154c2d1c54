package tlsconfig

import (
	"crypto/tls"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// A Summary says in words what a handshake agreed on.
type Summary struct {
	Protocol    string // "TLS 1.3"; empty before the handshake
	CipherSuite string // "TLS_AES_128_GCM_SHA256"
	// The key exchange, "X25519MLKEM768"; empty where the server's RSA key was used for it.
	Group   string
	ALPN    string // the application protocol, made printable; empty if none
	Resumed bool   // the session of an earlier connection was resumed
}

// Describe returns the summary of a connection's state, for logs and examples.
func Describe(state tls.ConnectionState) Summary {
	if state.Version == 0 {
		return Summary{}
	}
	s := Summary{
		Protocol:    tls.VersionName(state.Version),
		CipherSuite: tls.CipherSuiteName(state.CipherSuite),
		ALPN:        text.Printable(state.NegotiatedProtocol, text.MaxName),
		Resumed:     state.DidResume,
	}
	if state.CurveID != 0 {
		s.Group = state.CurveID.String()
	}
	return s
}

// String returns the summary on one line, such as "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768,
// resumed".
func (s Summary) String() string {
	if s.Protocol == "" {
		return "no TLS"
	}
	parts := []string{s.Protocol, s.CipherSuite}
	if s.Group != "" {
		parts = append(parts, s.Group)
	}
	if s.ALPN != "" {
		parts = append(parts, "ALPN "+s.ALPN)
	}
	if s.Resumed {
		parts = append(parts, "resumed")
	}
	return strings.Join(parts, ", ")
}
