//go:build linux

// Package farside is the other side for the clients that are compared, in a process of its own: the same program for all of them, as plain as can be, so that
// nothing depends on it.
package farside

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Config says what the other side does. It is sent to its process, so it holds plain values only.
type Config struct {
	Does Role
	TLS  bool
	// Cert and Key are PEM.
	Cert, Key string
	Size      int // of a packet, in bytes, for EOF and Length
	// Spin keeps an Echo in plaintext awake for a while when nothing comes, so that the client doesn't pay for waking it; see load.Options. That needs a CPU of its own.
	Spin bool
}

// Role is what the other side does with a connection.
type Role string

const (
	Echo   Role = "echo"   // sends back what comes
	EOF    Role = "eof"    // sends packets of Size bytes that end with CR LF for as long as it can
	Length Role = "length" // sends packets of Size bytes that begin with the length of the rest, in 32 bits, big-endian
	Hello  Role = "hello"  // sends one byte, which brings a TLS client its session, and waits until the client has gone
	Sink   Role = "sink"   // reads
)

// room is how much is read and written at a time, in bytes.
const room = 64 << 10

// Serve does what a Config in JSON says. It calls ready once connections are accepted.
func Serve(text []byte, ready func(net.Addr)) error {
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("farside: configuration: %w", err)
	}
	if c.Does == Echo && !c.TLS {
		return serveEcho(c.Spin, ready)
	}
	handle, err := c.handler()
	if err != nil {
		return err
	}
	var config *tls.Config
	if c.TLS {
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
		if err != nil {
			return fmt.Errorf("farside: %w", err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	listeners, err := listenAll(func(at *net.TCPAddr) (net.Listener, error) { return net.ListenTCP("tcp", at) })
	if err != nil {
		return err
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- accept(l, config, handle) }()
	}
	ready(listeners[0].Addr())
	return <-ended
}

// PerAddress is how many connections a client makes to one address, fewer than there are ports by default (32768 to 60999). Further ones go to the same port of the
// addresses that follow, up to addresses of them; see Address.
const (
	PerAddress = 20_000
	addresses  = 8
)

// Address is where a client's nth connection goes, if the first one goes to addr, which is of IPv4.
func Address(addr string, n int) (string, error) {
	first, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", fmt.Errorf("farside: %w", err)
	}
	if !first.Addr().Is4() {
		return "", fmt.Errorf("farside: %q is no address of IPv4", addr)
	}
	ip := first.Addr().As4()
	ip[3] += byte(n / PerAddress)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), first.Port()).String(), nil
}

// listenAll listens on one port of all the addresses. The first listener gets a free port, which another process may have on one of the other addresses: it then fails.
func listenAll[L interface{ Addr() net.Addr }](listen func(at *net.TCPAddr) (L, error)) (all []L, err error) {
	port := 0
	for i := range addresses {
		l, err := listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i)), Port: port})
		if err != nil {
			return nil, err
		}
		all = append(all, l)
		port = l.Addr().(*net.TCPAddr).Port
	}
	return all, nil
}

func accept(l net.Listener, config *tls.Config, handle func(net.Conn) error) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			if config != nil {
				conn = tls.Server(conn, config)
			}
			defer conn.Close()
			handle(conn) // It ends when the client leaves.
		}()
	}
}

func (c *Config) handler() (func(net.Conn) error, error) {
	switch c.Does {
	case EOF:
		packet := append(bytes.Repeat([]byte{'x'}, c.Size-2), "\r\n"...)
		return flood(packet), nil
	case Length:
		packet := binary.BigEndian.AppendUint32(nil, uint32(c.Size-4))
		return flood(append(packet, make([]byte, c.Size-4)...)), nil
	case Echo:
		return echo, nil
	case Hello:
		return hello, nil
	case Sink:
		return sink, nil
	}
	return nil, fmt.Errorf("farside: %q is nothing that it can do", c.Does)
}

// flood writes whole packets, many at a time.
func flood(packet []byte) func(net.Conn) error {
	packets := bytes.Repeat(packet, max(1, room/len(packet)))
	return func(conn net.Conn) error {
		for {
			if _, err := conn.Write(packets); err != nil {
				return err
			}
		}
	}
}

func echo(conn net.Conn) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

func hello(conn net.Conn) error {
	_, err := conn.Write([]byte{'!'})
	return errors.Join(err, sink(conn))
}

func sink(conn net.Conn) error {
	buf := make([]byte, room)
	for {
		if _, err := conn.Read(buf); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
