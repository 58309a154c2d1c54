package proxy_test

import (
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/internal/proxy"
)

// negotiate is the loop around a handshake. It returns what the tunnel has already brought.
func negotiate(conn io.ReadWriter, h proxy.Handshake) (tunnel []byte, err error) {
	var buffered []byte
	chunk := make([]byte, 512)
	for {
		consumed, out, done, err := h.Next(buffered)
		buffered = buffered[consumed:]
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return nil, err
			}
		}
		if done {
			return buffered, nil
		}
		n, err := conn.Read(chunk)
		buffered = append(buffered, chunk[:n]...)
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// The mail server's greeting comes right behind the proxy's answer, and is not lost.
func ExampleHandshake() {
	conn, peer := net.Pipe()
	go func() {
		request := make([]byte, 512)
		n, _ := peer.Read(request)
		fmt.Printf("proxy got: %q\n", request[:n])
		io.WriteString(peer, "HTTP/1.1 200 Connection established\r\n\r\n220 mail.example.com ESMTP\r\n")
	}()

	h, err := proxy.NewConnect("mail.example.com:25", "", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	tunnel, err := negotiate(conn, h)
	fmt.Printf("tunnel: %q, %v\n", tunnel, err)
	// Output:
	// proxy got: "CONNECT mail.example.com:25 HTTP/1.1\r\nHost: mail.example.com:25\r\n\r\n"
	// tunnel: "220 mail.example.com ESMTP\r\n", <nil>
}
