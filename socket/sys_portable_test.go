//go:build unix && (!linux || gnetpoll)

package socket

import (
	"testing"

	"golang.org/x/sys/unix"
)

// macOS has no SO_ACCEPTCONN for getsockopt(2), which Adopt asks for.
func TestListenersWithoutAnOptionThatTells(t *testing.T) {
	const none = 0x7ffe
	listener, to := listenHere(t)
	pair, err := sysPair(unix.SOCK_DGRAM)
	ok(t, err)
	closeLater(t, pair[:]...)
	unbound, err := sysSocket(unix.AF_INET, unix.SOCK_DGRAM)
	ok(t, err)
	closeLater(t, unbound)
	for fd, want := range map[int]bool{listener: true, dialHere(t, to): false, pair[0]: false, unbound: false} {
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		ok(t, err)
		if listening, err := listens(fd, kind, none); err != nil || listening != want {
			t.Error(listening, want, err)
		}
	}
}

// Where the loop isn't told that the peer has closed, a short read must not keep the next one from
// looking: the end may have come together with the data.
func TestAShortReadIsNoProofWhereTheEndIsNotTold(t *testing.T) {
	before := endIsTold
	defer func() { endIsTold = before }()
	for _, told := range []bool{true, false} {
		endIsTold = told
		a, b := connectionHere(t)
		sysSend(a, []byte("short"))
		readable(t, b)
		f := &fd{number: b, stream: true, short: true}
		if n, err := f.tryRead(make([]byte, 100)); n != 5 || err != nil || f.rd.drained != told {
			t.Error(n, err, f.rd.drained)
		}
	}
}
