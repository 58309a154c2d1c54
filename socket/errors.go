package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

var (
	// ErrBusy is returned to a second reader, or a second writer, of a socket: one of each is
	// allowed at a time.
	ErrBusy = errors.New("another caller is in the same operation")

	// ErrCanceled is returned by an operation that Cancel has ended. It is also context.Canceled.
	ErrCanceled error = canceledError{}

	// ErrWouldBlock is returned by Peek, and by others that don't wait, when there is nothing yet.
	ErrWouldBlock = errors.New("nothing has arrived yet")

	// ErrQueueFull is returned by what queues without waiting, in packages that stand on this one,
	// when the peer takes less than it is sent and as much is queued as may be. Nothing was taken.
	ErrQueueFull = errors.New("the output queue is full")

	// ErrNotConnected is returned by what needs a connection, or a bound address, before there is
	// one. It is also syscall.ENOTCONN.
	ErrNotConnected error = stateError{"not connected", syscall.ENOTCONN}

	// ErrConnected is returned by Connect on a socket that is connected. It is also
	// syscall.EISCONN.
	ErrConnected error = stateError{"already connected", syscall.EISCONN}

	// ErrPlaintextPending is returned by SSLHandshake while bytes that arrived in plaintext have
	// not been read: whoever put them there could pass them off as the other side's words over TLS
	// (CVE-2011-0411 and its kin). No handshake has begun.
	ErrPlaintextPending = errors.New("plaintext is still unread; TLS must not start behind it")

	// ErrSSLActive is returned by SSLHandshake on a socket that uses TLS, or has tried to.
	ErrSSLActive = errors.New("TLS is active already")

	// ErrTruncated is returned when the peer has closed the connection without the close_notify
	// that TLS asks for (RFC 8446, section 6.1): what was received may have been cut short by
	// somebody else. It is also io.EOF and io.ErrUnexpectedEOF.
	ErrTruncated error = truncatedError{}

	// ErrPathTooLong is returned for a Unix socket path that doesn't fit a socket address: 107
	// bytes on Linux, 103 elsewhere.
	ErrPathTooLong = errors.New("path of Unix socket is longer than 107 bytes (103 on macOS and BSD)")

	// ErrLineTooLong is returned by RecvLine when max bytes hold no line end.
	ErrLineTooLong = errors.New("line too long")
)

// stateError says in our words what the system has a number for.
type stateError struct {
	text  string
	errno syscall.Errno
}

func (e stateError) Error() string { return e.text }
func (e stateError) Unwrap() error { return e.errno }

type canceledError struct{}

func (canceledError) Error() string        { return "operation canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

type truncatedError struct{}

func (truncatedError) Error() string { return "connection closed without close_notify" }
func (truncatedError) Is(target error) bool {
	return target == io.EOF || target == io.ErrUnexpectedEOF
}

// fail wraps an error with the operation and the addresses. io.EOF stays as it is, as readers of Go
// expect; so does what is wrapped already. What the system says of a connection that Close has just
// ended, such as EPIPE to who was sending, is net.ErrClosed.
func (s *Socket) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := err.(*net.OpError); ok {
		return err
	}
	if _, system := err.(*os.SyscallError); system {
		if f := s.conn.Load(); f != nil && f.closed() {
			err = f.cause()
		}
	}
	return &net.OpError{
		Op:     op,
		Net:    s.network.name,
		Source: s.localForError(),
		Addr:   s.remoteForError(),
		Err:    err,
	}
}

func (s *Socket) localForError() net.Addr {
	if s.dialed.Load() != nil { // the name that was asked for says more than where it comes from
		return nil
	}
	return s.LocalAddr()
}

func (s *Socket) remoteForError() net.Addr {
	if a := s.dialed.Load(); a != nil {
		return a
	}
	return s.RemoteAddr()
}
