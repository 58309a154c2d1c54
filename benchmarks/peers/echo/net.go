//go:build linux

package echo

import (
	"crypto/tls"
	"net"
	"time"
)

var netPeer = Peer{
	Name:       "net",
	Goroutines: 1,
	About:      "net, a goroutine and a buffer per connection; with TLS net + crypto/tls",
	Plain:      true,
	TLS:        true,
	Serve:      func(c Config, ready func(net.Addr)) error { return serveNet(c, ready, 0) },
}

// serveNet is the server that the standard library's users write. It wastes the time busy on each
// message.
func serveNet(c Config, ready func(net.Addr), busy time.Duration) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if c.TLS {
		config, err := c.Certificate()
		if err != nil {
			return err
		}
		l = tls.NewListener(l, config)
	}
	ready(l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			copyBack(conn, make([]byte, c.Buffer), busy)
		}()
	}
}

// copyBack doesn't call io.Copy, which would have the kernel splice the bytes: no protocol can do
// that.
func copyBack(conn net.Conn, buf []byte, busy time.Duration) {
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if busy > 0 {
			burn(busy)
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}
