package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// unixFile is the file of a Unix socket.
type unixFile struct {
	path string
	info fs.FileInfo
}

// clearStale removes the file of a Unix socket on which nobody listens any more, as a process leaves it that was killed. Anything else at the path stays, and binding will
// say so.
func clearStale(network, path string) error {
	info, err := os.Lstat(path)
	if strings.HasPrefix(path, "@") || err != nil || info.Mode().Type() != fs.ModeSocket {
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
	if err := syscall.SetNonblock(fd, true); err != nil { // one with a full backlog must not keep us waiting
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

// keepUnixFile sets the mode of the file that was just bound and remembers it; nil for a name in the abstract namespace.
func keepUnixFile(path string, mode fs.FileMode) (*unixFile, error) {
	if strings.HasPrefix(path, "@") || path == "" {
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

// remove removes the file, unless it is another's by now.
func (f *unixFile) remove() {
	if f == nil {
		return
	}
	if info, err := os.Lstat(f.path); err == nil && os.SameFile(info, f.info) {
		os.Remove(f.path)
	}
}
