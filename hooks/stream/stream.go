package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/resident"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Stream is a socket in the manner of PHP's streams, for code that is ported: [SocketClient],
// [SocketServer], [Accept] and [SocketPair] make one, [Select] waits for several. New code is
// better off with packages hooks, client and server.
//
// Methods may be called from any coroutine and any goroutine. At a time there may be one caller
// that reads (a select for reading or for exceptions and an accept included) and one that writes; a
// second one gets socket.ErrBusy. EnableCrypto and SetTimeout need both directions. Close and
// everything that doesn't wait may be called at any time.
//
// A stream that nobody closes is closed when the garbage collector finds that nobody refers to it,
// where PHP does it as soon as that is so, and at the latest when its runtime has ended.
//
// A stream is blocking unless SetBlocking says otherwise: an operation waits, in a coroutine by
// yielding to the loop, until it can be done or the stream's time-out (DefaultSocketTimeout) has
// passed. One that isn't blocking returns ErrWouldBlock instead. Neither loses anything that has
// arrived: the next operation gets it.
//
// A connection that begins with TLS, or is still being connected, is opened in the background.
// Until that has ended, the operations of a blocking stream wait for it, those of others return
// ErrWouldBlock, and Select reports nothing. If it fails, the connection is closed, Select reports
// the stream as readable and writable, and every operation returns the reason.
//
// Errors are *net.OpError with what has gone wrong in them; io.EOF and ErrWouldBlock come bare.
type Stream struct {
	socket *socket.Socket
	url    streamURL
	uri    string // as metadata have it
	paired bool   // one of SocketPair
	// By a server, or the second of a pair: the server's role in TLS, unless the method says
	// otherwise.
	accepted bool
	context  atomic.Pointer[Context]

	rd, wr  streamSide
	watched atomic.Bool // the socket tells streamWatcher of what arrives

	nonblocking atomic.Bool
	timeout     atomic.Int64 // nanoseconds; none if not positive
	timedOut    atomic.Bool
	eof         atomic.Bool
	unread      atomic.Int64
	closed      atomic.Bool
	resident    atomic.Pointer[resident.Resident] // nil until there is a descriptor
	failure     atomic.Pointer[error]             // of what has opened it; final
	opening     atomic.Pointer[streamOpening]     // what opens it; nil if nothing does any more
	// Held where opening ends and the time-out changes.
	mu sync.Mutex
	// The handshake that EnableCrypto has begun without blocking, until it was told how that has
	// ended.
	crypto      atomic.Pointer[streamOpening]
	secure      atomic.Bool // TLS is on
	cryptoEnded atomic.Bool // EnableCrypto has switched TLS off

	// Of the reader, guarded by rd.
	lines   *streamLines // apart, as the socket refers to them
	partial int          // how much of a line that wasn't complete is unread
	// With TLS: nothing is left that has been decrypted, as far as this was looked at.
	dry bool
}

// DefaultSocketTimeout is how long the operations of a stream wait, and how long PHP's
// stream_socket_client and stream_socket_accept wait if nothing else is said
// (default_socket_timeout).
const DefaultSocketTimeout = 60 * time.Second

// ErrWouldBlock is returned by operations of a stream that isn't blocking when they can do nothing
// at the moment. It is also socket.ErrWouldBlock and, for socket.Code, EAGAIN.
var ErrWouldBlock error = streamWouldBlock{}

type streamWouldBlock struct{}

func (streamWouldBlock) Error() string        { return "the stream would block" }
func (streamWouldBlock) Is(target error) bool { return target == socket.ErrWouldBlock }
func (streamWouldBlock) Unwrap() error        { return syscall.EAGAIN }

// moveIn has the stream closed when it is forgotten, and when its runtime has ended. It comes when
// the socket has its descriptor.
func (s *Stream) moveIn() {
	r := resident.MoveIn(s.socket, s)
	s.resident.Store(r)
	if s.ended() != nil { // who has closed it may not have seen that it has moved in
		r.Leave()
	}
}

// closeSocket closes the socket. Why is already to be seen in the stream.
func (s *Stream) closeSocket() error {
	if r := s.resident.Load(); r != nil {
		r.Leave()
	}
	return s.socket.Close()
}

// ShutdownBegins and RuntimeEnded make it an owner. What waits goes by the contexts of those who
// wait.
func (s *Stream) ShutdownBegins() {}

func (s *Stream) RuntimeEnded() {
	s.giveUp(runtime.ErrShutdown)
	s.rd.notify()
	s.wr.notify()
}

// streamSide is one direction of a stream.
type streamSide struct {
	busy     atomic.Bool               // somebody has it
	selector atomic.Pointer[selection] // who, if it is a select
}

// notify tells the select that has the direction to look again.
func (d *streamSide) notify() {
	if s := d.selector.Load(); s != nil {
		s.fire()
	}
}

// newStream makes a stream of a socket.
func newStream(s *socket.Socket, u streamURL, c *Context, accepted bool) *Stream {
	if c == nil {
		c = withoutOptions()
	}
	st := &Stream{socket: s, url: u, accepted: accepted, lines: new(streamLines)}
	st.context.Store(c)
	st.timeout.Store(int64(DefaultSocketTimeout))
	st.useTimeout(socket.Timeouts{Handshake: socket.DefaultHandshakeTimeout})
	return st
}

// begin begins an operation in a direction, which is the caller's until leave.
func (s *Stream) begin(ctx context.Context, side *streamSide) error {
	for {
		if err := s.settle(ctx); err != nil {
			return err
		}
		if !side.busy.CompareAndSwap(false, true) {
			return socket.ErrBusy
		}
		if s.opening.Load() == nil && s.ended() == nil { // still
			return nil
		}
		side.leave()
	}
}

func (d *streamSide) leave() { d.busy.Store(false) }

// both has both directions for the caller, until leaveBoth.
func (s *Stream) both() error {
	if !s.rd.busy.CompareAndSwap(false, true) {
		return socket.ErrBusy
	}
	if !s.wr.busy.CompareAndSwap(false, true) {
		s.rd.leave()
		return socket.ErrBusy
	}
	return nil
}

func (s *Stream) leaveBoth() {
	s.wr.leave()
	s.rd.leave()
}

// ended returns why no operation can begin any more, nil if they can.
func (s *Stream) ended() error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	if why := s.failure.Load(); why != nil {
		return *why
	}
	return nil
}

// settle waits for what opens the stream.
func (s *Stream) settle(ctx context.Context) error {
	for {
		if err := s.ended(); err != nil {
			return err
		}
		o := s.opening.Load()
		if o == nil {
			return nil
		}
		if s.nonblocking.Load() {
			return ErrWouldBlock
		}
		if err := o.wait(ctx, time.Duration(s.timeout.Load())); err != nil {
			return err
		}
	}
}

// impatient is what an operation that must not wait waits by.
var impatient = house.NoWait{Context: context.Background()}

// patience returns the context that an operation waits by.
func (s *Stream) patience(ctx context.Context) (context.Context, error) {
	if !s.nonblocking.Load() {
		return ctx, nil
	}
	if err := ctx.Err(); err != nil {
		return ctx, err
	}
	return impatient, nil
}

// outcome gives the error of an operation its form. waited is the context that it has waited by.
func (s *Stream) outcome(op string, waited context.Context, err error) error {
	if waited == impatient && errors.Is(err, socket.ErrWouldBlock) {
		return ErrWouldBlock
	}
	if errors.Is(err, runtime.ErrTimeout) {
		s.timedOut.Store(true)
	}
	return s.fail(op, err)
}

// received is outcome for what receives. It keeps whether there will be no more.
func (s *Stream) received(op string, waited context.Context, err error) error {
	err = s.outcome(op, waited, err)
	if err == nil {
		return nil
	}
	for _, passing := range passingErrors {
		if errors.Is(err, passing) {
			return err
		}
	}
	s.eof.Store(!s.url.datagrams())
	return err
}

// passingErrors say nothing of the connection.
var passingErrors = []error{
	ErrWouldBlock, runtime.ErrTimeout, socket.ErrBusy, context.Canceled, context.DeadlineExceeded, runtime.ErrShutdown, runtime.ErrOnLoop,
}

// uriAddr is the address of a stream that has no socket's.
type uriAddr struct{ network, uri string }

func (a uriAddr) Network() string { return a.network }
func (a uriAddr) String() string  { return a.uri }

// fail gives an error the operation and the address.
func (s *Stream) fail(op string, err error) error {
	if errors.Is(err, net.ErrClosed) && s.ended() != nil { // why it was closed says more
		err = s.ended()
	}
	if _, ok := err.(*net.OpError); ok || err == nil || err == io.EOF || err == ErrWouldBlock {
		return err
	}
	failed := &net.OpError{
		Op:     op,
		Net:    s.url.network,
		Source: s.socket.LocalAddr(),
		Addr:   s.socket.RemoteAddr(),
		Err:    err,
	}
	if failed.Addr == nil && s.uri != "" {
		failed.Addr = uriAddr{s.url.network, s.uri}
	}
	return failed
}

// Close closes the stream and returns at once. Whoever waits in an operation, or in Select, is
// woken with net.ErrClosed. What was written is still delivered in the background; with TLS, the
// peer is told (close_notify). A second Close returns net.ErrClosed. The path of a Unix server
// stays, as in PHP: remove it beforehand or afterwards.
func (s *Stream) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return s.fail("close", net.ErrClosed)
	}
	err := s.closeSocket()
	if s.failure.Load() != nil { // which has closed it
		err = nil
	}
	s.rd.notify()
	s.wr.notify()
	return err
}

// SetBlocking says whether operations wait. It holds for those that begin afterwards.
func (s *Stream) SetBlocking(on bool) { s.nonblocking.Store(!on) }

// SetTimeout sets how long an operation of a blocking stream waits before it returns
// runtime.ErrTimeout: DefaultSocketTimeout at first; none if d <= 0. It returns socket.ErrBusy
// while the stream is in use.
func (s *Stream) SetTimeout(d time.Duration) error {
	if err := s.both(); err != nil {
		return s.fail("set", err)
	}
	defer s.leaveBoth()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timeout.Store(int64(d))
	if s.opening.Load() == nil { // else it is used when that has ended
		s.useTimeout(s.socket.Timeouts())
	}
	return nil
}

// useTimeout has the socket, which nobody else uses at the moment, keep to the stream's time-out,
// and otherwise to those of t.
func (s *Stream) useTimeout(t socket.Timeouts) {
	t.Read = time.Duration(s.timeout.Load())
	t.Write = t.Read
	s.socket.SetTimeouts(t)
}

// SetContextOption sets an ssl option of this stream alone, for an EnableCrypto that comes later
// and, on a server, for what is accepted later; nil takes it out. With TLS on it returns
// socket.ErrSSLActive. Socket options can't be changed any more.
func (s *Stream) SetContextOption(wrapper, option string, value any) error {
	err := error(nil)
	switch {
	case wrapper == "socket":
		err = &OptionError{
			Wrapper: wrapper,
			Option:  option,
			Err:     errors.New("comes too late: the socket is there already"),
		}
	case s.secure.Load(), s.opening.Load() != nil && (s.url.secure || s.crypto.Load() != nil):
		err = socket.ErrSSLActive
	}
	if err != nil {
		return s.fail("set", err)
	}
	c, err := s.context.Load().With(wrapper, option, value)
	if err != nil {
		return s.fail("set", err)
	}
	s.context.Store(c)
	return nil
}

// Context returns the options of the stream.
func (s *Stream) Context() *Context { return s.context.Load() }

// ConnectionState returns what the TLS handshake has agreed on, and the peer's certificates; ok is
// false without TLS.
func (s *Stream) ConnectionState() (state tls.ConnectionState, ok bool) {
	return s.socket.ConnectionState()
}

// inner returns what programs have no call for.
func inner(s *socket.Socket) house.Socket { return socket.House(s, house.Key{}) }
