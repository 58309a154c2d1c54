//go:build unix

package eventloop_test

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// flags has the other end of each flag.
var flags sync.Map

// newFlag opens a descriptor that one can make readable with raise: an end of a pair of sockets.
func newFlag(t testing.TB) int {
	t.Helper()
	fd, peer := newSocketPair(t)
	flags.Store(fd, peer)
	return fd
}

// raise makes a flag readable.
func raise(t testing.TB, fd int) {
	t.Helper()
	peer, _ := flags.Load(fd)
	if _, err := unix.Write(peer.(int), []byte("x")); err != nil {
		t.Errorf("raise flag %d: %v", fd, err)
	}
}

// lower makes a flag unreadable again and reports whether it was readable.
func lower(fd int) bool {
	_, err := unix.Read(fd, make([]byte, 64))
	return err == nil
}

// newSocketPair returns two connected stream sockets.
func newSocketPair(t testing.TB) (a, b int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	return nonblocking(t, pair)
}

func newPipe(t testing.TB) (r, w int) {
	t.Helper()
	var pair [2]int
	if err := unix.Pipe(pair[:]); err != nil {
		t.Fatal(err)
	}
	return nonblocking(t, pair)
}

func nonblocking(t testing.TB, pair [2]int) (a, b int) {
	t.Helper()
	for _, fd := range pair {
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
	return pair[0], pair[1]
}
