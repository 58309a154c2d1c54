package house

import (
	"context"
	"crypto/tls"

	"github.com/whorl-go/whorl/internal/sched"
)

// Socket is what the packages of the module use of a [socket.Socket] beside its methods.
type Socket interface {
	// Making one.

	// Init makes a zero socket.Socket what socket.New returns, for one that is part of something
	// else. It must come before everything else, and once.
	Init(networkName string) error

	// Begin makes a zero socket.Socket the connection, on the caller's loop, with the listener's
	// time-outs, linger and TCP_NODELAY. With an error the connection is closed.
	Begin(ctx context.Context, in Incoming) error

	// OnOpen has fn called with each descriptor that Bind, Connect or SendTo makes, after the
	// options and before it is bound and connected. Its error ends that attempt. fn must not wait.
	// A socket that has its descriptor already returns ErrConnected.
	OnOpen(fn func(number uintptr) error) error

	// Become makes a zero socket.Socket the connection of another one, for which it is closed from
	// then on. It is for the other's loop, and for plaintext that nobody reads or writes at the
	// moment (ErrBusy). With TLS it is EPROTONOSUPPORT, and nothing has changed, as after every error.
	Become(other Socket) error

	// AcceptIncoming is Accept for whoever decides afterwards which loop the connection is for.
	AcceptIncoming(ctx context.Context) (in Incoming, err error)

	// TryAccept is AcceptIncoming without waiting: ErrWouldBlock says that no connection is there.
	TryAccept() (Incoming, error)

	// Where it is.

	// Home returns where the socket lives; ok is false if it has no descriptor yet.
	Home() (home sched.Home, ok bool)

	// OnLoop reports whether the caller runs on the socket's loop, as one of its coroutines or as
	// a function of the loop.
	OnLoop() bool

	// Control calls fn with the descriptor, which stays open meanwhile. fn must not wait, nor
	// close it or make it blocking.
	Control(fn func(number uintptr)) error

	// For coroutines.

	// RecvUntil is Recv that waits by a Limit instead of a context and Timeouts: before it waits
	// it asks the Limit, whose error ends it, and Interrupt has it ask again. A context can't do
	// that without a channel, and a goroutine that waits on two channels takes noticeably longer
	// than one that waits on its own.
	RecvUntil(limit Limit, p []byte) (int, error)

	// Interrupt has a RecvUntil that waits ask its Limit again. It doesn't wait, and may be called
	// from anywhere at any time. Other operations that wait for input go on waiting.
	Interrupt()

	// EachPacket calls yield for each packet, as Packets does, until yield returns false. It
	// returns the error that ends the sequence; nil if yield or the end of the stream did.
	EachPacket(ctx context.Context, yield func([]byte, error) bool) error

	// Rest gives back the buffer of the last packet, which isn't valid any more, if nothing else is
	// in it: for a connection that waits for its next use while nobody receives. It doesn't wait,
	// may be called from anywhere, and does nothing while somebody receives.
	Rest()

	// SendExact is SendAll with a count that is exact whatever ends the call: who was stopped by
	// ctx or a time-out may go on with p[n:], and the peer gets each byte once. SendAll can't say
	// that of TLS, whose records are queued whole. SendExact counts what is queued as sent, as one
	// counts what the kernel has queued. It waits for room before it queues, 32 KiB at a time, and
	// what the kernel doesn't take at once is sent by the loop, and by Close.
	SendExact(ctx context.Context, p []byte) (int, error)

	// SendPath is SendFile for the name of a file, which is opened off the loop.
	SendPath(ctx context.Context, name string, offset, length int64) (int64, error)

	// RawRead calls fn with the descriptor until it returns true, and waits for an arrival before
	// each further call. fn must not wait. It sees neither what was read ahead nor what TLS has
	// decrypted.
	RawRead(ctx context.Context, fn func(number uintptr) bool) error

	// RawWrite calls fn with the descriptor until it returns true, and waits for room before each
	// further call. What is queued is sent first. fn must not wait. With TLS it would break into
	// the records, and gets EPROTONOSUPPORT instead.
	RawWrite(ctx context.Context, fn func(number uintptr) bool) error

	// TLS.

	// HelloArrived reports whether an accepted connection's first TLS record, the client's hello,
	// waits in the kernel: on TCP whole, or as much of it as the kernel is sure to have room for,
	// elsewhere any of it. It is also true if what has come is no hello, or nothing more will
	// come: then the handshake says what is wrong.
	HelloArrived() bool

	// SSLHandshakeThrough is SSLHandshake whose computing waits at a gate.
	SSLHandshakeThrough(ctx context.Context, config *tls.Config, gate Gate) error

	// For callbacks.

	// Watch has w told what the socket is ready for: a connection that is served by callbacks
	// needs no coroutine, and while nothing comes no buffer either. nil ends it. What has arrived
	// before is not told: begin with TryRecvPacket. An operation that waits, such as SSLHandshake
	// in a coroutine, gets the event instead of w. Watch, TryRecvPacket, Queue, Push, Arrived and
	// Discard are for the socket's own loop, for a coroutine or a function of it; called elsewhere
	// they return EXDEV.
	Watch(w Watcher) error

	// TryRecvPacket is RecvPacket without waiting: ErrWouldBlock if nothing more has arrived;
	// Readable then tells when there is more. nil, nil says that some has come, but no whole
	// packet yet: call it again, or let others go first. It reads at most once.
	TryRecvPacket() ([]byte, error)

	// Queue queues all of p for sending and doesn't wait: at most limit bytes are queued, beyond
	// that Queue takes nothing and returns ErrQueueFull. (With TLS, up to two per cent more, for
	// the overhead of the records.) No more than 1 GiB is, whatever limit says. What is queued is
	// sent by Push, or when the kernel takes more. A large p goes to the kernel at once if nothing
	// is queued before it. It returns how much is queued then. On a datagram socket, p must be
	// sent by Send or SendTo instead.
	Queue(p []byte, limit int) (queued int, err error)

	// Push gives the kernel what it takes of what is queued, without waiting. It returns the
	// connection's error if that is what it comes to; what is left goes out by itself when the
	// kernel takes more, and Writable tells. It returns how much that is.
	Push() (queued int, err error)

	// Queued returns how many bytes are queued that the kernel hasn't taken yet. It may be called
	// from anywhere, and takes no part in who may send.
	Queued() int

	// Sending reports whether somebody is in an operation that sends. It is for the socket's own
	// loop.
	Sending() bool

	// Arrived copies what waits in the kernel, up to len(p) bytes, and leaves it there: a look at
	// how a peer begins before it is decided who reads it. It passes over what was read ahead, and
	// TLS. ErrWouldBlock says that nothing waits; io.EOF that nothing will.
	Arrived(p []byte) (int, error)

	// Discard takes the first n bytes of what Arrived has shown.
	Discard(n int) error

	// HungUp reports whether the peer has closed its end, or reset the connection, so that nothing
	// comes behind what Arrived has shown. (Urgent data, which nobody expects here, counts as
	// well.)
	HungUp() bool

	// After Close.

	// Delivery returns what a socket that was closed still delivers; nil if there is nothing, or
	// no more. It is for the socket's own loop.
	Delivery() Delivery

	// Unsent returns how many bytes were sent that the peer hasn't acknowledged, or on a Unix
	// socket the kernel hasn't taken. It may be called from anywhere.
	Unsent() int
}
