package hooks

import (
	"context"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/unix"
)

// SyscallConn gives access to the descriptor, as package syscall defines it. Read and Write call f
// until it returns true and wait in between, within the connection's deadlines and in its turn;
// they pass over TLS, so Write refuses it. f must not wait, nor close the descriptor or make it
// blocking.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return &rawConn{c}, nil }

type rawConn struct{ conn *conn }

func (r *rawConn) Control(f func(fd uintptr)) error {
	return r.conn.fail("raw-control", inner(r.conn.socket).Control(f))
}

func (r *rawConn) Read(f func(fd uintptr) bool) error {
	return r.conn.raw("raw-read", &r.conn.rd, inner(r.conn.socket).RawRead, f)
}

func (r *rawConn) Write(f func(fd uintptr) bool) error {
	return r.conn.raw("raw-write", &r.conn.wr, inner(r.conn.socket).RawWrite, f)
}

func (c *conn) raw(
	op string,
	side *side,
	call func(context.Context, func(uintptr) bool) error,
	f func(uintptr) bool,
) error {
	ctx, err := side.enterContext()
	if err != nil {
		return c.fail(op, err)
	}
	defer side.turn.Unlock()
	return c.fail(op, call(ctx, f))
}

// SyscallConn gives access to the descriptor. Only Control is of use; Read and Write return
// EOPNOTSUPP, as nothing can be read from a listener.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	return &descriptor{
		func(f func(fd uintptr)) error { return l.fail("raw-control", inner(l.socket).Control(f)) },
	}, nil
}

// descriptor is a RawConn that has Control only.
type descriptor struct {
	control func(f func(fd uintptr)) error
}

// newDescriptor is for a descriptor that stays open while it is used.
func newDescriptor(number uintptr) *descriptor {
	return &descriptor{func(f func(fd uintptr)) error { f(number); return nil }}
}

func (d *descriptor) Control(f func(fd uintptr)) error { return d.control(f) }
func (d *descriptor) Read(func(uintptr) bool) error    { return syscall.EOPNOTSUPP }
func (d *descriptor) Write(func(uintptr) bool) error   { return syscall.EOPNOTSUPP }

// File returns a duplicate of the descriptor; closing one doesn't close the other. Both are
// non-blocking, and options are common to both. It is for handing the connection to another
// process. What Whorl has queued or decrypted doesn't come with it.
func (c *conn) File() (*os.File, error) {
	file, err := duplicate(inner(c.socket).Control, c.network)
	return file, c.fail("file", err)
}

// File returns a duplicate of the descriptor, for another process that is to accept from it.
func (l *Listener) File() (*os.File, error) {
	file, err := duplicate(inner(l.socket).Control, l.network)
	return file, l.fail("file", err)
}

// duplicate makes a file of a duplicate of the descriptor that control gives access to.
func duplicate(control func(func(fd uintptr)) error, name string) (*os.File, error) {
	var number int
	var dupErr error
	if err := control(func(fd uintptr) { number, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(number), name), nil
}
