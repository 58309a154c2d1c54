//go:build !gnetpoll

package socket

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that read and write go by RawSyscall: the descriptors are non-blocking, so the
// scheduler needn't be told.

func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(
		unix.SYS_READ,
		uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)),
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysSend sends without raising SIGPIPE.
func sysSend(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(
		unix.SYS_SENDTO,
		uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT,
		0,
		0,
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysPeek reads without taking: MSG_PEEK.
func sysPeek(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(
		unix.SYS_RECVFROM,
		uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)),
		unix.MSG_PEEK|unix.MSG_DONTWAIT,
		0,
		0,
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysMessageSize asks how long the next message of a datagram socket is; 0 if there is none.
func sysMessageSize(fd int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0,
		unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func iovecs(bufs [][]byte) []unix.Iovec {
	vecs := make([]unix.Iovec, len(bufs))
	for i, b := range bufs {
		vecs[i].Base = unsafe.SliceData(b)
		vecs[i].SetLen(len(b))
	}
	return vecs
}

func sysReadv(fd int, bufs [][]byte) (int, syscall.Errno) {
	vecs := iovecs(bufs)
	n, _, errno := unix.RawSyscall(
		unix.SYS_READV,
		uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(vecs))),
		uintptr(len(vecs)),
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sysSendv(fd int, bufs [][]byte) (int, syscall.Errno) {
	vecs := iovecs(bufs)
	msg := unix.Msghdr{Iov: unsafe.SliceData(vecs)}
	msg.SetIovlen(len(vecs))
	n, _, errno := unix.RawSyscall(
		unix.SYS_SENDMSG,
		uintptr(fd),
		uintptr(unsafe.Pointer(&msg)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT,
	)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysSendfile is sendfile(2). It may wait for the disk, so it must not run on a loop.
func sysSendfile(out, in int, offset *int64, count int) (int, syscall.Errno) {
	n, err := unix.Sendfile(out, in, offset, count)
	return max(n, 0), errnoOf(err)
}

func sysSocket(family, kind int) (int, error) {
	fd, _, errno := unix.RawSyscall(
		unix.SYS_SOCKET,
		uintptr(family),
		uintptr(kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC),
		0,
	)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	return int(fd), nil
}

// sysSetOption is setsockopt(2) for an option whose failure makes no difference.
func sysSetOption(fd, level, name, value int) {
	number := int32(value)
	unix.RawSyscall6(
		unix.SYS_SETSOCKOPT,
		uintptr(fd),
		uintptr(level),
		uintptr(name),
		uintptr(unsafe.Pointer(&number)),
		unsafe.Sizeof(number),
		0,
	)
}

// sysResetOnClose has close(2) drop what is still under way, and reset a TCP connection.
func sysResetOnClose(fd int) {
	linger := unix.Linger{Onoff: 1}
	unix.RawSyscall6(
		unix.SYS_SETSOCKOPT,
		uintptr(fd),
		unix.SOL_SOCKET,
		unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)),
		unsafe.Sizeof(linger),
		0,
	)
}

// sysLocalPort returns the port that an Internet socket is bound to.
func sysLocalPort(fd int) (port uint16, ok bool) {
	var address unix.RawSockaddrInet6 // the port of an IPv4 address has the same place
	size := uint32(unsafe.Sizeof(address))
	_, _, errno := unix.RawSyscall(
		unix.SYS_GETSOCKNAME,
		uintptr(fd),
		uintptr(unsafe.Pointer(&address)),
		uintptr(unsafe.Pointer(&size)),
	)
	return networkOrder(address.Port), errno == 0
}

// networkOrder returns a number of 16 bits in the order of the network that was in the machine's,
// and the other way round.
func networkOrder(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(make([]byte, 0, 2), n))
}

func sysPair(kind int) ([2]int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return pair, os.NewSyscallError("socketpair", err)
}

// sysAccept returns a new connection and, unless it is one of a Unix socket, where it comes from.
func sysAccept(fd int) (int, netip.AddrPort, syscall.Errno) {
	child, from, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return child, netip.AddrPort{}, errnoOf(err)
	}
	return child, addrPortOf(from), 0
}

func sysConnect(fd int, to unix.Sockaddr) syscall.Errno {
	switch to := to.(type) {
	case *unix.SockaddrInet4:
		raw := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(uint16(to.Port)), Addr: to.Addr}
		return rawConnect(fd, unsafe.Pointer(&raw), unsafe.Sizeof(raw))
	case *unix.SockaddrInet6:
		raw := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(uint16(to.Port)), Addr: to.Addr, Scope_id: to.ZoneId}
		return rawConnect(fd, unsafe.Pointer(&raw), unsafe.Sizeof(raw))
	}
	return errnoOf(unix.Connect(fd, to))
}

// sysConnected asks what has come of a connect(2) that goes on, by another one: 0 or EISCONN when
// the connection stands, EALREADY when it goes on still, or why it has failed.
func sysConnected(fd int, to unix.Sockaddr) syscall.Errno { return sysConnect(fd, to) }

func rawConnect(fd int, to unsafe.Pointer, size uintptr) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(to), size)
	return errno
}

// sysVacate closes what the number stands for, and keeps the number in use.
func sysVacate(fd int) {
	if idle, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err == nil {
		unix.Dup3(idle, fd, unix.O_CLOEXEC)
		unix.Close(idle)
	}
}

// sysUnread asks how many bytes wait in the kernel's receive queue.
func sysUnread(fd int) int { return ioctl(fd, unix.SIOCINQ) }

// sysUnsent asks how many bytes of a TCP connection the peer hasn't acknowledged yet. When it was
// reset, the kernel goes on counting those that never will be.
func sysUnsent(fd int) int {
	n := ioctl(fd, unix.SIOCOUTQ)
	if n > 0 {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil &&
			info.State == unix.BPF_TCP_CLOSE {
			return 0
		}
	}
	return n
}

// sysNotSent asks how many bytes the kernel has queued and not sent yet (SIOCOUTQNSD in
// linux/sockios.h).
func sysNotSent(fd int) int { return ioctl(fd, 0x894B) }

func ioctl(fd int, request uint) int {
	n, err := unix.IoctlGetInt(fd, request)
	if err != nil {
		return 0
	}
	return n
}

// setBindNoPort leaves the choice of a port to connect(2), which knows the peer and can use a port
// again that is in use for another one.
func setBindNoPort(fd int) {
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// endIsTold is whether the loop is told when the peer has closed its sending side.
const endIsTold = true

// sysKind asks what kind of socket a descriptor is.
func sysKind(fd int) (family, kind int, listening bool, err error) {
	var values [3]int
	for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_ACCEPTCONN} {
		if values[i], err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err != nil {
			return 0, 0, false, os.NewSyscallError("getsockopt", err)
		}
	}
	return values[0], values[1], values[2] != 0, nil
}
