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

// BareEcho says what the bare echo does beside sending back what comes.
type BareEcho struct {
	// Spin keeps it awake for a while when nothing comes, so that a client doesn't pay for waking
	// it: about a microsecond in each of its writes, an interrupt to another CPU. It needs CPUs of
	// its own.
	Spin bool
	// Burn is for how long it keeps its CPU busy with each message. A client then has to wait for
	// it.
	Burn time.Duration
}

// awake is how long an echo that spins goes on looking after the last message. The sides of clients
// that aren't measured at the moment sleep.
const awake = 2 * time.Millisecond

// room is how much is read at a time, in bytes.
const room = 64 << 10

// ServeBareEcho is an epoll per CPU with nothing else in between, at the addresses of [Address].
// The first one accepts, and deals the connections out. It calls ready once connections are
// accepted, and returns only with an error; it is a process's whole work.
func ServeBareEcho(config BareEcho, ready func(net.Addr)) error {
	listeners, err := listenAll()
	if err != nil {
		return err
	}
	loops := make([]*echoLoop, runtime.GOMAXPROCS(0))
	for i := range loops {
		if loops[i], err = newEchoLoop(config); err != nil {
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

// listenAll listens on one port of all the addresses. The first listener gets a free port, which
// another process may have on one of the other addresses: it then fails.
func listenAll() (all []listener, err error) {
	port := 0
	for i := range addresses {
		l, err := listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i)), Port: port})
		if err != nil {
			return nil, err
		}
		all = append(all, l)
		port = l.Addr().(*net.TCPAddr).Port
	}
	return all, nil
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
	err = errors.Join(unix.Bind(l.fd, &unix.SockaddrInet4{Addr: [4]byte(at.IP.To4()),
		Port: at.Port}), unix.Listen(l.fd, 4096))
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
	config    BareEcho
	events    [128]unix.EpollEvent
	buf       [room]byte
	listeners []listener  // of the first loop
	all       []*echoLoop // the same
	next      int
}

func newEchoLoop(config BareEcho) (*echoLoop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &echoLoop{epoll: epoll, config: config}, err
}

func (l *echoLoop) watch(fd int) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN,
		Fd: int32(fd)})
}

func (l *echoLoop) run() error {
	runtime.LockOSThread()
	last := time.Now()
	for {
		wait := -1
		if l.config.Spin && time.Since(last) < awake {
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

// bounce sends back what has come. With one message outstanding on each connection there is always
// room for it; a client for which there isn't is dropped, and will say so.
func (l *echoLoop) bounce(fd int) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&l.buf)),
		room)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno == 0 && n > 0 {
		if burn := l.config.Burn; burn > 0 {
			for begun := time.Now(); time.Since(begun) < burn; {
			}
		}
		if sent, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd),
			uintptr(unsafe.Pointer(&l.buf)), n); errno == 0 && sent == n {
			return
		}
	}
	unix.Close(fd)
}
