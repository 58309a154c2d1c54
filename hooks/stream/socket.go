package stream

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/fallback"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/numeric"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A Option is for SocketClient and SocketServer.
type Option func(*streamOptions)

type streamOptions struct {
	context *Context
	timeout time.Duration
	async   bool
}

// WithContext sets the options of the sockets and of TLS.
func WithContext(c *Context) Option {
	return func(o *streamOptions) { o.context = c }
}

// WithTimeout bounds how long SocketClient connects, DNS included, and again how long the TLS
// handshake takes: DefaultSocketTimeout if not given, no bound if d <= 0. It is not the time-out of
// what comes afterwards; that is SetTimeout's.
func WithTimeout(d time.Duration) Option { return func(o *streamOptions) { o.timeout = d } }

// WithAsyncConnect has SocketClient return at once and connect in the background
// (STREAM_CLIENT_ASYNC_CONNECT). Select reports the stream as writable when it is connected, and as
// readable and writable when that has failed.
func WithAsyncConnect() Option { return func(o *streamOptions) { o.async = true } }

// SocketClient connects to a URL, "transport://host:port" or "transport:///path"; GetTransports has
// the transports. An IPv6 address is in brackets. Without a transport it is tcp. With tls, ssl,
// tlsv1.2 and tlsv1.3 the stream speaks TLS when SocketClient returns, and the server's certificate
// has been verified for the host of the URL, unless the context says otherwise.
//
// An international host name, "bücher.example", is looked up and verified as DNS has it. Whoever
// has no runtime gets hooks.Default. With a context that is done nothing is begun.
//
// A datagram stream is connected in the sense that it sends to, and receives from, this address
// only. A udg stream has no address that could be answered to.
//
// Errors: *URLError, *OptionError, and those of connecting and of TLS.
func SocketClient(ctx context.Context, url string, options ...Option) (*Stream, error) {
	s, o, err := newStreamFor(url, options, false)
	if err != nil {
		return nil, err
	}
	if s.url.port == 0 && !s.url.local() {
		return nil, &URLError{URL: url, Reason: "a client can't connect to port 0"}
	}
	if s.url.host == "" && !s.url.local() {
		return nil, &URLError{URL: url, Reason: "the host is missing"}
	}
	if err := dialing.Done(ctx); err != nil {
		return nil, s.fail("connect", err)
	}
	if ctx, err = fallback.Within(ctx, nil); err != nil {
		return nil, s.fail("connect", err)
	}
	open := func(ctx context.Context) error {
		if s.url.secure { // before anything is sent
			if _, err := s.context.Load().client(ctx, s.url.method(false)); err != nil {
				return s.fail("connect", err)
			}
		}
		s.socket.SetResolver(dialing.Resolver(nil, s.url.host))
		if err := s.socket.Connect(ctx, s.url.address()); err != nil {
			return err
		}
		s.moveIn()
		if !s.url.secure {
			return nil
		}
		return s.shakeHands(ctx, s.url.method(false))
	}
	if o.async {
		if _, err := s.openLater(ctx, open); err != nil {
			return nil, s.fail("connect", err)
		}
		return s, nil
	}
	if err := open(ctx); err != nil {
		s.closeSocket()
		return nil, err
	}
	return s, nil
}

// newStreamFor makes the stream of a URL, with its socket, which has no descriptor yet.
func newStreamFor(url string, options []Option, server bool) (*Stream, streamOptions, error) {
	o := streamOptions{timeout: DefaultSocketTimeout}
	for _, option := range options {
		option(&o)
	}
	u, err := parseStreamURL(url)
	if err != nil {
		return nil, o, err
	}
	sock, err := socket.New(u.network)
	if err != nil {
		return nil, o, err
	}
	s := newStream(sock, u, o.context, server)
	s.uri = url
	s.useTimeout(socket.Timeouts{Connect: o.timeout, Handshake: o.timeout})
	settings, err := s.context.Load().socketSettings(&u, server)
	if err == nil {
		err = settings.apply(sock)
	}
	if err == nil && !server {
		err = sock.SetProtocol(s.lines)
	}
	return s, o, err
}

// SocketServer listens at a URL, as SocketClient has them; a datagram stream is only bound there.
// Port 0 has the kernel choose, GetName tells. A name stands for its first address, an empty host
// for every address of IPv4, [::] for every address of IPv6 and, unless ipv6_v6only says otherwise,
// of IPv4.
//
// With tls, ssl, tlsv1.2 and tlsv1.3 what is accepted begins with TLS, for which the context names
// the certificate (local_cert): it is read, and checked, at once. So it is with tcp and unix if the
// context names one, for EnableCrypto.
func SocketServer(ctx context.Context, url string, options ...Option) (*Stream, error) {
	s, _, err := newStreamFor(url, options, true)
	if err != nil {
		return nil, err
	}
	if ctx, err = fallback.Within(ctx, nil); err != nil {
		return nil, s.fail("listen", err)
	}
	c := s.context.Load()
	if s.url.secure ||
		!s.url.datagrams() && (c.names("ssl", "local_cert") || c.names("ssl", "SNI_server_certs")) {
		if _, err := c.server(ctx, s.url.method(true)); err != nil {
			return nil, s.fail("listen", err)
		}
	}
	address := s.url.path
	if address == "" {
		host := s.url.host
		if host != "" {
			ip, err := numeric.Host(ctx, s.url.network, host)
			if err != nil {
				return nil, s.fail("listen", err)
			}
			host = ip.String()
		}
		address = net.JoinHostPort(host, strconv.Itoa(int(s.url.port)))
	}
	if err := s.socket.Bind(ctx, address); err != nil {
		s.socket.Abort()
		return nil, err
	}
	if s.url.datagrams() {
		err = s.socket.SetProtocol(s.lines)
	} else {
		settings, _ := c.socketSettings(&s.url, true) // as before
		err = s.socket.Listen(settings.backlog)
	}
	if err != nil {
		s.socket.Abort()
		return nil, err
	}
	s.moveIn()
	return s, nil
}

// Accept waits for a connection to a server and returns it, on the caller's loop, or one of the
// server's runtime if the caller has none. When timeout has passed it returns runtime.ErrTimeout:
// at once if it is 0, never if it is negative. Whether the server's stream is blocking makes no
// difference, as in PHP, and what it returns is.
//
// With a transport that begins with TLS, the handshake runs in a coroutine of its own, for 10
// seconds at most. So a client that is slow, or says nothing, holds up nobody: only the operations
// of its own stream wait for it, and Select reports it when the handshake has ended and something
// has come, or when it has failed.
//
// EMFILE, ENFILE, ENOBUFS and ENOMEM say that the machine is short of something: wait a little
// before the next Accept.
func Accept(ctx context.Context, server *Stream, timeout time.Duration) (*Stream, error) {
	if err := server.begin(ctx, &server.rd); err != nil {
		return nil, server.fail("accept", err)
	}
	defer server.rd.leave()
	ctx = fallback.WithinAs(ctx, server.socket)
	in, err := server.accept(ctx, timeout)
	if err != nil {
		return nil, server.outcome("accept", ctx, err)
	}
	sock := new(socket.Socket)
	if err := inner(sock).Begin(ctx, in); err != nil {
		return nil, err
	}
	s := newStream(sock, server.url, server.context.Load(), true)
	if err := sock.SetProtocol(s.lines); err != nil {
		sock.Abort()
		return nil, err
	}
	s.moveIn()
	if s.url.secure {
		if _, err := s.openLater(ctx, func(ctx context.Context) error { return s.shakeHands(ctx, s.url.method(true)) }); err != nil {
			s.closeSocket()
			return nil, server.fail("accept", err)
		}
	}
	return s, nil
}

func (s *Stream) accept(ctx context.Context, timeout time.Duration) (house.Incoming, error) {
	in, err := inner(s.socket).TryAccept()
	switch {
	case err == nil:
		sched.Spend(ctx, 0)
	case errors.Is(err, socket.ErrWouldBlock) && timeout == 0:
		return in, runtime.ErrTimeout
	case errors.Is(err, socket.ErrWouldBlock):
		t := s.socket.Timeouts()
		t.Read = max(timeout, 0)
		s.socket.SetTimeouts(t)
		return inner(s.socket).AcceptIncoming(ctx)
	}
	return in, err
}

// SocketPair makes two streams that are connected to each other, on the caller's loop: of "unix",
// or of "udg" for datagrams. For EnableCrypto the second one is the server.
func SocketPair(ctx context.Context, transport string) (a, b *Stream, err error) {
	u, err := parseStreamURL(transport + "://pair")
	if err == nil && !u.local() {
		err = &URLError{URL: transport, Reason: "a pair can be of unix and of udg"}
	}
	if err != nil {
		return nil, nil, err
	}
	if ctx, err = fallback.Within(ctx, nil); err != nil {
		return nil, nil, err
	}
	first, second, err := socket.Pair(ctx, u.network)
	if err != nil {
		return nil, nil, err
	}
	a, b = newStream(first, u, nil, false), newStream(second, u, nil, true)
	a.paired, b.paired = true, true
	if err := errors.Join(first.SetProtocol(a.lines), second.SetProtocol(b.lines)); err != nil {
		first.Abort()
		second.Abort()
		return nil, nil, err
	}
	a.moveIn()
	b.moveIn()
	return a, b, nil
}

// Shutdown ends one direction of a connection, or both, and leaves the stream open. To end writing,
// it waits until what was written has been sent, and with TLS tells the peer (close_notify). The
// peer then reads io.EOF and can still write. socket.ShutdownRead, ShutdownWrite and ShutdownBoth
// are PHP's STREAM_SHUT_RD, _WR and _RDWR.
func Shutdown(ctx context.Context, s *Stream, how socket.How) error {
	if how == socket.ShutdownRead {
		if err := s.settle(ctx); err != nil {
			return s.fail("shutdown", err)
		}
		return s.socket.Shutdown(ctx, how)
	}
	if err := s.begin(ctx, &s.wr); err != nil {
		return s.fail("shutdown", err)
	}
	defer s.wr.leave()
	ctx, err := s.patience(ctx)
	if err == nil {
		err = s.socket.Shutdown(ctx, how)
	}
	return s.outcome("shutdown", ctx, err)
}

// streamOpening is what opens a stream in the background: connecting, or a TLS handshake.
type streamOpening struct {
	running runtime.WaitGroup // counts one until it has ended
	ended   atomic.Bool
	err     error // how; set before ended
}

// wait waits until it has ended; with a timeout above 0, no longer than that.
func (o *streamOpening) wait(ctx context.Context, timeout time.Duration) error {
	waited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		waited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := o.running.Wait(waited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = runtime.ErrTimeout
	}
	return err
}

// errOpeningLeft is what opening comes to that neither succeeds nor fails.
var errOpeningLeft = errors.New("left by runtime.Goexit or a panic")

// openLater has open run in a coroutine; the stream is opening until that has ended. With an error
// nothing is begun.
func (s *Stream) openLater(
	ctx context.Context,
	open func(ctx context.Context) error,
) (*streamOpening, error) {
	o := new(streamOpening)
	o.running.Add(1)
	s.opening.Store(o)
	run := func(ctx context.Context) {
		err := errOpeningLeft
		defer func() {
			if err != nil {
				s.giveUp(s.fail("open", err))
			}
			o.err = err
			o.ended.Store(true)
			s.mu.Lock()
			s.useTimeout(s.socket.Timeouts())
			s.opening.Store(nil)
			s.mu.Unlock()
			o.running.Done()
			s.rd.notify()
			s.wr.notify()
		}()
		err = open(ctx)
	}
	err := error(nil)
	if home, ok := inner(s.socket).Home(); ok && !home.Here() {
		// The caller may be a goroutine with a context that has no runtime.
		_, err = home.Runtime().Go(run)
	} else {
		// Who has begun it may go on to other things.
		_, err = runtime.Go(context.WithoutCancel(ctx), run)
	}
	if err != nil {
		s.opening.Store(nil)
	}
	return o, err
}

// giveUp closes the connection for good, for a reason that every operation returns from now on.
func (s *Stream) giveUp(why error) {
	s.failure.CompareAndSwap(nil, &why)
	s.closeSocket()
}
