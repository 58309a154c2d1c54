package proxyproto_test

import (
	"fmt"
	"io"
	"net"

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
		io.WriteString(proxy, "PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\nEHLO client.example\r\n")
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
	tlvs := proxyproto.TLVs("\x20\x00\x0f" + // a record of TypeSSL, of 15 bytes:
		"\x01\x00\x00\x00\x00" + // ClientSSL, and no certificate that was verified
		"\x21\x00\x07TLSv1.3") // within it a record of TypeSSLVersion
	ssl, ok := tlvs.SSL()
	fmt.Printf("%v, %q, certificate verified: %v\n", ok, ssl.TLVs.Text(proxyproto.TypeSSLVersion), ssl.Verified())
	// Output: true, "TLSv1.3", certificate verified: false
}
