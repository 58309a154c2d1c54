package hooks

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/fallback"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Dialer makes connections as net.Dialer does, on Whorl's loops. The zero Dialer is ready for use.
// The fields that it has mean what they do in net.Dialer; what it can't do has no field. It may be
// used by many at once and must not be changed meanwhile.
//
// Names are looked up off the loop and remembered for a minute, or until none of their addresses
// can be connected to; several addresses are tried as RFC 8305 says, 250 ms apart. International
// names, "bücher.example", become A-labels ("xn--bcher-kva.example") for DNS and for the server
// name of Conn.EnableSSL. With a context that is done nothing is begun.
type Dialer struct {
	// Timeout bounds a Dial, name look-up included; 0 doesn't.
	Timeout time.Duration
	// Deadline is when a Dial fails at the latest; the zero time is none.
	Deadline time.Time
	// LocalAddr is the address to dial from, of the network's type; nil leaves it to the kernel.
	LocalAddr net.Addr
	// KeepAlive is the interval of TCP's keep-alive probes: 0 means 15 seconds, negative none. It
	// counts only if KeepAliveConfig isn't enabled.
	KeepAlive time.Duration
	// KeepAliveConfig sets the probes up in detail.
	KeepAliveConfig net.KeepAliveConfig
	// Control is called with each descriptor before it is bound and connected, with the network and
	// address that were given to Dial: a name is not resolved. Its error ends the attempt. It must
	// not wait.
	Control func(network, address string, c syscall.RawConn) error
	// ControlContext is Control with the context of DialContext. If both are set, only this one is
	// called.
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	// Resolver is who looks names up; nil: net.DefaultResolver, as it is when it is wanted. What
	// each has answered is remembered apart.
	Resolver socket.Resolver

	// Runtime is whose loops a connection lives on if neither the caller, by being a coroutine, nor
	// the context says so. nil means the only one that runs in the process, and if there is none,
	// or several, the one of Default.
	Runtime *runtime.Runtime
}

// Dial is DialContext with a context that is never done.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to an address. network is "tcp", "tcp4", "tcp6", "unix" or "unixpacket" for
// a *Conn, or "udp", "udp4", "udp6" or "unixgram" for a *PacketConn; address is "host:port" or the
// path of a Unix socket. ctx bounds the dialling only, not the life of the connection. Errors are
// *net.OpError with Op "dial".
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	err := dialing.Done(ctx)
	if err == nil {
		ctx, err = fallback.Within(ctx, d.Runtime)
	}
	if err != nil {
		return nil, dialError(network, address, err)
	}
	// Two types, because others tell a stream from datagrams by what the type can do: Go's own
	// resolver, for one.
	var c *conn
	var made net.Conn
	if datagrams(network) {
		p := new(PacketConn)
		c, made = &p.conn, p
	} else {
		s := new(Conn)
		c, made = &s.conn, s
	}
	c.socket = new(socket.Socket)
	if err := d.connect(ctx, c.socket, network, address); err != nil {
		c.socket.Abort()
		return nil, dialError(network, address, err)
	}
	c.begin(network)
	if c.remote == nil { // the peer has reset the connection already
		c.remote = dialedAddr{network, address}
	}
	if !strings.HasPrefix(network, "unix") {
		host, _, _ := net.SplitHostPort(address) // was good enough for the socket
		c.host, _ = dialing.ASCII(host)
	}
	return made, nil
}

func datagrams(network string) bool {
	return strings.HasPrefix(network, "udp") || network == "unixgram"
}

// connect connects a new socket.
func (d *Dialer) connect(ctx context.Context, s *socket.Socket, network, address string) error {
	timeout, err := d.timeLeft()
	if err != nil {
		return err
	}
	network, local, err := d.localAddress(network)
	if err != nil {
		return err
	}
	if err := inner(s).Init(network); err != nil {
		return err
	}
	if !strings.HasPrefix(network, "unix") {
		if _, err := dialing.ASCIIAddress(address); err != nil {
			return err
		}
	}
	s.SetResolver(dialing.Resolver(d.Resolver, address))
	s.SetTimeouts(socket.Timeouts{Connect: timeout})
	control := d.ControlContext
	if control == nil && d.Control != nil {
		control = func(_ context.Context, network, address string, c syscall.RawConn) error {
			return d.Control(network, address, c)
		}
	}
	if control != nil {
		err := inner(s).OnOpen(
			func(number uintptr) error { return control(ctx, network, address, newDescriptor(number)) },
		)
		if err != nil {
			return err
		}
	}
	if local != "" {
		if err := s.BindOnConnect(local); err != nil {
			return err
		}
	}
	if err := s.Connect(ctx, address); err != nil || !strings.HasPrefix(network, "tcp") {
		return err
	}
	return setKeepAlive(s, keepAliveConfig(d.KeepAlive, d.KeepAliveConfig))
}

// timeLeft returns how long a Dial that begins now may take; 0 without limit.
func (d *Dialer) timeLeft() (time.Duration, error) {
	timeout := max(0, d.Timeout)
	if d.Deadline.IsZero() {
		return timeout, nil
	}
	left := time.Until(d.Deadline)
	if left <= 0 {
		return 0, runtime.ErrTimeout
	}
	if timeout == 0 || left < timeout {
		timeout = left
	}
	return timeout, nil
}

// localAddress returns the address to bind to, "" for none, and the network narrowed down to the
// address family that it is of.
func (d *Dialer) localAddress(network string) (narrowed, local string, err error) {
	if d.LocalAddr == nil {
		return network, "", nil
	}
	var ip net.IP
	switch a := d.LocalAddr.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	if base := d.LocalAddr.Network(); !strings.HasPrefix(network, base) ||
		strings.HasPrefix(base, "unix") && base != network {
		return "", "", &net.AddrError{
			Err:  "mismatched local address type",
			Addr: d.LocalAddr.String(),
		}
	}
	if network == "tcp" || network == "udp" {
		switch {
		case ip.To4() != nil:
			network += "4"
		case ip != nil:
			network += "6"
		}
	}
	return network, d.LocalAddr.String(), nil
}

// dialedAddr is an address as it was given to Dial.
type dialedAddr struct{ network, address string }

func (a dialedAddr) Network() string { return a.network }
func (a dialedAddr) String() string  { return a.address }

func dialError(network, address string, err error) error {
	if inner, ok := err.(*net.OpError); ok {
		err = inner.Err
	}
	return &net.OpError{Op: "dial", Net: network, Addr: dialedAddr{network, address}, Err: err}
}

// keepAlivePeriod and keepAliveCount are package net's defaults.
const (
	keepAlivePeriod = 15 * time.Second
	keepAliveCount  = 9
)

// keepAliveConfig returns what the two options of a Dialer or ListenConfig come to.
func keepAliveConfig(period time.Duration, config net.KeepAliveConfig) net.KeepAliveConfig {
	if config.Enable || period < 0 {
		return config
	}
	return net.KeepAliveConfig{Enable: true, Idle: period, Interval: period}
}

// setKeepAlive sets TCP's probes up. As in package net, what is 0 has a default, and what is
// negative is left as it is.
func setKeepAlive(s *socket.Socket, config net.KeepAliveConfig) error {
	on := 0
	if config.Enable {
		on = 1
	}
	if err := s.SetOption(unix.SOL_SOCKET, unix.SO_KEEPALIVE, on); err != nil || !config.Enable {
		return err
	}
	seconds := func(d time.Duration) int {
		if d == 0 {
			d = keepAlivePeriod
		}
		return int((d + time.Second - 1) / time.Second) // negative stays below 1
	}
	count := config.Count
	if count == 0 {
		count = keepAliveCount
	}
	for _, option := range [][2]int{
		{unix.TCP_KEEPIDLE, seconds(config.Idle)},
		{unix.TCP_KEEPINTVL, seconds(config.Interval)},
		{unix.TCP_KEEPCNT, count},
	} {
		if option[0] == 0 || option[1] < 1 {
			continue // OpenBSD has times for the whole system only
		}
		if err := s.SetOption(unix.IPPROTO_TCP, option[0], option[1]); err != nil {
			return err
		}
	}
	return nil
}
