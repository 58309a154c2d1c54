package proxyproto_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/whorl-go/whorl/internal/proxyproto"
)

// readHeader is the loop around Parse. It reads the header and no byte of what follows.
func readHeader(conn io.Reader) (proxyproto.Header, error) {
	var buf []byte
	for {
		n, h, err := proxyproto.Parse(buf)
		if err != nil || n > 0 {
			return h, err
		}
		missing := make([]byte, proxyproto.Want(buf)-len(buf))
		if _, err := io.ReadFull(conn, missing); err != nil {
			return h, err
		}
		buf = append(buf, missing...)
	}
}

func Example() {
	conn, proxy := net.Pipe()
	go func() {
		header, err := proxyproto.Append(nil, proxyproto.Header{
			Version: 2, Network: "tcp4",
			Source: netip.MustParseAddrPort("192.0.2.1:56324"), Destination: netip.MustParseAddrPort("198.51.100.2:25"),
		})
		if err == nil {
			proxy.Write(append(header, "EHLO client.example\r\n"...))
		}
		proxy.Close()
	}()

	h, err := readHeader(conn)
	if err != nil {
		fmt.Println(err)
		return
	}
	rest, err := io.ReadAll(conn)
	fmt.Printf("%s says to %s: %q, %v\n", h.Source, h.Destination, rest, err)
	// Output: 192.0.2.1:56324 says to 198.51.100.2:25: "EHLO client.example\r\n", <nil>
}

// A header counts only if it comes from a proxy that is known.
func ExampleTrusted() {
	trusted, err := proxyproto.ParseTrusted("10.0.0.0/8", "::1", "unix")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, peer := range []net.Addr{
		&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 40000},
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000},
		&net.UnixAddr{Name: "@", Net: "unix"},
	} {
		fmt.Println(peer, trusted.Contains(peer))
	}
	// Output:
	// 10.1.2.3:40000 true
	// 192.0.2.1:40000 false
	// @ true
}

func ExampleTLVs_SSL() {
	version, _ := proxyproto.AppendTLV(nil, proxyproto.TypeSSLVersion, []byte("TLSv1.3"))
	tlvs, _ := proxyproto.AppendTLV(nil, proxyproto.TypeSSL, proxyproto.SSL{Client: proxyproto.ClientSSL, TLVs: version}.Append(nil))

	ssl, ok := tlvs.SSL()
	fmt.Printf("%v, %q, certificate verified: %v\n", ok, ssl.TLVs.Text(proxyproto.TypeSSLVersion), ssl.Verified())
	// Output: true, "TLSv1.3", certificate verified: false
}
