package client

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
)

// DefaultMaxPacket is the largest packet that a Client takes unless its Config says otherwise: 2
// MiB, as with Swoole.
const DefaultMaxPacket = packet.DefaultMax

// Config says how a Client connects and what its packets are. The zero Config is usable: no
// framing, verified TLS.
type Config struct {
	// Framing: at most one of the three. Without any, Recv returns what there is.

	EOF    string             // packets end with this delimiter, which is part of the packet
	Length packet.LengthField // packets have a length field
	Split  bufio.SplitFunc    // packets are what it says

	// MaxPacket is the largest packet, in bytes; a larger one is packet.ErrPacketTooLarge. 0 means
	// DefaultMaxPacket, and with Split packet.DefaultSplitMax.
	MaxPacket int

	// TLS is for EnableSSL and for networks "tls", "tls4" and "tls6". nil: TLS 1.2 or later,
	// verified against the system's roots. If ServerName is empty it is the host that is dialled.
	// The configuration is copied; without a ClientSessionCache it gets one, so that sessions are
	// resumed. Renegotiation must be RenegotiateNever.
	TLS *tls.Config

	// Time-outs of whole operations. 0 means the default (see package socket: 10 s to connect, 60 s
	// to read a packet, 60 s to write, 10 s for a TLS handshake), negative none. ConnectTimeout
	// covers DNS, all addresses, and the proxy.
	ConnectTimeout, ReadTimeout, WriteTimeout, HandshakeTimeout time.Duration

	// CompactTLS has TLS 1.3 connections kept in a few hundred bytes while they are quiet.
	CompactTLS socket.CompactTLS

	// LocalAddress is the address to connect from, "host:port" or "host:0"; empty: the kernel's
	// choice.
	LocalAddress string

	// KeepAlive has TCP find out that an idle server is gone. The zero one is on, with the defaults
	// of socket.KeepAlive; Idle < 0 switches it off.
	KeepAlive socket.KeepAlive

	// Nagle has TCP gather small segments, which delays them. It is off (TCP_NODELAY is on).
	Nagle bool

	// ReceiveBuffer and SendBuffer are the sizes of the kernel's buffers, in bytes; 0 leaves them
	// to the kernel.
	ReceiveBuffer, SendBuffer int

	// Linger is how long Close goes on delivering what was sent, in the background; 0 means ten
	// seconds, negative not at all.
	Linger time.Duration

	// Proxy is what to connect through; nil: nothing.
	Proxy *Proxy

	// Resolver is who looks names up, the proxy's too; nil: net.DefaultResolver, as it is when it
	// is wanted. What it has answered is remembered for a minute, apart from what others have,
	// until a connect to all the addresses fails.
	Resolver socket.Resolver
}

// Proxy is a SOCKS5 (RFC 1928) or HTTP (CONNECT, RFC 9110) proxy. It resolves the names; it is
// spoken to in plaintext.
type Proxy struct {
	Type           string // "socks5" or "http"
	Address        string // "host:port"
	User, Password string // empty: none
}

// check returns what is wrong with the configuration.
func (c *Config) check() error {
	if p := c.Proxy; p != nil && p.Type != "socks5" && p.Type != "http" {
		return fmt.Errorf("client: Config: Proxy.Type is %q, must be socks5 or http", p.Type)
	}
	if c.TLS != nil && c.TLS.Renegotiation != tls.RenegotiateNever {
		return errors.New("client: Config: TLS.Renegotiation must be RenegotiateNever: " +
			"no handshake can follow the first")
	}
	if c.MaxPacket < 0 {
		return fmt.Errorf("client: Config: MaxPacket is %d, must not be negative", c.MaxPacket)
	}
	_, err := c.framer()
	return err
}

// framer makes a Framer; nil if the configuration has none.
func (c *Config) framer() (packet.Framer, error) {
	framer, err := packet.Rule{EOF: c.EOF, Length: c.Length, Split: c.Split, Max: c.MaxPacket}.Framer()
	if err != nil {
		return nil, fmt.Errorf("client: Config: %w", err)
	}
	return framer, nil
}

// timeouts fills in the defaults.
func (c *Config) timeouts() socket.Timeouts {
	or := func(d, otherwise time.Duration) time.Duration {
		if d == 0 {
			return otherwise
		}
		return max(0, d)
	}
	return socket.Timeouts{
		Connect:   or(c.ConnectTimeout, socket.DefaultConnectTimeout),
		Read:      or(c.ReadTimeout, socket.DefaultReadTimeout),
		Write:     or(c.WriteTimeout, socket.DefaultWriteTimeout),
		Handshake: or(c.HandshakeTimeout, socket.DefaultHandshakeTimeout),

		CompactTLS: c.CompactTLS,
	}
}

// apply makes the configuration's settings on a socket that is not connected yet. Those of TCP are
// not for other sockets.
func (c *Config) apply(s *socket.Socket, tcp bool) error {
	s.SetTimeouts(c.timeouts())
	if c.Linger != 0 {
		s.SetLinger(c.Linger)
	}
	if c.LocalAddress != "" {
		if err := s.BindOnConnect(c.LocalAddress); err != nil {
			return err
		}
	}
	if c.KeepAlive.Idle >= 0 && tcp {
		if err := s.SetKeepAlive(c.KeepAlive); err != nil {
			return err
		}
	}
	if c.Nagle && tcp {
		if err := s.SetNoDelay(false); err != nil {
			return err
		}
	}
	return s.SetBuffers(c.ReceiveBuffer, c.SendBuffer)
}
