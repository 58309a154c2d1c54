package stream

import (
	"crypto/tls"
	"net"
	"strings"
)

// MetaData is what stream_get_meta_data tells of a stream.
type MetaData struct {
	TimedOut    bool // the last operation has waited in vain until its time-out
	Blocked     bool // the stream is blocking
	EOF         bool // nothing more will come: the peer has closed, or the connection has failed
	UnreadBytes int  // that the last operation has read ahead or decrypted
	// "tcp_socket", "udp_socket", "unix_socket", "udg_socket" or "generic_socket"; with TLS on,
	// "/ssl" behind it.
	StreamType string
	// That the stream was made with; empty for one that was accepted, and for a pair.
	URI    string
	Crypto *Crypto
}

// Crypto is what the handshake of a stream has agreed on.
type Crypto struct {
	Protocol string // "TLSv1.3"
	// OpenSSL's, as PHP has them: "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256".
	CipherName    string
	CipherBits    int
	CipherVersion string // that first had the cipher
	ALPN          string // "" for none
}

// GetMetaData tells the state of the stream. It doesn't wait, and may be called at any time. Crypto
// is nil without TLS.
func (s *Stream) GetMetaData() MetaData {
	m := MetaData{
		TimedOut:    s.timedOut.Load(),
		Blocked:     !s.nonblocking.Load(),
		EOF:         s.eof.Load(),
		UnreadBytes: int(s.unread.Load()),
		URI:         s.uri,
		StreamType:  "generic_socket",
	}
	if !s.paired {
		name := s.url.name
		if s.url.network == "tcp" {
			name = "tcp"
		}
		m.StreamType = name + "_socket"
	}
	if state, ok := s.socket.ConnectionState(); ok {
		m.StreamType += "/ssl"
		m.Crypto = cryptoOf(state)
	}
	return m
}

// EOF reports whether nothing more will come, as an operation that receives has found out; PHP's
// feof.
func (s *Stream) EOF() bool { return s.eof.Load() }

// GetName returns the stream's own address or, with remote, the peer's: "127.0.0.1:80", "[::1]:80",
// or the path of a Unix socket. It is empty if there is none.
func (s *Stream) GetName(remote bool) string {
	var a net.Addr
	if remote {
		a = s.socket.RemoteAddr()
	} else {
		a = s.socket.LocalAddr()
	}
	return streamName(a)
}

func cryptoOf(state tls.ConnectionState) *Crypto {
	name := tls.CipherSuiteName(state.CipherSuite)
	c := &Crypto{
		Protocol: strings.TrimSuffix(
			strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1),
			".0",
		),
		CipherName: cipherNames.Replace(name),
		CipherBits: 256,
		ALPN:       state.NegotiatedProtocol,
	}
	switch {
	case state.Version == tls.VersionTLS13:
		c.CipherName, c.CipherVersion = name, "TLSv1.3"
	case strings.HasSuffix(name, "_SHA256"), strings.HasSuffix(name, "_SHA384"):
		c.CipherVersion = "TLSv1.2"
	case strings.HasPrefix(name, "TLS_ECDHE"):
		c.CipherVersion = "TLSv1.0"
	default:
		c.CipherVersion = "SSLv3"
	}
	switch {
	case strings.Contains(name, "_128"):
		c.CipherBits = 128
	case strings.Contains(name, "3DES"):
		c.CipherBits = 112
	}
	return c
}

// cipherNames makes OpenSSL's names, up to TLS 1.2, of those of the IANA.
var cipherNames = strings.NewReplacer(
	"TLS_RSA_WITH_",
	"",
	"TLS_",
	"",
	"_WITH_",
	"-",
	"AES_",
	"AES",
	"3DES_EDE_CBC",
	"DES-CBC3",
	"_CBC_",
	"-",
	"RC4_128",
	"RC4",
	"POLY1305_SHA256",
	"POLY1305",
	"_",
	"-",
)
