package hooks

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/whorl-go/whorl/runtime"
)

// chunk is how much ReadFrom and WriteTo move at a time.
const chunk = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// ReadFrom writes what it reads from r, up to io.EOF, and returns how much it has written; io.Copy
// uses it. A regular file, also behind an *io.LimitedReader, is sent by the kernel (sendfile(2)),
// as one Write as far as other writers are concerned, and its offset moves on. Reading from a file
// doesn't hold the loop; any other r is called where ReadFrom is, and must not block in a
// coroutine.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	limited, _ := r.(*io.LimitedReader)
	source := r
	if limited != nil {
		source = limited.R
	}
	from, ok := source.(file)
	if !ok {
		return transfer(c.Write, r.Read)
	}
	if _, secure := c.ConnectionState(); !secure && c.network != "unixpacket" {
		if n, handled, err := c.sendFile(from, limited); handled {
			return n, err
		}
	}
	ctx := c.wr.limit.context(c.wr.limit.period())
	return transfer(c.Write, func(p []byte) (int, error) {
		return runtime.Await(ctx, func() (int, error) { return r.Read(p) })
	})
}

// file is an *os.File, or what *os.File.WriteTo, which io.Copy calls first, wraps it into.
type file interface {
	io.ReadSeeker
	Stat() (os.FileInfo, error)
	SyscallConn() (syscall.RawConn, error)
}

// sendFile sends a file by sendfile(2). handled is false, and nothing was done, if it is not a
// regular one: a pipe has no offset.
func (c *Conn) sendFile(from file, limited *io.LimitedReader) (n int64, handled bool, err error) {
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, false, nil
	}
	offset, err := from.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, false, nil
	}
	length := int64(0) // to the end
	if limited != nil {
		if length = limited.N; length <= 0 {
			return 0, true, nil
		}
	}
	opened, ok := from.(*os.File)
	if !ok {
		raw, err := from.SyscallConn()
		if err == nil {
			opened, err = duplicate(raw.Control, "file")
		}
		if err != nil {
			return 0, false, nil
		}
		defer opened.Close()
	}
	ctx, err := c.wr.enterContext()
	if err != nil {
		return 0, true, c.fail("write", err)
	}
	defer c.wr.turn.Unlock()
	n, err = c.socket.SendFile(ctx, opened, offset, length)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the file is shorter than the limit
	}
	if limited != nil {
		limited.N -= n
	}
	if _, seekErr := from.Seek(offset+n, io.SeekStart); err == nil {
		err = seekErr
	}
	return n, true, c.fail("write", err)
}

// WriteTo writes what it reads to w, up to io.EOF, and returns how much that was; io.Copy uses it.
// w is called where WriteTo is, and must not block in a coroutine. What w refuses is lost.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return transfer(w.Write, c.Read) }

// transfer writes what it reads.
func transfer(write, read func(p []byte) (int, error)) (int64, error) {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	var written int64
	for {
		n, readErr := read(buf[:])
		if n > 0 {
			m, err := write(buf[:n])
			written += int64(m)
			if err == nil && m < n {
				err = io.ErrShortWrite
			}
			if err != nil {
				return written, err
			}
		}
		if readErr == io.EOF {
			return written, nil
		}
		if readErr != nil {
			return written, readErr
		}
	}
}
