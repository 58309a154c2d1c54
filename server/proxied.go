package server

import (
	"bytes"
	"net/netip"

	"github.com/whorl-go/whorl/internal/proxyproto"
)

// Proxied is what a PROXY protocol header has said.
type Proxied struct {
	Version int  // 1 or 2
	Local   bool // a connection of the proxy's own, such as a health check

	// Source and Destination are the client's end of its connection to the proxy, and the proxy's;
	// not valid if the header told none (UNKNOWN, LOCAL) or paths of Unix sockets.
	Source, Destination netip.AddrPort

	SourcePath, DestinationPath string // of Unix sockets

	// Of version 2, if the proxy sends it.

	Authority string // the name that the client has asked for (SNI)
	ALPN      string // the protocol that client and proxy have agreed on
	UniqueID  []byte

	SSL        bool   // the client speaks TLS to the proxy
	Verified   bool   // the client has shown a certificate that the proxy has verified
	CommonName string // of the client's certificate
	Cipher     string // as OpenSSL names it
	SSLVersion string // such as "TLSv1.3"

	tlvs proxyproto.TLVs
}

// newProxied copies what a header says.
func newProxied(h proxyproto.Header) *Proxied {
	tlvs := proxyproto.TLVs(bytes.Clone(h.TLVs))
	p := &Proxied{
		Version: h.Version, Local: h.Local,
		Source: h.Source, Destination: h.Destination,
		SourcePath: h.SourcePath, DestinationPath: h.DestinationPath,
		Authority: tlvs.Text(proxyproto.TypeAuthority), ALPN: tlvs.Text(proxyproto.TypeALPN),
		tlvs: tlvs,
	}
	p.UniqueID, _ = tlvs.Get(proxyproto.TypeUniqueID)
	if ssl, ok := tlvs.SSL(); ok {
		p.SSL, p.Verified = ssl.Client&proxyproto.ClientSSL != 0, ssl.Verified()
		p.CommonName = ssl.TLVs.Text(proxyproto.TypeSSLCommonName)
		p.Cipher = ssl.TLVs.Text(proxyproto.TypeSSLCipher)
		p.SSLVersion = ssl.TLVs.Text(proxyproto.TypeSSLVersion)
	}
	return p
}

// TLV returns the value of the first TLV of a type, for instance one of a cloud provider's.
func (p *Proxied) TLV(typ byte) (value []byte, ok bool) { return p.tlvs.Get(proxyproto.Type(typ)) }
