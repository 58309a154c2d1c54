package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Listener is one address on which a Server listens. Server.Listen makes it.
type Listener struct {
	server    *Server
	port      *prepared
	network   string
	address   net.Addr
	datagrams bool
	file      *unixFile // of a Unix socket

	sockets    []*socket.Socket     // one, or with ReusePort one on each loop
	coroutines []*runtime.Coroutine // that accept; guarded by the server's mu
	turn       atomic.Uint32        // of the workers
}

// Listen listens on an address with Config.Port. network is "tcp", "tcp4", "tcp6", the same with
// TLS from the start as "tls", "tls4", "tls6", or "unix", or for datagrams "udp", "udp4", "udp6",
// "unixgram". address is "host:port" with a numeric host or "localhost" (empty: all), where port 0
// has the kernel choose (Addr tells), or the path of a Unix socket. A stale file of a Unix socket,
// on which nobody listens any more, is replaced.
//
// The kernel completes connections from now on; they are served when Serve runs. ctx carries the
// runtime: Listen is called in a coroutine, or with a context that comes from Runtime.Context.
func (s *Server) Listen(ctx context.Context, network, address string) (*Listener, error) {
	return s.ListenPort(ctx, network, address, s.config.Port)
}

// ListenPort is Listen with a Port of the listener's own.
func (s *Server) ListenPort(
	ctx context.Context,
	network, address string,
	port Port,
) (*Listener, error) {
	transport, secure := network, false
	if version, ok := strings.CutPrefix(network, "tls"); ok {
		transport, secure = "tcp"+version, true
	}
	l, err := s.newListener(ctx, transport, secure, port)
	if err != nil {
		return nil, err
	}
	if err := l.listen(ctx, address); err != nil {
		return nil, fmt.Errorf("server: listen on %s %s: %w", network, address, err)
	}
	return l, s.add(l)
}

// ListenFile is ListenPort for a listening socket, or a bound one for datagrams, that was made
// elsewhere: inherited from systemd (see Inherited) or from a predecessor. The file may be closed
// afterwards. secure has connections begin with TLS.
func (s *Server) ListenFile(
	ctx context.Context,
	file *os.File,
	secure bool,
	port Port,
) (*Listener, error) {
	adopted, err := socket.Adopt(ctx, file)
	if err != nil {
		return nil, err
	}
	l, err := s.newListener(ctx, adopted.Network(), secure, port)
	if err == nil && !l.datagrams && !adopted.Listening() {
		err = errors.New("server: the socket doesn't listen")
	}
	if err == nil {
		err = l.port.apply(adopted, l.tcp())
	}
	if err != nil {
		adopted.Abort()
		return nil, err
	}
	l.sockets = []*socket.Socket{adopted}
	l.address = adopted.LocalAddr()
	return l, s.add(l)
}

func (l *Listener) tcp() bool  { return strings.HasPrefix(l.network, "tcp") }
func (l *Listener) unix() bool { return strings.HasPrefix(l.network, "unix") }

func (s *Server) newListener(
	ctx context.Context,
	network string,
	secure bool,
	port Port,
) (*Listener, error) {
	if _, err := s.join(ctx); err != nil {
		return nil, err
	}
	l := &Listener{
		server:    s,
		network:   network,
		datagrams: strings.HasPrefix(network, "udp") || network == "unixgram",
	}
	var err error
	if l.port, err = port.prepare(l.datagrams, secure); err == nil {
		l.port.limits.Backlog = &s.backlog
		step := min(
			stepFor(l.port.IdleTimeout),
			stepFor(l.port.Lifetime),
			stepFor(l.port.HandshakeTimeout),
		)
		s.onWorkers(func(w *worker) { w.wheel.refine(ticks(step)) })
	}
	return l, err
}

// add has the server know the listener, and begins to accept if it serves already.
func (s *Server) add(l *Listener) error {
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		l.discard()
		return ErrShutdown
	}
	s.listeners = append(s.listeners, l)
	serving := s.serving
	if serving {
		s.running += len(l.sockets)
	}
	s.mu.Unlock()
	if serving {
		l.start()
	}
	return nil
}

// listen makes the sockets.
func (l *Listener) listen(ctx context.Context, address string) error {
	if l.unix() {
		unlock, err := lockFolder(ctx, address)
		if err != nil {
			return err
		}
		defer unlock() // when it listens
		if err := clearStale(l.network, address); err != nil {
			return err
		}
	}
	if !l.port.ReusePort {
		s, err := l.bind(ctx, address)
		if err != nil {
			return err
		}
		l.sockets = []*socket.Socket{s}
		return nil
	}
	if l.unix() {
		return errors.New("ReusePort is not for Unix sockets")
	}
	for _, w := range l.server.workers {
		s, err := l.bindOn(w, address)
		if err != nil {
			l.discard()
			return err
		}
		l.sockets = append(l.sockets, s)
		address = l.address.String() // the port that the kernel has chosen
	}
	return nil
}

// bind makes one socket, on the caller's loop.
func (l *Listener) bind(ctx context.Context, address string) (*socket.Socket, error) {
	s, err := socket.New(l.network)
	if err != nil {
		return nil, err
	}
	if err = l.port.apply(s, l.tcp()); err == nil && l.port.ReusePort {
		err = s.SetReusePort(true)
	}
	if err == nil {
		err = s.Bind(ctx, address)
	}
	if err == nil && l.unix() {
		l.file, err = keepUnixFile(address, l.port.Mode) // before Listen: nobody can connect yet
	}
	if err == nil && !l.datagrams {
		err = s.Listen(l.port.Backlog)
	}
	if err != nil {
		l.file.remove()
		s.Abort()
		return nil, err
	}
	l.address = s.LocalAddr()
	return s, nil
}

// bindOn is bind on a worker's loop. Who can't wait for it, on an event loop or when the runtime
// ends, leaves no socket behind.
func (l *Listener) bindOn(w *worker, address string) (*socket.Socket, error) {
	var s *socket.Socket
	var err error
	made := runtime.NewChannel[struct{}](1)
	var settled atomic.Bool // the socket is made, or nobody waits for it: whichever comes first
	if err := w.loop.Post(func() {
		if s, err = l.bind(w.ctx, address); settled.Swap(true) && err == nil {
			s.Close()
		}
		made.Push(w.ctx, struct{}{}) // it has room
	}); err != nil {
		return nil, err
	}
	if _, waitErr := made.Pop(w.ctx); waitErr != nil {
		if settled.Swap(true) && err == nil {
			s.Close()
		}
		return nil, waitErr
	}
	return s, err
}

// Addr returns the address that the listener is bound to.
func (l *Listener) Addr() net.Addr { return l.address }

// Network returns the listener's network: "tcp" also if connections begin with TLS.
func (l *Listener) Network() string { return l.network }

// Server returns the server.
func (l *Listener) Server() *Server { return l.server }

// File returns a duplicate of the listening socket, to be handed to a successor of the process,
// which takes it with ListenFile. With ReusePort it is the first of several.
func (l *Listener) File() (*os.File, error) { return l.sockets[0].File() }

// SendTo sends a datagram from a listener for datagrams. It waits while the kernel has no room; a
// callback, which must not wait, gets runtime.ErrOnLoop then.
func (l *Listener) SendTo(ctx context.Context, p []byte, to net.Addr) (int, error) {
	for _, s := range l.sockets {
		// The one of the callback, with ReusePort: another loop may be sending on the others.
		if socket.House(s, house.Key{}).OnLoop() {
			return s.SendTo(ctx, p, to)
		}
	}
	return l.sockets[0].SendTo(ctx, p, to)
}

// start begins to accept, or to receive. The coroutines for that are counted already.
func (l *Listener) start() {
	s := l.server
	s.watch(l.port.Certificates)
	for _, listening := range l.sockets {
		run := l.accept
		if l.datagrams {
			run = l.receive
		}
		var start func()
		start = func() {
			co, err := runtime.Go(s.rt.Context(), func(ctx context.Context) {
				returned := false
				defer func() {
					if returned || ctx.Err() != nil || listening.Loop().Post(start) != nil {
						l.stopped()
						return
					}
					s.log.Error("server: runtime.Goexit in OnPacket; the listener goes on")
				}()
				run(ctx, listening)
				returned = true
			})
			if err != nil {
				listening.Close()
				l.stopped()
				return
			}
			s.mu.Lock()
			l.coroutines = append(l.coroutines, co)
			s.mu.Unlock()
			// By who may not have seen the coroutine. Not with the lock held: Cancel runs it.
			if s.draining.Load() {
				co.Cancel()
			}
		}
		if listening.Loop().Post(start) != nil {
			listening.Close()
			l.stopped()
		}
	}
}

// stopped follows the end of one of the listener's coroutines.
func (l *Listener) stopped() {
	s := l.server
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.checkOver()
}

// stop ends listening. What is in the backlog is still accepted, if somebody accepts.
func (l *Listener) stop() {
	l.server.mu.Lock()
	serving, coroutines := l.server.serving, l.coroutines
	l.server.mu.Unlock()
	l.file.remove()
	for _, co := range coroutines {
		co.Cancel()
	}
	if !serving || l.datagrams {
		l.discard()
	}
}

// discard closes the sockets of a listener that nobody accepts on.
func (l *Listener) discard() {
	l.file.remove()
	for _, s := range l.sockets {
		s.Close()
	}
}

// accept accepts connections until the server shuts down.
func (l *Listener) accept(ctx context.Context, listening *socket.Socket) {
	s := l.server
	var own *worker // with ReusePort: connections stay on the loop
	for _, w := range s.workers {
		if l.port.ReusePort && w.loop == listening.Loop() {
			own = w
		}
	}
	defer listening.Close()
	for !s.draining.Load() {
		in, err := socket.House(listening, house.Key{}).AcceptIncoming(ctx)
		switch {
		case err == nil:
			l.take(in, own)
		case errors.Is(err, runtime.ErrTimeout), s.draining.Load():
		case errors.Is(err, net.ErrClosed), errors.Is(err, runtime.ErrShutdown):
			return
		default:
			if !l.rest(ctx, err) {
				return
			}
		}
	}
	for { // the backlog: these clients believe that they are connected
		in, err := socket.House(listening, house.Key{}).TryAccept()
		if err != nil {
			return
		}
		l.take(in, own)
	}
}

// How long accepting rests when the machine is short of something: long enough to be no load, short
// enough for those who wait.
const acceptRest = 50 * time.Millisecond

// rest waits after an error of accept(2), and reports whether to go on. Besides those of a machine
// that is short of something there are errors of the connection's network, and of a firewall, that
// say nothing about the next connection.
func (l *Listener) rest(ctx context.Context, err error) bool {
	s := l.server
	if errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.ENOTSOCK) ||
		errors.Is(err, syscall.EOPNOTSUPP) {
		s.mu.Lock()
		s.failed = errors.Join(s.failed, err)
		s.mu.Unlock()
		s.log.Sugar().Errorf("server: %v; no longer listening on %v", err, l.address)
		return false
	}
	if now := int64(time.Since(s.began)); now > s.complain.Load() {
		s.complain.Store(now + int64(time.Minute)) // before that once is enough
		s.log.Sugar().Warnf("server: %v; connections wait in the backlog", err)
	}
	runtime.Sleep(ctx, acceptRest)
	return true
}

// take gives an accepted connection to a worker, or if that is nil to each in turn.
func (l *Listener) take(in house.Incoming, w *worker) {
	s := l.server
	admitted, told := s.admit()
	var refused error
	if !admitted {
		if refused = ErrMaxConnections; told && l.port.OnReject == nil && l.port.LastWord == nil {
			told = false
			s.leave()
		}
	}
	if !told {
		in.Drop()
		return
	}
	if w == nil {
		w = s.workers[int(l.turn.Add(1)-1)%len(s.workers)]
	}
	if w.loop.PostTask(&arrival{l, w, in, refused}) != nil {
		in.Drop()
		s.leave()
	}
}

// arrival is an accepted connection on its way to its loop.
type arrival struct {
	listener *Listener
	worker   *worker
	incoming house.Incoming
	refused  error
}

func (a *arrival) Run() { a.worker.begin(a.listener, a.incoming, a.refused) }

// packet hands a datagram to OnPacket, whose panic is logged and costs nothing else.
func (l *Listener) packet(ctx context.Context, data []byte, from net.Addr) {
	defer func() {
		if value := recover(); value != nil {
			home, _ := socket.House(l.sockets[0], house.Key{}).Home()
			home.Loop().ReportPanic(value, debug.Stack())
		}
	}()
	l.server.datagrams.Add(1)
	l.port.OnPacket(ctx, l, data, from)
}

// largestDatagram returns how large a datagram may be: on UDP 64 KiB, on a Unix socket what the
// kernel lets a sender have queued, which is twice net.core.wmem_max (socket(7), SO_SNDBUF).
func largestDatagram(s *socket.Socket) int {
	const udp = 64 << 10
	if s.Network() != "unixgram" {
		return udp
	}
	most := 212_992 // as Linux has it from the start
	if text, err := os.ReadFile("/proc/sys/net/core/wmem_max"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			most = n
		}
	}
	return max(udp, 2*most)
}

// receive receives datagrams until the server shuts down.
func (l *Listener) receive(ctx context.Context, s *socket.Socket) {
	buf := make([]byte, largestDatagram(s))
	for {
		n, from, err := s.RecvFrom(ctx, buf)
		switch {
		case err == nil:
			l.packet(ctx, buf[:n], from)
		case errors.Is(err, net.ErrClosed), errors.Is(err, runtime.ErrShutdown):
			return
		case errors.Is(err, runtime.ErrTimeout):
		default: // ICMP's answers to what was sent, such as ECONNREFUSED
			if runtime.Sleep(ctx, time.Millisecond) != nil {
				return
			}
		}
	}
}
