package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/callback"
	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/proxyproto"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
)

// Config is the configuration of a Server: what its listeners do unless they are given a Port of
// their own, and the limits of all of them together.
type Config struct {
	Port

	// MaxConnections is how many connections there may be at a time; further ones are closed when
	// they are accepted, see Port.LastWord. 0 means as many as the process may have file
	// descriptors, less 64 (RLIMIT_NOFILE).
	MaxConnections int

	// MaxPerAddress is how many connections there may be at a time from one IP address, the
	// client's own behind a proxy; 0: any number. Addresses of IPv6 whose first AddressPrefix bits
	// agree are one, as whoever has one has all of them; 0 means 64.
	MaxPerAddress, AddressPrefix int

	// MaxLingering is how many connections that were closed may still deliver what was sent, see
	// Port.Linger. They count for MaxConnections and MaxPerAddress, too. Beyond it the one whose
	// client has taken nothing for the longest is reset, of the oldest. 0 means a quarter of
	// MaxConnections, and 1024 at most.
	MaxLingering int

	// MaxLingeringBytes is how many bytes those may have queued in all, beside what the kernel has;
	// beyond it the same one is reset. Each loop has its share of it, and may exceed it by one
	// connection's queue, see Port.MaxQueue; a queue may take up to twice the room that it needs. 0
	// means 256 MiB.
	MaxLingeringBytes int

	// MaxHandshakes is how many TLS handshakes may compute at a time; further ones wait, within
	// Port.HandshakeTimeout, and cost no stack and no buffer meanwhile. Those that wait for their
	// client don't count, but cost memory: there may be eight times as many, beyond which the one
	// that has waited for the longest is ended, with ErrSilent. 0 means 1024.
	MaxHandshakes int

	// ReloadOnHangup has SIGHUP reload the files of Port.Certificates, beside their being watched.
	ReloadOnHangup bool

	// Logger is told of what nobody else is: failing accepts, certificates that can't be reloaded.
	// nil: the runtime's.
	Logger *zap.Logger
}

// Port is the configuration of a listener: what happens on its connections, as Swoole's
// Server\Port.
//
// Connections are served in one of two styles. With Handle, each has a coroutine with straight-line
// code. With OnReceive, packets are handed to a callback, and a connection on which nothing happens
// has neither coroutine nor buffer. Callbacks run on the connection's loop, one after the other in
// the order in which things happen. They must not wait; who has to, starts a coroutine with
// runtime.Go(ctx, …). A panic in a handler or a callback ends the connection and is logged; others
// are not affected.
type Port struct {
	// Handle serves one connection. When it returns the connection is closed, which delivers what
	// was sent.
	Handle func(ctx context.Context, c *Conn)

	// OnReceive gets each packet, or without framing what there is. pkt is valid until it returns.
	OnReceive func(ctx context.Context, c *Conn, pkt []byte)

	// OnConnect is called when a connection stands: after the header of a proxy and, on "tls",
	// after the handshake. Optional, in both styles.
	OnConnect func(ctx context.Context, c *Conn)

	// OnClose is called once for each connection for which OnConnect was due, as the last of all,
	// also when the server has closed it itself. reason is nil after Close, io.EOF when the peer
	// has closed, and otherwise says why: ErrIdle, ErrLifetime, ErrStalled, ErrShutdown,
	// packet.ErrPacketTooLarge, an error of the connection, a *runtime.PanicError. Optional, in
	// both styles. With Handle it may be called before Handle returns, if something else ends the
	// connection.
	OnClose func(ctx context.Context, c *Conn, reason error)

	// OnReject is called once, instead of OnConnect and OnClose, for a connection that has ended
	// before it came to stand: a handshake has failed (*explain.HandshakeError), a proxy's header
	// was none, the client doesn't speak TLS (ErrPlaintext), said too little in HandshakeTimeout
	// (ErrSilent), or there are too many connections, in all (ErrMaxConnections) or from its
	// address (ErrMaxPerAddress). Its ID is 0. Of a flood beyond MaxConnections only a part is
	// told, see Stats.Refused for all. Optional.
	OnReject func(ctx context.Context, c *Conn, reason error)

	// LastWord returns what a client is told before it is turned away, such as "421 try again
	// later\r\n", in plaintext: with ErrMaxConnections and ErrMaxPerAddress where connections don't
	// begin with TLS, with ErrPlaintext where they do. For the latter an empty word stands for an
	// HTTP response to what looks like HTTP, and a line of text to others. It is called on a loop
	// and must not wait. Optional.
	LastWord func(c *Conn, reason error) string

	// OnBufferFull is called when more than HighWater bytes are queued for a peer that takes less
	// than it is sent, OnBufferEmpty when no more than LowWater are any more. Optional.
	OnBufferFull, OnBufferEmpty func(ctx context.Context, c *Conn)

	// OnPacket gets each datagram on "udp" and "unixgram". It runs in a coroutine of the listener;
	// as long as it waits, further datagrams wait in the kernel, or are lost. data is valid until
	// it returns. from has no name if the sender of a Unix datagram is not bound.
	OnPacket func(ctx context.Context, l *Listener, data []byte, from net.Addr)

	// Framing: at most one of the three. Without any, Recv and OnReceive get what there is.

	EOF    string             // packets end with this delimiter, which is part of the packet
	Length packet.LengthField // packets have a length field
	Split  bufio.SplitFunc    // packets are what it says

	// MaxPacket is the largest packet, in bytes; who sends a larger one is disconnected
	// (packet.ErrPacketTooLarge). 0 means packet.DefaultMax, 2 MiB, and with Split
	// packet.DefaultSplitMax, 64 KiB.
	MaxPacket int

	// Certificates are for connections on "tls", "tls4" and "tls6", which begin with the handshake,
	// and for EnableSSL on others. While the server serves it watches their files, reloads those
	// that change, renews the keys of session tickets, and logs certificates that are about to
	// expire.
	Certificates *tlsconfig.Server

	// TLS may be set instead of Certificates. Each listener takes a copy when it is made: what is
	// changed later, keys of session tickets included, has no effect on it. Certificates is for
	// what changes.
	TLS *tls.Config

	// CompactTLS has TLS 1.3 connections kept in a few hundred bytes while they are quiet.
	CompactTLS socket.CompactTLS

	// ProxyProtocol lists who may, and must, begin a connection with a PROXY protocol header
	// (version 1 or 2), which then says where the client is: IP addresses, prefixes such as
	// "10.0.0.0/8", and "unix" for all peers on a Unix socket. Others are served as they are.
	// Empty: nobody.
	ProxyProtocol []string

	// Time-outs. 0 means the default, negative none.

	// From accepting to the end of the TLS handshake, the header of a proxy included: 10 s.
	HandshakeTimeout time.Duration
	// Closes connections that have sent no packet for so long, but see Protect: none. Swoole:
	// heartbeat_idle_time.
	IdleTimeout  time.Duration
	Lifetime     time.Duration // closes connections that are so old: none
	ReadTimeout  time.Duration // of Recv, with Handle: 60 s
	WriteTimeout time.Duration // how long a peer may take nothing of what is sent: 60 s

	// MaxQueue is how many bytes may be queued for a peer that takes less than it is sent; 0 means
	// 2 MiB. HighWater and LowWater are the marks of OnBufferFull and OnBufferEmpty; 0 means 80 and
	// 20 per cent of MaxQueue.
	MaxQueue, HighWater, LowWater int

	// Linger is how long a closed connection goes on delivering, in the background, what was sent;
	// 0 means ten seconds, negative not at all.
	Linger time.Duration

	// KeepAlive has TCP find out that an idle peer is gone. The zero one is on, with the defaults
	// of socket.KeepAlive; Idle < 0 switches it off.
	KeepAlive socket.KeepAlive

	// Nagle has TCP gather small segments, which delays them.
	Nagle bool

	// ReceiveBuffer and SendBuffer are the sizes of the kernel's buffers, in bytes; 0 leaves them
	// to the kernel.
	ReceiveBuffer, SendBuffer int

	// Backlog is how many connections the kernel completes ahead; 0 means socket.DefaultBacklog.
	Backlog int

	// ReusePort has each event loop listen on a socket of its own (SO_REUSEPORT), between which the
	// kernel distributes connections by their addresses. Without it, one listener hands them to the
	// loops in turn, which is fairer to long connections; see the package comment.
	ReusePort bool

	// Mode is the mode of a Unix socket's file; 0 leaves it to the umask.
	Mode fs.FileMode
}

// Defaults.
const (
	DefaultMaxHandshakes = 1024
	DefaultMaxLingering  = 1024

	DefaultMaxLingeringBytes = 256 << 20
	DefaultAddressPrefix     = 64
	DefaultMaxQueue          = callback.DefaultQueue
)

// prepared is a Port with its defaults filled in.
type prepared struct {
	Port
	limits   callback.Limits
	timeouts socket.Timeouts
	trusted  proxyproto.Trusted
	proxied  bool
	secure   bool // begins with TLS
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(0, d)
}

// prepare checks the configuration for a network.
func (p Port) prepare(datagrams, secure bool) (*prepared, error) {
	q := &prepared{Port: p, secure: secure}
	fail := func(format string, values ...any) (*prepared, error) {
		return nil, fmt.Errorf("server: Port: "+format, values...)
	}
	switch {
	case datagrams && p.OnPacket == nil:
		return fail("a datagram socket needs OnPacket")
	case !datagrams && p.Handle == nil && p.OnReceive == nil:
		return fail("neither Handle nor OnReceive is set")
	case p.Handle != nil && p.OnReceive != nil:
		return fail("Handle and OnReceive exclude each other")
	case p.Certificates != nil && p.TLS != nil:
		return fail("Certificates and TLS exclude each other")
	case secure && p.TLS == nil && p.Certificates == nil:
		return fail(`neither Certificates nor TLS is set, and "tls" needs one`)
	case p.TLS != nil && len(p.TLS.Certificates) == 0 && p.TLS.GetCertificate == nil && p.TLS.GetConfigForClient == nil:
		return fail("TLS has no certificates")
	case p.IdleTimeout > longestIdle:
		return fail("IdleTimeout is longer than %v", longestIdle)
	case p.MaxPacket < 0:
		return fail("MaxPacket must not be negative")
	}
	if _, err := q.rule().Framer(); err != nil {
		return fail("%w", err)
	}
	switch {
	case p.Certificates != nil:
		q.TLS = p.Certificates.Config()
	case p.TLS != nil:
		q.TLS = p.TLS.Clone()
	}
	var err error
	if q.trusted, err = proxyproto.ParseTrusted(p.ProxyProtocol...); err != nil {
		return fail("ProxyProtocol: %w", err)
	}
	q.proxied = len(p.ProxyProtocol) > 0
	q.HandshakeTimeout = orDefault(p.HandshakeTimeout, socket.DefaultHandshakeTimeout)
	q.IdleTimeout, q.Lifetime = max(0, p.IdleTimeout), max(0, p.Lifetime)
	q.WriteTimeout = orDefault(p.WriteTimeout, socket.DefaultWriteTimeout)
	q.timeouts = socket.Timeouts{
		Read:      orDefault(p.ReadTimeout, socket.DefaultReadTimeout),
		Write:     q.WriteTimeout,
		Handshake: q.HandshakeTimeout,

		CompactTLS: p.CompactTLS,
	}
	if q.TLS != nil && p.CompactTLS.After > 0 {
		q.TLS = compact.Config(q.TLS)
	}
	if q.limits, err = callback.NewLimits(p.MaxQueue, p.HighWater, p.LowWater, q.WriteTimeout); err != nil {
		return fail("%w", err)
	}
	return q, nil
}

func (q *prepared) rule() packet.Rule {
	return packet.Rule{EOF: q.EOF, Length: q.Length, Split: q.Split, Max: q.MaxPacket}
}

// apply makes the settings on a listening socket; what is accepted inherits them.
func (q *prepared) apply(s *socket.Socket, tcp bool) error {
	s.SetTimeouts(q.timeouts)
	if q.Linger != 0 {
		s.SetLinger(q.Linger)
	}
	var err error
	if tcp {
		if q.KeepAlive.Idle >= 0 {
			err = s.SetKeepAlive(q.KeepAlive)
		}
		// A socket that was made elsewhere doesn't have it.
		err = errors.Join(err, s.SetNoDelay(!q.Nagle))
	}
	return errors.Join(err, s.SetBuffers(q.ReceiveBuffer, q.SendBuffer))
}
