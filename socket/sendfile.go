package socket

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// sendfileChunk bounds one call of sendfile(2), so that a file doesn't keep a goroutine of Await
// for long.
const sendfileChunk = 1 << 20

// SendFile sends length bytes of a file from offset on; length 0 means to the end of the file. It
// returns how many the kernel has taken, with io.ErrUnexpectedEOF when the file ends early. The
// file's own offset is neither used nor changed.
//
// In plaintext the kernel copies on Linux (sendfile(2)); elsewhere the file is read piece by piece,
// and with TLS encrypted. All this runs on a goroutine of runtime.Await, since it may wait for the
// disk.
func (s *Socket) SendFile(ctx context.Context, file *os.File, offset, length int64) (int64, error) {
	if !s.network.stream() {
		return 0, s.fail("sendfile", syscall.EOPNOTSUPP)
	}
	if offset < 0 || length < 0 {
		return 0, s.fail(
			"sendfile",
			fmt.Errorf("offset %d, length %d: %w", offset, length, syscall.EINVAL),
		)
	}
	f, err := s.acquire(writing)
	if err != nil {
		return 0, s.fail("sendfile", err)
	}
	defer f.leave(writing)
	var sent int64
	if t := s.secure.Load(); t != nil {
		sent, err = s.copyFile(ctx, f, t, file, offset, length)
	} else {
		sent, err = s.sendFile(ctx, f, file, offset, length)
	}
	if err == nil && sent < length {
		err = io.ErrUnexpectedEOF
	}
	return sent, s.fail("sendfile", err)
}

// left returns how much of a file is still to be sent, limited to chunk.
func left(length, sent int64, chunk int) int {
	if length == 0 {
		return chunk
	}
	return int(min(length-sent, int64(chunk)))
}

func (s *Socket) sendFile(
	ctx context.Context,
	f *fd,
	file *os.File,
	offset, length int64,
) (int64, error) {
	if err := f.drain(ctx, s.patience()); err != nil {
		return 0, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sent int64
	for length == 0 || sent < length {
		n, err := f.transmit(ctx, s.patience(), func() (int, error) {
			return sched.AwaitEnd(ctx, func() (int, error) {
				return sendfileOnce(f.number, raw, offset+sent, left(length, sent, sendfileChunk))
			})
		})
		sent += int64(n)
		if err != nil || n == 0 { // 0: the end of the file
			return sent, err
		}
		if err := ctx.Err(); err != nil {
			return sent, err
		}
		if err := f.cause(); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func sendfileOnce(out int, in syscall.RawConn, offset int64, count int) (n int, err error) {
	controlErr := in.Control(func(number uintptr) {
		var errno syscall.Errno
		for {
			n, errno = sysSendfile(out, int(number), &offset, count)
			if errno != syscall.EINTR {
				break
			}
		}
		err = sendError("sendfile", errno)
	})
	if controlErr != nil {
		return 0, controlErr
	}
	return n, err
}

func (s *Socket) copyFile(
	ctx context.Context,
	f *fd,
	t *secure,
	file *os.File,
	offset, length int64,
) (int64, error) {
	buf := borrow()
	defer giveBack(buf)
	var sent int64
	for length == 0 || sent < length {
		n, err := sched.AwaitEnd(ctx, func() (int, error) {
			return file.ReadAt(buf[:left(length, sent, len(buf))], offset+sent)
		})
		if n > 0 {
			m, sendErr := t.send(ctx, f, buf[:n], s.patience())
			sent += int64(m)
			if sendErr != nil {
				return sent, sendErr
			}
		}
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (i *inner) SendPath(ctx context.Context, name string, offset, length int64) (int64, error) {
	s := (*Socket)(i)
	f, err := s.acquire(writing) // who can't send needs no file
	if err != nil {
		return 0, s.fail("sendfile", err)
	}
	f.leave(writing)
	file, err := runtime.Await(ctx, func() (*os.File, error) { return openFile(name) })
	if err != nil {
		return 0, &net.OpError{Op: "sendfile", Net: s.network.name, Addr: s.RemoteAddr(), Err: err}
	}
	defer file.Close()
	return s.SendFile(ctx, file, offset, length)
}

// openFile opens a file to be sent. A directory can be opened, but not sent, and sendfile(2)
// wouldn't say that this is why.
func openFile(name string) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = &os.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
