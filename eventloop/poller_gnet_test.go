//go:build linux && gnetpoll && !poll_opt

package eventloop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// poll(2) of macOS calls the end of either direction a hang-up, says nothing of writing beside it,
// and doesn't know POLLRDHUP. The poller is the same on it.
func TestPollerOnThePollOfMacOS(t *testing.T) {
	ours, peerClosed := sysPoll, pollPeerClosed
	defer func() { sysPoll, pollPeerClosed = ours, peerClosed }()
	sysPoll, pollPeerClosed = macPoll, 0
	TestPoller(t)
}

// macPoll is poll_callback of bsd/kern/sys_generic.c in xnu: each direction that is asked for is an
// event of kqueue(2), and that of reading comes first.
func macPoll(look []unix.PollFd, _ int) (ready int, err error) {
	const input = unix.POLLIN | unix.POLLPRI
	for i := range look {
		asked := look[i].Events
		is := []unix.PollFd{{Fd: look[i].Fd, Events: unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP}}
		if _, err := unix.Poll(is, 0); err != nil {
			return 0, err
		}
		was, says := is[0].Revents, int16(0)
		if asked&input != 0 {
			says |= asked & was & unix.POLLIN
			if was&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
				says |= unix.POLLHUP | asked&input
			}
		}
		if asked&unix.POLLOUT != 0 {
			if was&(unix.POLLHUP|unix.POLLERR) != 0 {
				says |= unix.POLLHUP
			}
			if says&unix.POLLHUP == 0 {
				says |= was & unix.POLLOUT
			}
		}
		if look[i].Revents = says; says != 0 {
			ready++
		}
	}
	return ready, nil
}
