package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// TLS is crypto/tls over a link that never waits where crypto/tls holds a lock.
//
// crypto/tls keeps a mutex for each direction while it reads or writes. A coroutine that parked
// inside would leave it locked, and another coroutine of the loop that wants it would stop the loop
// for good. So after the handshake:
//
//   - link.Read doesn't wait. When nothing has arrived it returns errWait, over which crypto/tls keeps its state, a partial record
//     included; the socket waits outside and calls again.
//   - link.Write doesn't wait and never fails half-way, since for crypto/tls an error on this side is final: it puts all it gets into the queue
//     of the descriptor. The socket bounds the queue by writing piece by piece and waiting for it to drain between the pieces.
//
// The handshake is straight-line code that can't be resumed after an error, so during it link.Read
// does wait. Nobody else wants the mutexes then: the socket's read and write locks are both held.

// secure is the TLS of a socket.
type secure struct {
	conn atomic.Pointer[tls.Conn] // nil: the connection is compact
	link *link
	fd   *fd
	rest bool // there may be decrypted bytes that were not read; of the reader

	*compactible // nil: it stays with crypto/tls
}

// SSLHandshake turns the connection, in place, into TLS: as the client if the socket was connected,
// as the server if it was accepted. config must say what the role needs: a ServerName, or
// certificates. A client's Renegotiation other than tls.RenegotiateNever is refused. Where config
// names no roots to verify with, the system's are read off the loop before the first handshake.
//
// It fails with ErrPlaintextPending, before anything is sent, when plaintext has arrived that was
// not read; with ErrSSLActive when TLS is on already; with ErrBusy while others send or receive.
// Timeouts.Handshake bounds the whole of it. What RecvPacket has learnt of the plaintext is
// forgotten. If the handshake fails, for whatever reason but ErrSSLActive and ErrBusy, the
// connection is closed: it can't go on in plaintext by mistake.
//
// A client's config without ServerName, InsecureSkipVerify aside, is an *explain.HandshakeError
// that says so. Other errors are crypto/tls's; explain.Client and explain.Server put them into
// words.
//
// From its first moment to its last the handshake has the socket to itself: whoever else sends,
// receives, or begins a handshake gets ErrBusy.
//
// In a coroutine, the handshake runs on another coroutine's stack, see runtime.Detour. In the
// server's role that, and all that TLS needs, is only spent when the client's hello is there.
// Callbacks of config run on the loop and must not block. If one of them panics, or calls
// runtime.Goexit, that is logged with its stack and handed to the runtime's panic handler, and a
// panic is the error of the handshake, a *runtime.PanicError. (On a plain goroutine either does
// what it does there.)
func (s *Socket) SSLHandshake(ctx context.Context, config *tls.Config) error {
	return (*inner)(s).SSLHandshakeThrough(ctx, config, nil)
}

func (i *inner) SSLHandshakeThrough(
	ctx context.Context, config *tls.Config, gate house.Gate,
) error {
	s := (*Socket)(i)
	if !s.network.stream() {
		return s.fail("handshake", syscall.ESOCKTNOSUPPORT)
	}
	f, err := s.acquire(both)
	if err != nil {
		return s.fail("handshake", err)
	}
	defer f.leave(both)
	if s.secure.Load() != nil {
		return s.fail("handshake", ErrSSLActive)
	}
	defer func() {
		if s.secure.Load() == nil { // it has failed, or a callback of config has panicked
			f.flush() // the alert that tells the peer why
			s.Close()
		}
	}()
	t, err := s.handshake(ctx, f, config, gate)
	if err != nil {
		if s.accepted {
			err = badClient(err)
		}
		return s.fail("handshake", err)
	}
	s.secure.Store(t)
	if t.compactible != nil {
		f.secure.Store(t)
		if f.closed() {
			t.doom() // whoever has closed it may not have seen t
		}
	}
	return nil
}

// plaintextPending: a server has nothing to say before the client's hello, so whatever waits in the
// kernel was not meant to be TLS. What a client has sent may be its hello, unless the answer that
// allows it to begin is still here, in the queue.
func (s *Socket) plaintextPending(f *fd) bool {
	return len(s.in.unread()) > 0 ||
		(!s.accepted || f.out.pending.Load()) && sysUnread(f.number) > 0
}

func (i *inner) HelloArrived() bool {
	s := (*Socket)(i)
	f, err := s.acquire(using)
	if err != nil {
		return true
	}
	defer f.leave(using)
	return f.helloArrived()
}

func (f *fd) helloArrived() bool {
	unread := sysUnread(f.number)
	switch {
	case f.eager.Load():
		return true
	case unread == 0:
		return false // a look would take an error that is for the handshake
	case !f.short:
		return true // a Unix socket may hold less than a hello, if it comes in small pieces
	}
	var header [recordHeader]byte
	n, errno := sysPeek(f.number, header[:])
	switch {
	case errno != 0, n == 0, header[0] != recordHandshake:
		return true
	case n < recordHeader:
		return false
	}
	length := recordHeader + int(header[3])<<8 + int(header[4])
	return unread >= min(length, max(512, sysReceiveBuffer(f.number)/4))
}

// awaitHello waits for the client's hello, with both locks held. What comes while the answer that
// allows the client to begin is still here was not meant to be one.
func (s *Socket) awaitHello(ctx context.Context, f *fd, deadline sched.Deadline) error {
	for f.out.pending.Load() {
		err := f.flush()
		if err == nil {
			break
		}
		if err := f.waitWrite(ctx, err, deadline); err != nil {
			return err
		}
		if sysUnread(f.number) > 0 {
			return ErrPlaintextPending
		}
	}
	for !f.helloArrived() {
		if err := f.waitRead(ctx, reasonRecv, deadline); err != nil {
			return err
		}
	}
	return nil
}

// handshake runs the handshake with both locks held.
func (s *Socket) handshake(
	ctx context.Context,
	f *fd,
	config *tls.Config,
	gate house.Gate,
) (*secure, error) {
	if s.plaintextPending(f) {
		return nil, ErrPlaintextPending
	}
	if s.in.eof {
		return nil, io.EOF
	}
	if !s.accepted && config != nil && config.Renegotiation != tls.RenegotiateNever {
		return nil, errRenegotiation
	}
	s.in.release()
	if s.framer != nil {
		s.framer.Reset()
	}
	shaking := &shaking{deadline: sched.DeadlineAfter(s.timeouts.Load().Handshake), gate: gate}
	if s.accepted {
		if err := s.awaitHello(ctx, f, shaking.deadline); err != nil {
			return nil, err
		}
	}
	if verifiesBySystem(config, s.accepted) {
		if err := systemRoots.wait(ctx, shaking.deadline); err != nil {
			return nil, err
		}
	}
	if err := shaking.enter(ctx); err != nil {
		return nil, err
	}
	defer shaking.leave()
	t, config, settings := s.prepareTLS(f, config, shaking)
	link := t.link
	if capture := link.capture; capture != nil {
		defer func() {
			if capture.End(); t.compactible == nil {
				capture.Wipe()
			}
		}()
	}
	err, detourErr := t.shakeHands(ctx, shaking)
	if link.capture != nil && err == nil && detourErr == nil {
		if cs := t.conn.Load().ConnectionState(); !link.capture.Begin(&cs) {
			link.giveUp()
		}
	}
	if len(shaking.ahead.unread()) == 0 && link.capture == nil {
		link.shaking = nil
	}
	t.rest = link.more()
	if link.capture != nil && err == nil && detourErr == nil {
		t.mayRest(settings)
	}
	switch {
	case detourErr != nil:
		err = detourErr
	case errors.Is(err, io.EOF):
		err = errHandshakeEOF
	case err != nil && !s.accepted && config.ServerName == "" && !config.InsecureSkipVerify:
		err = explain.Client(err, "", config) // crypto/tls has sent nothing
	case err != nil:
		err = shaking.clearAlert(err)
	}
	return t, err
}

// prepareTLS makes what a handshake needs, and returns the configuration to use and what it says of
// CompactTLS.
func (s *Socket) prepareTLS(
	f *fd, config *tls.Config, shaking *shaking,
) (*secure, *tls.Config, CompactTLS) {
	t := &secure{link: &link{socket: s, fd: f, shaking: shaking}, fd: f}
	settings := s.timeouts.Load().CompactTLS
	if forced := compact.Forced(); forced > 0 && !compact.Enabled(config) {
		settings.After, config = forced, compact.ForcedConfig(config)
		settings.KeepCertificates = true
	}
	if settings.After > 0 && compact.Enabled(config) {
		t.link.capture = compact.NewCapture(config, !s.accepted)
	}
	conn := tls.Client
	if s.accepted {
		conn = tls.Server
	}
	t.conn.Store(conn(t.link, config))
	return t, config, settings
}

// shakeHands has crypto/tls make the handshake, on a stack that is deep enough. detourErr is why it
// has not begun.
func (t *secure) shakeHands(ctx context.Context, shaking *shaking) (err, detourErr error) {
	detourErr = sched.Detour(ctx, func(ctx context.Context) {
		returned := false
		defer func() {
			// On a goroutine it is for whoever recovers there.
			if returned || runtime.Current(ctx) == nil {
				return
			}
			var value any = runtime.ErrGoexit
			if recovered := recover(); recovered != nil {
				value = recovered
			}
			err = sched.ReportPanic(ctx, value)
		}()
		shaking.ctx = ctx
		// crypto/tls would close the connection when ctx is done; the link sees to that itself, and
		// callbacks still find the context's values.
		err = t.conn.Load().HandshakeContext(context.WithoutCancel(ctx))
		shaking.leave()
		if err == nil {
			err = t.fd.drain(ctx, patience{limit: shaking.deadline})
		}
		returned = true
	})
	shaking.ctx = nil
	return err, detourErr
}

// errRenegotiation refuses what can't be done here. A handshake within Read would have to wait in
// there.
var errRenegotiation = errors.New("tls.Config.Renegotiation has to be RenegotiateNever: " +
	"no handshake can follow the first")

// errHandshakeEOF says more than EOF, and still is it.
var errHandshakeEOF = &handshakeEOF{}

type handshakeEOF struct{}

func (*handshakeEOF) Error() string { return "connection closed by the peer during the TLS handshake" }
func (*handshakeEOF) Unwrap() error { return io.EOF }

// ConnectionState returns what the handshake has agreed on; ok is false without TLS.
func (s *Socket) ConnectionState() (state tls.ConnectionState, ok bool) {
	t := s.secure.Load()
	if t == nil {
		return state, false
	}
	t.enter()
	defer t.leave()
	if k := t.compacted(); k != nil {
		return k.connectionState(), true
	}
	return t.conn.Load().ConnectionState(), true
}

// tryRead reads decrypted bytes without waiting. The caller holds the read lock.
func (t *secure) tryRead(f *fd, p []byte) (int, error) {
	if !t.rest && f.exhausted() {
		// Which crypto/tls would say, too, but from so deep that it takes a larger stack.
		return 0, errWait
	}
	if t.compactible != nil {
		t.enter()
		defer t.leave()
		if k := t.compacted(); k != nil {
			return k.tryRead(t, f, p)
		}
	}
	n, err := t.conn.Load().Read(p)
	if t.link.capture != nil {
		t.link.decide(n > 0)
	}
	if n > 0 {
		t.rest = n == len(p) || t.link.more()
		return n, nil // an error beside it comes back with the next call
	}
	t.rest = err != errWait
	if f.out.pending.Load() {
		f.flush() // the answer to a KeyUpdate, or an alert
	}
	switch {
	case err == errWait:
		return 0, errWait
	case t.link.eof && (err == io.EOF || err == io.ErrUnexpectedEOF):
		return 0, ErrTruncated // between records, or within one
	}
	return 0, err
}

// piece is how much is encrypted at a time; with the records' overhead it fits the queue.
const piece = 32 << 10

// send encrypts and sends p. It returns how much of p has gone to the kernel. The caller holds the
// write lock.
func (t *secure) send(ctx context.Context, f *fd, p []byte, wait patience) (int, error) {
	if err := f.drain(ctx, wait); err != nil {
		return 0, err
	}
	sent := 0
	for sent < len(p) {
		n, err := t.enqueue(p[sent:min(len(p), sent+piece)])
		if err != nil {
			return sent, err
		}
		if err := f.drain(ctx, wait); err != nil {
			return sent, err
		}
		if sent += n; sent < len(p) {
			// A peer that always has room must not keep the loop from the others.
			sched.Spend(ctx, n)
		}
	}
	return sent, nil
}

// enqueue encrypts p into the queue.
func (t *secure) enqueue(p []byte) (int, error) {
	t.enter()
	defer t.leave()
	var n int
	var err error
	if k := t.compacted(); k != nil {
		n, err = k.enqueue(t.fd, p)
	} else {
		n, err = t.conn.Load().Write(p)
	}
	if err != nil && t.fd.closed() {
		err = net.ErrClosed // TLS only knows that close_notify has been said
	}
	return n, err
}

// closeNotify queues the alert that says that nothing more will be sent.
func (t *secure) closeNotify() {
	t.enter()
	defer t.leave()
	if k := t.compacted(); k != nil {
		k.say(t.fd, k.AppendCloseNotify)
		return
	}
	t.conn.Load().CloseWrite()
	if c := t.link.capture; c != nil {
		c.Said()
	}
}
