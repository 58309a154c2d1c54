// Package house is what the packages of this module do with a socket and its users can't: serve it
// by callbacks, begin an accepted connection on another loop, look at what has arrived before it is
// read. socket.House returns it of a [socket.Socket].
package house

import (
	"context"
	"net/netip"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
)

// A Key is what socket.House wants to see. Nobody outside the module can make one: neither the
// package nor a struct with its field is theirs.
type Key struct{ _ struct{} }

// A Watcher is told what a socket is ready for, on the socket's loop, instead of a coroutine that
// waits; see [Socket.Watch].
type Watcher interface {
	// Readable says that something has arrived, or the peer has closed, since the last
	// TryRecvPacket that returned ErrWouldBlock.
	Readable()
	// Writable says that the kernel has taken more of what Queue has queued, or all of it, or that
	// the connection has failed.
	Writable()
}

// Incoming is a connection that was accepted and is on no loop yet. It is either begun, on the loop
// that is to have it, or dropped.
type Incoming struct {
	// Remote is the peer's address; not valid for a Unix socket.
	Remote netip.AddrPort

	Listener Socket // for Begin
	Number   int    // of the descriptor, which Begin or Drop takes
}

// Drop closes the connection; the peer sees a reset if it has sent something.
func (in Incoming) Drop() { unix.Close(in.Number) }

// A Gate bounds how many handshakes compute at a time. Who waits for the peer is not inside: a peer
// that says nothing keeps nobody out. Its methods are called where the handshake runs.
type Gate interface {
	// Enter waits until the handshake may compute. Its error ends the handshake.
	Enter(ctx context.Context, deadline sched.Deadline) error
	// Leave follows Enter: the handshake has ended, or waits for the peer, after which it enters
	// again.
	Leave()
}

// Limit is a reason to stop waiting that comes and goes, such as a deadline that is moved. Err
// returns nil while there is none; it may be called from anywhere.
type Limit interface{ Err() error }

// NoWait is a context by which no operation waits: one that would returns ErrWouldBlock instead,
// with what it has done by then, as system calls do with MSG_DONTWAIT. Operations know it only if
// it isn't derived from.
type NoWait struct{ context.Context }

// Delivery delivers what a socket has sent before it was closed. Its methods are for the socket's
// loop.
type Delivery interface {
	// Then has d told of the end, in place of the log.
	Then(d Delivered)
	// Queued returns how many bytes that the peer hasn't taken are queued here, and not in the
	// kernel.
	Queued() int
	// Silent returns for how long the peer has taken nothing, as far as was noticed.
	Silent() time.Duration
	// Cut ends the delivery with a reset, and says why.
	Cut(why error)
}

// Delivered is told of the end of a Delivery.
type Delivered interface {
	// Delivered is called on the socket's loop when the descriptor is closed. cut is nil if the
	// peer has everything, or has reset the connection itself, and otherwise says why it was cut
	// off. left is how many bytes it hadn't taken.
	Delivered(left int, cut error)
}
