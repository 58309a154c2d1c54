package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
)

// unixFile is the file of a Unix socket.
//
// Whoever looks whether somebody listens there, and then removes the file and binds, has locked the
// folder meanwhile (flock(2)), so of two that start on one path none removes what the other has
// just made. A folder that can't be locked, as the process may not read it or its file system
// doesn't have it, is used as it is.
type unixFile struct {
	path string
	info fs.FileInfo
}

// abstract reports whether a name is one of the abstract namespace, which has no files.
func abstract(path string) bool { return strings.HasPrefix(path, "@") || path == "" }

// lockPatience bounds the wait for the folder: others need it for an instant.
const lockPatience = 5 * time.Second

// lockFolder locks the folder of a Unix socket.
func lockFolder(ctx context.Context, path string) (unlock func(), err error) {
	if abstract(path) {
		return func() {}, nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return func() {}, nil // binding will say what is wrong, if anything is
	}
	for deadline := time.Now().Add(lockPatience); ; {
		err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return func() { folder.Close() }, nil
		}
		if time.Now().After(deadline) {
			folder.Close()
			return nil, fmt.Errorf("%s: somebody keeps it locked: %w", folder.Name(), err)
		}
		if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
			folder.Close()
			return nil, err
		}
	}
}

// clearStale removes the file of a Unix socket on which nobody listens any more, as a process
// leaves it that was killed. Anything else at the path stays, and binding will say so.
func clearStale(network, path string) error {
	info, err := os.Lstat(path)
	if abstract(path) || err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil
	}
	kind := syscall.SOCK_STREAM
	if network == "unixgram" {
		kind = syscall.SOCK_DGRAM
	}
	syscall.ForkLock.RLock() // no child may inherit it
	fd, err := syscall.Socket(syscall.AF_UNIX, kind, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	// One with a full backlog must not keep us waiting.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case err == nil, errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%s: another process listens there: %w", path, syscall.EADDRINUSE)
	}
	return nil
}

// keepUnixFile sets the mode of the file that was just bound and remembers it; nil for a name in
// the abstract namespace.
func keepUnixFile(path string, mode fs.FileMode) (*unixFile, error) {
	if abstract(path) {
		return nil, nil
	}
	if mode != 0 {
		if err := os.Chmod(path, mode); err != nil {
			return nil, err
		}
	}
	info, err := os.Lstat(path)
	return &unixFile{path, info}, err
}

// remove removes the file, unless it is another's by now. It comes before the socket is closed: as
// long as that listens, nobody takes the file for a stale one.
func (f *unixFile) remove() {
	if f == nil {
		return
	}
	info, err := os.Lstat(f.path)
	// Numbers of files are used again.
	if err == nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) {
		os.Remove(f.path)
	}
}
