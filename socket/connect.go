package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
)

// Bind binds the socket to a local address: "host:port" with a numeric host or "localhost" (empty:
// all), or the path of a Unix socket, which must not exist yet; a path that begins with "@" is in
// the abstract namespace, which only Linux has: elsewhere it is EAFNOSUPPORT. Port 0 has the kernel
// choose; LocalAddr tells. SO_REUSEADDR is set. On a socket that is then connected, the address may
// also be given as "host:0".
func (s *Socket) Bind(ctx context.Context, address string) error {
	sa, family, err := s.localSockaddr(address)
	if err != nil {
		return s.fail("bind", err)
	}
	if s.conn.Load() != nil {
		err = syscall.EINVAL
		if !s.Connected() {
			err = net.ErrClosed
		}
		return s.fail("bind", err)
	}
	f, err := s.open(ctx, family)
	if err != nil {
		return s.fail("bind", err)
	}
	if err := bindTo(f.number, sa); err != nil {
		sysClose(f.number)
		return s.fail("bind", err)
	}
	if s.network.stream() {
		// It is put on the loop by Listen or Connect: until then epoll would report it as hung up.
		return s.fail("bind", s.install(f))
	}
	if err := f.register(); err != nil {
		sysClose(f.number)
		return s.fail("bind", err)
	}
	return s.fail("bind", s.install(f))
}

func bindTo(number int, sa unix.Sockaddr) error {
	if _, ok := sa.(*unix.SockaddrUnix); !ok {
		if err := unix.SetsockoptInt(number, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(number, sa))
}

// localSockaddr parses an address to bind to.
func (s *Socket) localSockaddr(address string) (unix.Sockaddr, int, error) {
	if s.network.family == unix.AF_UNIX {
		sa, err := unixSockaddr(address)
		return sa, unix.AF_UNIX, err
	}
	host, port, err := splitHostPort(s.network, address)
	if err != nil {
		return nil, 0, err
	}
	var ip netip.Addr
	switch six := s.network.family == unix.AF_INET6; {
	case host == "" && six:
		ip = netip.IPv6Unspecified()
	case host == "":
		ip = netip.IPv4Unspecified()
	case host == "localhost" && six: // RFC 6761, section 6.3: always a loopback address
		ip = netip.IPv6Loopback()
	case host == "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		if ip, err = netip.ParseAddr(host); err != nil {
			return nil, 0, addressError(codeBadHost, "not an IP address to bind to", address)
		}
	}
	if !s.network.admits(ip) {
		why := "address of another family than " + s.network.name
		return nil, 0, addressError(codeBadHost, why, address)
	}
	return inetSockaddr(netip.AddrPortFrom(ip, port))
}

// open makes a descriptor and sets the options on it. It isn't on its loop yet.
func (s *Socket) open(ctx context.Context, family int) (*fd, error) {
	home, err := homeFor(ctx)
	if err != nil {
		return nil, err
	}
	number, err := sysSocket(family, s.network.kind)
	if err != nil {
		return nil, err
	}
	if s.network.tcp() {
		// On for every TCP socket unless an option says otherwise.
		sysSetOption(number, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	s.mu.Lock()
	var options []option
	if s.opening != nil {
		options = s.opening.options
	}
	s.mu.Unlock()
	for _, o := range options {
		if err := o.apply(number); err != nil {
			sysClose(number)
			return nil, err
		}
	}
	return newFD(number, home, s.network), nil
}

// Connect connects the socket: to "host:port", or to the path of a Unix socket. Names are looked up
// off the loop, see SetResolver, and remembered for a minute, or until none of their addresses can
// be connected to. If a name has several addresses they are tried as RFC 8305 says: IPv6 and IPv4
// in turn, each 250 ms after the one before or when that has failed, and the first connection that
// stands is taken. Timeouts.Connect bounds all of it.
//
// A socket whose Connect has failed may try again, unless it was bound. On a UDP or Unix datagram
// socket, Connect sets where Send goes.
func (s *Socket) Connect(ctx context.Context, address string) error {
	if err := sched.Begin(ctx, 0); err != nil {
		return s.fail("connect", err)
	}
	if err := s.beginConnect(address); err != nil {
		return s.fail("connect", err)
	}
	err := s.connect(ctx, address, sched.DeadlineAfter(s.timeouts.Load().Connect))
	return s.endConnect(err)
}

// beginConnect marks the socket as being connected.
func (s *Socket) beginConnect(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
		return net.ErrClosed
	case s.toOpen().connecting:
		return ErrBusy
	case s.dialed.Load() != nil:
		return ErrConnected
	}
	s.opening.connecting = true
	s.dialed.Store(same(&lastDialed, dialedAddr{s.network.name, address}))
	return nil
}

// endConnect ends what beginConnect began.
func (s *Socket) endConnect(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.opening
	o.connecting, o.attempt, o.cancelDial = false, nil, nil
	switch {
	case err != nil && s.gone:
		err = net.ErrClosed
	case err != nil && o.canceled:
		err = ErrCanceled
	}
	o.canceled = false
	if err != nil {
		err = s.fail("connect", err)
		s.dialed.Store(nil)
		return err
	}
	s.opening = nil
	return nil
}

// cancelable derives a context that Close ends, for the part of Connect that has no descriptor yet,
// or several.
func (s *Socket) cancelable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		cancel()
	}
	s.opening.cancelDial = cancel
	return ctx, cancel
}

// cancelConnect ends a Connect that has no connected descriptor yet, for Cancel, and reports
// whether one waited.
func (s *Socket) cancelConnect() bool {
	s.mu.Lock()
	var attempt *fd
	var cancel context.CancelFunc
	if o := s.opening; o != nil {
		attempt, cancel = o.attempt, o.cancelDial
		o.canceled = o.canceled || attempt == nil && cancel != nil
	}
	s.mu.Unlock()
	switch {
	case attempt != nil:
		return attempt.wr.evict(func() { attempt.wr.canceled.Store(true) })
	case cancel != nil:
		cancel()
		return true
	}
	return false
}

// try notes the descriptor that is being connected, for Close.
func (s *Socket) try(f *fd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.opening == nil {
		return net.ErrClosed
	}
	s.opening.attempt = f
	return nil
}

// dialedAddr is an address as Connect was given it; it may hold a name.
type dialedAddr struct{ network, address string }

func (a *dialedAddr) Network() string { return a.network }
func (a *dialedAddr) String() string  { return a.address }

func (s *Socket) connect(ctx context.Context, address string, deadline sched.Deadline) error {
	if s.network.family == unix.AF_UNIX {
		sa, err := unixSockaddr(address)
		if err != nil {
			return err
		}
		return s.connectOne(ctx, target{sa: sa, family: unix.AF_UNIX}, deadline)
	}
	host, port, err := splitHostPort(s.network, address)
	if err == nil && port == 0 {
		err = addressError(codeBadPort, "invalid port", address)
	}
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err == nil && s.network.admits(ip.Unmap()) {
		to, err := inetTarget(ip.Unmap(), port)
		if err != nil {
			return err
		}
		return s.connectOne(ctx, to, deadline)
	}
	if err := mayWait(ctx); err != nil {
		return err
	}
	ctx, cancel := s.cancelable(ctx)
	defer cancel() // ends the attempts that have lost
	ips, name, err := lookup(ctx, s.network, s.resolver(), host, deadline)
	if err != nil {
		return err
	}
	err = s.connectAny(ctx, ips, port, deadline)
	if name != nil && outdated(err) {
		names.forget(name)
	}
	return err
}

// connectAny connects to one of several addresses; a bound socket to the first.
func (s *Socket) connectAny(
	ctx context.Context, ips []netip.Addr, port uint16, deadline sched.Deadline,
) error {
	targets := make([]target, len(ips))
	for i, ip := range ips {
		var err error
		if targets[i], err = inetTarget(ip, port); err != nil {
			return err
		}
	}
	if len(targets) == 1 || s.conn.Load() != nil {
		return s.connectOne(ctx, targets[0], deadline)
	}
	f, err := s.race(ctx, targets, deadline)
	if err != nil {
		return err
	}
	return s.install(f)
}

// target is one address to connect to.
type target struct {
	sa     unix.Sockaddr
	family int
}

func inetTarget(ip netip.Addr, port uint16) (target, error) {
	sa, family, err := inetSockaddr(netip.AddrPortFrom(ip, port))
	return target{sa, family}, err
}

// connectOne connects to one address, with the descriptor that Bind has made or a new one.
func (s *Socket) connectOne(ctx context.Context, to target, deadline sched.Deadline) error {
	s.mu.Lock()
	s.opening.cancelDial = nil // from here on it is the descriptor that is waited for
	canceled := s.opening.canceled
	s.mu.Unlock()
	if canceled {
		return ErrCanceled
	}
	bound := s.conn.Load()
	f, err := s.dial(ctx, bound, to, deadline, s.try)
	if err != nil || bound != nil {
		return err
	}
	return s.install(f)
}

// attemptDelay is how long an attempt has before the next address is tried beside it (RFC 8305,
// section 5).
const attemptDelay = 250 * time.Millisecond

// race connects to the first address that answers.
func (s *Socket) race(ctx context.Context, targets []target, deadline sched.Deadline) (*fd, error) {
	type outcome struct {
		f     *fd
		err   error
		which int // of the targets
	}
	outcomes := runtime.NewChannel[outcome](len(targets))
	failures := make([]error, len(targets))
	started, pending := 0, 0
	for {
		if started < len(targets) {
			which, to := started, targets[started]
			started++
			_, err := runtime.Go(ctx, func(ctx context.Context) {
				f, err := s.dial(ctx, nil, to, deadline, nil)
				if outcomes.Push(context.WithoutCancel(ctx), outcome{f, err, which}) != nil &&
					f != nil {
					f.close() // too late
				}
			})
			if err != nil {
				failures[which] = err
			} else {
				pending++
			}
		}
		if pending == 0 {
			if started < len(targets) {
				continue
			}
			return nil, failures[0] // the most telling: that of the address that was preferred
		}
		var delay time.Duration
		if started < len(targets) {
			delay = attemptDelay
		}
		o, err := outcomes.PopTimeout(ctx, delay)
		switch {
		case errors.Is(err, runtime.ErrChannelTimeout):
			continue // try the next address too
		case err == nil && o.err != nil:
			pending--
			failures[o.which] = o.err
			continue
		}
		outcomes.Close()
		rest := context.WithoutCancel(ctx) // with one that is done Pop would leave them there
		for late, popErr := outcomes.Pop(rest); popErr == nil; late, popErr = outcomes.Pop(rest) {
			if late.f != nil {
				late.f.close()
			}
		}
		return o.f, err
	}
}

// dial connects one descriptor and returns it; a new one if f is nil, which note, if not nil, is
// told of before. With an error a new one is closed.
func (s *Socket) dial(
	ctx context.Context,
	f *fd,
	to target,
	deadline sched.Deadline,
	note func(*fd) error,
) (*fd, error) {
	const selfConnects = 3
	for try := 1; ; try++ {
		fresh := f == nil
		g := f
		if fresh {
			var err error
			if g, err = s.open(ctx, to.family); err != nil {
				return nil, err
			}
			err = s.bindBefore(g)
			if err == nil && note != nil {
				err = note(g)
			}
			if err != nil {
				sysClose(g.number)
				return nil, err
			}
		}
		err := g.connect(ctx, to.sa, deadline)
		if err == nil && fresh && s.network.tcp() && connectedToItself(g.number, to.sa) {
			g.close()
			if try < selfConnects {
				continue
			}
			return nil, callError("connect", syscall.ECONNREFUSED) // nobody listens there
		}
		if err != nil && fresh {
			g.close()
		}
		return g, err
	}
}

// connect connects a descriptor that isn't on its loop yet, or is bound.
func (f *fd) connect(ctx context.Context, to unix.Sockaddr, deadline sched.Deadline) error {
	if err := f.acquire(both); err != nil {
		return err
	}
	defer f.leave(both)
	errno := sysConnect(f.number, to)
	if errno == syscall.EISCONN {
		return ErrConnected
	}
	if errno == syscall.EINPROGRESS && loopback(to) {
		if err := mayWait(ctx); err != nil {
			return err
		}
		errno = sysConnected(f.number, to) // the other end has answered within the first call
	}
	for {
		pending := errno == syscall.EINPROGRESS || errno == syscall.EALREADY ||
			errno == syscall.EINTR
		if errno != 0 && errno != syscall.EISCONN && !pending {
			return callError("connect", errno)
		}
		if !f.registered {
			if err := f.register(); err != nil {
				return err
			}
		}
		if !pending {
			f.rd.drained = f.stream // what comes now is an edge; a datagram may be there already
			return nil
		}
		if err := f.wait(ctx, &f.wr, reasonConnect, deadline); err != nil {
			return err
		}
		errno = sysConnected(f.number, to)
	}
}

// mayWait returns runtime.ErrOnLoop to who must not wait, so that he is also told where it just
// happens not to be necessary.
func mayWait(ctx context.Context) error {
	w, err := sched.Enter(ctx)
	if err == nil {
		w.Leave()
	}
	return err
}

// loopback reports whether an address is one of this host for sure, so that TCP's handshake with it
// needs no waiting.
func loopback(to unix.Sockaddr) bool {
	ip := addrPortOf(to).Addr().Unmap()
	return ip.IsLoopback() || ip.IsUnspecified()
}

// connectedToItself reports whether the kernel has joined the socket, which was to be connected to
// that address, with itself. TCP allows it (simultaneous open), and it happens when the port that
// is dialled has no listener and is chosen as the local port.
func connectedToItself(number int, to unix.Sockaddr) bool {
	if port, ok := sysLocalPort(number); !ok || port != addrPortOf(to).Port() {
		return false // nearly always
	}
	local, err1 := unix.Getsockname(number)
	remote, err2 := unix.Getpeername(number)
	return err1 == nil && err2 == nil && addrPortOf(local) == addrPortOf(remote)
}

// bindBefore binds a new descriptor to the address that BindBeforeConnect has set.
func (s *Socket) bindBefore(f *fd) error {
	s.mu.Lock()
	address := ""
	if s.opening != nil {
		address = s.opening.bound
	}
	s.mu.Unlock()
	if address == "" {
		return nil
	}
	sa, _, err := s.localSockaddr(address)
	if err != nil {
		return err
	}
	if s.network.tcp() {
		setBindNoPort(f.number)
	}
	return bindTo(f.number, sa)
}

// BindOnConnect sets the local address that each descriptor is bound to when Connect makes it:
// "host:0", "host:port" or a path. Unlike after Bind, several addresses of the peer can be tried.
// With port 0 the kernel chooses the port when it connects, so that one address serves for far more
// connections than it has ports (IP_BIND_ADDRESS_NO_PORT; on Linux only).
func (s *Socket) BindOnConnect(address string) error {
	if _, _, err := s.localSockaddr(address); err != nil {
		return s.fail("bind", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toOpen().bound = address
	return nil
}

// Loop returns the loop that the socket is on, nil if it is on none.
func (s *Socket) Loop() runtime.Loop {
	if f := s.conn.Load(); f != nil {
		return f.home.Loop()
	}
	return nil
}
