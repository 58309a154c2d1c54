//go:build linux

package farside

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// awake is how long an echo that spins goes on looking after the last message. The sides of clients that aren't measured at the moment sleep.
const awake = 2 * time.Millisecond

// serveEcho is an epoll per CPU with nothing else in between. The first one accepts, and deals the connections out.
func serveEcho(spin bool, ready func(net.Addr)) error {
	listeners, err := listenAll(listen)
	if err != nil {
		return err
	}
	loops := make([]*echoLoop, runtime.GOMAXPROCS(0))
	for i := range loops {
		if loops[i], err = newEchoLoop(spin); err != nil {
			return err
		}
	}
	loops[0].listeners, loops[0].all = listeners, loops
	for _, l := range listeners {
		if err := loops[0].watch(l.fd); err != nil {
			return err
		}
	}
	ready(listeners[0].addr)
	ended := make(chan error, len(loops))
	for _, l := range loops {
		go func() { ended <- l.run() }()
	}
	return <-ended
}

// listener is a descriptor and its address.
type listener struct {
	fd   int
	addr net.Addr
}

func (l listener) Addr() net.Addr { return l.addr }

func listen(at *net.TCPAddr) (l listener, err error) {
	l.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return l, err
	}
	err = errors.Join(unix.Bind(l.fd, &unix.SockaddrInet4{Addr: [4]byte(at.IP.To4()), Port: at.Port}), unix.Listen(l.fd, 4096))
	if err != nil {
		return l, err
	}
	own, err := unix.Getsockname(l.fd)
	if err != nil {
		return l, err
	}
	l.addr = &net.TCPAddr{IP: at.IP, Port: own.(*unix.SockaddrInet4).Port}
	return l, nil
}

type echoLoop struct {
	epoll     int
	spin      bool
	events    [128]unix.EpollEvent
	buf       [room]byte
	listeners []listener  // of the first loop
	all       []*echoLoop // the same
	next      int
}

func newEchoLoop(spin bool) (*echoLoop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &echoLoop{epoll: epoll, spin: spin}, err
}

func (l *echoLoop) watch(fd int) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *echoLoop) run() error {
	runtime.LockOSThread()
	last := time.Now()
	for {
		wait := -1
		if l.spin && time.Since(last) < awake {
			wait = 0
		}
		n, err := unix.EpollWait(l.epoll, l.events[:], wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 || wait < 0 {
			last = time.Now()
		}
		for _, event := range l.events[:max(n, 0)] {
			fd := int(event.Fd)
			if !slices.ContainsFunc(l.listeners, func(l listener) bool { return l.fd == fd }) {
				l.bounce(fd)
			} else if err := l.accept(fd); err != nil {
				return err
			}
		}
	}
}

func (l *echoLoop) accept(from int) error {
	for {
		fd, _, err := unix.Accept4(from, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("farside: accepting: %w", err)
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := l.all[l.next%len(l.all)].watch(fd); err != nil {
			return err
		}
		l.next++
	}
}

// bounce sends back what has come. With one message outstanding on each connection there is always room for it; a client for which there isn't is dropped, and
// will say so.
func (l *echoLoop) bounce(fd int) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&l.buf)), room)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno == 0 && n > 0 {
		if sent, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&l.buf)), n); errno == 0 && sent == n {
			return
		}
	}
	unix.Close(fd)
}
