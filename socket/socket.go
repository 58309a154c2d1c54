package socket

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
)

// Socket is one socket: TCP, UDP or Unix, client, listener or accepted connection. Make it with
// [New], [Pair] or [Socket.Accept].
//
// Methods may be called from any coroutine and any goroutine. At a time there may be one caller in
// an operation that receives and one in an operation that sends; a second one gets ErrBusy. Connect
// and SSLHandshake need both directions. Close, Cancel and everything that doesn't wait may be
// called at any time.
//
// An operation that times out, or whose context ends, has lost nothing that came in: the next one
// goes on from there. What a sender had sent by then is told by the count it returns. Other errors
// of the connection are final.
//
// A socket is used once: after Close it stays closed.
type Socket struct {
	// What every operation needs comes first, to lie close together.

	conn   atomic.Pointer[fd]
	secure atomic.Pointer[secure] // nil: plaintext. Set with both locks held

	// Of the receiver: guarded by the read lock of conn.
	in     input
	framer Framer

	network  *network
	timeouts atomic.Pointer[Timeouts]   // what it points to is never changed
	linger   atomic.Int64               // time.Duration
	dialed   atomic.Pointer[dialedAddr] // what Connect was asked for
	opening  *opening                   // guarded by mu; nil for most accepted sockets

	mu        sync.Mutex
	gone      bool // guarded by mu: Close was called
	accepted  bool // by a listener, or the second of a pair: the server's role in a handshake
	listening atomic.Bool
}

// opening is what only matters until a socket has its descriptor. It is apart since sockets that
// were accepted, of which there may be very many, do without.
type opening struct {
	options    []option
	connecting bool               // Connect is under way
	attempt    *fd                // that Connect waits for, if it is one
	cancelDial context.CancelFunc // ends a Connect that waits for something else
	canceled   bool               // Cancel has called cancelDial
	bound      string             // of BindOnConnect
	resolver   Resolver           // of SetResolver
}

// toOpen returns s.opening. With mu held.
func (s *Socket) toOpen() *opening {
	if s.opening == nil {
		s.opening = new(opening)
	}
	return s.opening
}

// Timeouts bound operations; zero or less is none. Connect, Read and Handshake are for the whole of
// one: a connect with all addresses and DNS, a packet, a handshake. Write is for a peer's silence:
// how long it may take nothing of what is being sent; a bound for a whole send is the context's.
type Timeouts struct {
	Connect, Read, Write, Handshake time.Duration

	CompactTLS CompactTLS
}

// CompactTLS has TLS 1.3 connections go on without crypto/tls some time after their handshake. Those
// that are quiet are kept in a few hundred bytes then, in place of the 6 to 7 KB that crypto/tls has
// for each; see docs/compact-tls.md. Connections of TLS 1.2 stay with crypto/tls; NotCompact says
// how many do, and why. It is a setting of clients and servers: for a Socket of one's own it does
// nothing, and on one of theirs it can be set to none before the handshake, which pins that
// connection to crypto/tls.
type CompactTLS struct {
	// After is how long after the handshake that is done, and after how long a silence the expanded
	// keys are dropped; 0: never. A second is a good value: session tickets have come by then.
	After time.Duration
	// KeepCertificates keeps what ConnectionState has of the peer's certificates, and its
	// ExportKeyingMaterial, some KB for each connection. Without it ConnectionState has none of them
	// any more, and PeerIdentity says whose they were. ExportKeyingMaterial returns an error then;
	// its text is one of crypto/tls, that renegotiation is enabled, as there is none for this.
	KeepCertificates bool
}

// defaultTimeouts are those of a new Socket.
var defaultTimeouts = Timeouts{
	Connect:   DefaultConnectTimeout,
	Read:      DefaultReadTimeout,
	Write:     DefaultWriteTimeout,
	Handshake: DefaultHandshakeTimeout,
}

// Defaults of a new Socket.
const (
	DefaultConnectTimeout   = 10 * time.Second
	DefaultReadTimeout      = 60 * time.Second
	DefaultWriteTimeout     = 60 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultLinger           = 10 * time.Second
)

// A Framer finds packets in the stream, for RecvPacket; package packet has them. See packet.Framer
// for what the methods mean.
type Framer interface {
	Next(data []byte, atEOF bool) (advance int, pkt []byte, err error)
	Want() int
	Reset()
}

// New makes a socket that is neither bound nor connected. network is "tcp", "tcp4", "tcp6", "udp",
// "udp4", "udp6", "unix", "unixgram" or "unixpacket". The descriptor is made by Bind or Connect,
// when the address family is known.
func New(networkName string) (*Socket, error) {
	s := new(Socket)
	if err := (*inner)(s).Init(networkName); err != nil {
		return nil, err
	}
	return s, nil
}

func (i *inner) Init(networkName string) error {
	s := (*Socket)(i)
	n, err := networkOf(networkName)
	if err != nil {
		return &net.OpError{Op: "socket", Net: networkName, Err: err}
	}
	s.init(n)
	return nil
}

func (s *Socket) init(n *network) {
	s.network = n
	s.linger.Store(int64(DefaultLinger))
	s.timeouts.Store(&defaultTimeouts)
}

func newSocket(n *network) *Socket {
	s := new(Socket)
	s.init(n)
	return s
}

// Pair makes two sockets that are connected to each other, of network "unix", "unixgram" or
// "unixpacket", on the caller's loop. For SSLHandshake, the first is the client and the second the
// server.
func Pair(ctx context.Context, networkName string) (client, server *Socket, err error) {
	n, err := networkOf(networkName)
	if err == nil && n.family != unix.AF_UNIX {
		err = syscall.EAFNOSUPPORT
	}
	if err != nil {
		return nil, nil, &net.OpError{Op: "socketpair", Net: networkName, Err: err}
	}
	numbers, err := sysPair(n.kind)
	if err != nil {
		return nil, nil, &net.OpError{Op: "socketpair", Net: networkName, Err: err}
	}
	var ends [2]*Socket
	for i, number := range numbers {
		ends[i] = newSocket(n)
		if err := ends[i].adopt(ctx, number); err != nil {
			if i == 0 {
				sysClose(numbers[1])
			} else {
				ends[0].Abort()
			}
			return nil, nil, ends[i].fail("socketpair", err)
		}
	}
	ends[1].accepted = true
	return ends[0], ends[1], nil
}

// adopt makes a connected descriptor the socket's and puts it on a loop. With an error it is
// closed.
func (s *Socket) adopt(ctx context.Context, number int) error {
	home, err := homeFor(ctx)
	if err != nil {
		sysClose(number)
		return err
	}
	f := newFD(number, home, s.network)
	if err := f.register(); err != nil {
		sysClose(number)
		return err
	}
	return s.install(f)
}

// homeFor returns the loop for a new descriptor, if there is one that still runs.
func homeFor(ctx context.Context) (sched.Home, error) {
	home, err := sched.HomeFor(ctx)
	if err == nil && home.Loop().Closed() {
		err = runtime.ErrShutdown
	}
	return home, err
}

// install makes a registered descriptor the socket's, or closes it if the socket was closed
// meanwhile.
func (s *Socket) install(f *fd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := error(nil)
	switch {
	case s.gone:
		err = net.ErrClosed
	case s.opening != nil && s.opening.canceled:
		err = ErrCanceled
	case s.conn.Load() != nil:
		err = ErrBusy // somebody else has made one meanwhile
	default:
		s.conn.Store(f)
		return nil
	}
	f.close()
	return err
}

// acquire begins an operation.
func (s *Socket) acquire(kind uint32) (*fd, error) {
	f := s.conn.Load()
	if f != nil {
		return f, f.acquire(kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, net.ErrClosed
	}
	return nil, ErrNotConnected
}

// SetTimeouts replaces the time-outs, for the operations that begin afterwards. It may be called
// from anywhere at any time.
func (s *Socket) SetTimeouts(t Timeouts) {
	if t == defaultTimeouts {
		s.timeouts.Store(&defaultTimeouts)
	} else {
		s.timeouts.Store(same(&lastTimeouts, t))
	}
}

// What sockets never change they share with others that have the same: 32 bytes less for each of
// very many.
var (
	lastTimeouts atomic.Pointer[Timeouts]
	lastDialed   atomic.Pointer[dialedAddr]
)

// same returns the last value if it is v, else a new one, which is the last from then on.
func same[T comparable](last *atomic.Pointer[T], v T) *T {
	if p := last.Load(); p != nil && *p == v {
		return p
	}
	p := new(T)
	*p = v
	last.Store(p)
	return p
}

// Timeouts returns the time-outs.
func (s *Socket) Timeouts() Timeouts { return *s.timeouts.Load() }

// patience is how long a send waits for a peer that takes nothing.
func (s *Socket) patience() patience { return patience{timeout: s.timeouts.Load().Write} }

// SetLinger sets how long a peer may take nothing of what was sent before Close, while that is
// delivered in the background. Then the connection is reset. With 0, what the kernel hasn't taken
// when Close is called is dropped, with a reset. Ten seconds by default. It may be called from
// anywhere, before Close.
func (s *Socket) SetLinger(d time.Duration) { s.linger.Store(int64(max(0, d))) }

// SetProtocol sets how RecvPacket finds packets in the stream; nil: it returns what there is. Each
// socket needs a Framer of its own. It returns ErrBusy while somebody receives.
func (s *Socket) SetProtocol(framer Framer) error {
	if s.conn.Load() == nil {
		s.framer = framer
		return nil
	}
	f, err := s.acquire(reading)
	if err != nil {
		return s.fail("set protocol", err)
	}
	defer f.leave(reading)
	s.dropIndex()
	s.framer = framer
	return nil
}

// LocalAddr returns the address that the socket is bound to, nil if it isn't or is closed.
func (s *Socket) LocalAddr() net.Addr { return s.address(unix.Getsockname) }

// RemoteAddr returns the address of the peer, nil if there is none or the socket is closed.
func (s *Socket) RemoteAddr() net.Addr { return s.address(unix.Getpeername) }

func (s *Socket) address(get func(int) (unix.Sockaddr, error)) net.Addr {
	f, err := s.acquire(using)
	if err != nil {
		return nil
	}
	defer f.leave(using)
	sa, err := get(f.number)
	if err != nil {
		return nil
	}
	return s.network.addrOf(sa)
}

// Connected reports whether the socket has a descriptor and was not closed. It doesn't notice that
// the peer has gone; see Alive.
func (s *Socket) Connected() bool {
	return s.FD() >= 0
}

// Alive looks, without waiting or taking anything, whether the peer has closed or reset the
// connection, and reports whether it hasn't. Data that is still unread counts as alive, in the
// kernel as well as what was read ahead. It may be called from anywhere, and keeps nobody from
// receiving.
func (s *Socket) Alive() bool {
	kind := looking
	f, err := s.acquire(kind)
	if err == ErrBusy { // somebody receives, and has nothing left over
		kind = using
		f, err = s.acquire(kind)
	}
	if err != nil {
		return false
	}
	defer f.leave(kind)
	if kind == looking && s.ahead(f) {
		return true
	}
	// An error is not to be taken either, as peeking would do: whoever receives must be told of it.
	if sysFailed(f.number) {
		return sysUnread(f.number) > 0
	}
	var one [1]byte
	n, errno := sysPeek(f.number, one[:])
	return n > 0 || errno == syscall.EAGAIN || errno == syscall.EINTR || errno == 0 && f.datagrams
}

// ahead reports whether something was read ahead. With TLS it may be that crypto/tls has it.
func (s *Socket) ahead(f *fd) bool {
	if len(s.in.unread()) > 0 || s.in.message {
		return true
	}
	t := s.secure.Load()
	return t != nil && t.rest && s.readAhead(f) == nil
}

// FD returns the descriptor's number for looking at it, -1 if there is none. It must not be closed,
// nor read, written or made blocking.
func (s *Socket) FD() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.conn.Load(); f != nil && !s.gone && !f.closed() {
		return f.number
	}
	return -1
}

// An Event is a direction that Cancel ends waiting in.
type Event uint8

const (
	ReadEvent  Event = 1 << iota // receiving, accepting
	WriteEvent                   // sending, connecting
)

// Cancel ends the operation that waits in the direction, with ErrCanceled, and reports whether one
// did.
func (s *Socket) Cancel(event Event) bool {
	if event&WriteEvent != 0 && s.cancelConnect() {
		return true
	}
	f, err := s.acquire(using)
	if err != nil {
		return false
	}
	defer f.leave(using)
	woken := false
	for _, d := range []struct {
		event Event
		*direction
	}{{WriteEvent, &f.wr}, {ReadEvent, &f.rd}} {
		if event&d.event != 0 && d.evict(func() { d.canceled.Store(true) }) {
			woken = true
		}
	}
	return woken
}
