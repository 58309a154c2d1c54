//go:build linux

package load

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MinSize is the least size of a message, in bytes: that of the number that it begins with.
const MinSize = 8

// conn is one connection to the server.
type conn struct {
	stream io.ReadWriter // the descriptor, or TLS over it
	fd     *descriptor
	seq    uint64 // number of the message that is outstanding
	got    int    // bytes of it that are back
}

// dial connects, shakes hands, and sends the first message, which must come back byte by byte.
func dial(o Options, from [4]byte) (*conn, error) {
	fd, err := connect(o, from)
	if err != nil {
		return nil, fmt.Errorf("load: connecting to %v from %v: %w", o.Addr, net.IP(from[:]), err)
	}
	c := &conn{stream: fd, fd: fd}
	if o.TLS != nil {
		c.stream = tls.Client(fd, o.TLS)
	}
	message := make([]byte, o.Size)
	for i := range message {
		message[i] = byte(i * 31)
	}
	binary.NativeEndian.PutUint64(message, c.seq)
	echo := make([]byte, o.Size)
	if _, err = c.stream.Write(message); err == nil {
		_, err = io.ReadFull(c.stream, echo)
	}
	if err == nil && !bytes.Equal(message, echo) {
		err = errors.New("the first message came back changed")
	}
	if err != nil {
		fd.Close()
		return nil, fmt.Errorf("load: first message to %v: %w", o.Addr, err)
	}
	fd.blocking = false
	return c, nil
}

func connect(o Options, from [4]byte) (*descriptor, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &descriptor{fd: fd, blocking: true, patience: o.Patience}
	for _, option := range []struct{ level, name int }{{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT}} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, 1); err != nil {
			d.Close()
			return nil, err
		}
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: from})
	if err == nil {
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: o.Addr.Addr().As4(), Port: int(o.Addr.Port())}); errors.Is(err, unix.EINPROGRESS) {
			if err = d.wait(unix.POLLOUT); err == nil {
				var code int
				if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
					err = unix.Errno(code)
				}
			}
		}
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// descriptor reads and writes a socket with nothing in between. As long as it is blocking it waits for what doesn't come at once; afterwards Read
// returns errAgain, over which crypto/tls keeps its state.
type descriptor struct {
	fd       int
	blocking bool
	patience time.Duration
}

// errAgain says that nothing more has come yet.
var errAgain error = again{}

type again struct{}

func (again) Error() string   { return "load: nothing to read" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

func (d *descriptor) Read(p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && !d.blocking:
			return 0, errAgain
		case errno == unix.EAGAIN:
			if err := d.wait(unix.POLLIN); err != nil {
				return 0, err
			}
		case errno != 0:
			return 0, errno
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// Write takes everything, as crypto/tls can't repeat a write. With one message outstanding there is room for it, so it does not wait.
func (d *descriptor) Write(p []byte) (written int, err error) {
	for written < len(p) {
		rest := p[written:]
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)))
		switch errno {
		case 0:
			written += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			if err := d.wait(unix.POLLOUT); err != nil {
				return written, err
			}
		default:
			return written, errno
		}
	}
	return written, nil
}

func (d *descriptor) wait(event int16) error {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: event}}
	for deadline := time.Now().Add(d.patience); ; {
		n, err := unix.Poll(fds, int(max(time.Until(deadline), 0).Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err == nil:
			return fmt.Errorf("the server did nothing for %v: %w", d.patience, os.ErrDeadlineExceeded)
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

func (d *descriptor) Close() error {
	if err := unix.SetsockoptLinger(d.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return errors.Join(err, unix.Close(d.fd))
	}
	return unix.Close(d.fd)
}

// The rest of net.Conn: crypto/tls asks for it. Deadlines aren't used, as wait has its own.

func (d *descriptor) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (d *descriptor) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (d *descriptor) SetDeadline(time.Time) error      { return nil }
func (d *descriptor) SetReadDeadline(time.Time) error  { return nil }
func (d *descriptor) SetWriteDeadline(time.Time) error { return nil }
