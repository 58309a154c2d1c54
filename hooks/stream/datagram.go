package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/internal/numeric"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/socket"
)

// Flags are of SendTo and RecvFrom.
type Flags int

const (
	FlagOOB  Flags = 1 << iota // out-of-band data: TCP's urgent byte
	FlagPeek                   // leave what is received where it is
)

// RecvFrom receives a datagram, or from a connection what there is, and tells where a datagram came
// from: "host:port", the path of a Unix socket, or "" for one that isn't bound. The address is good
// for SendTo. It waits as Read does.
//
// FlagPeek leaves what it returns for the next call. Over plaintext it leaves it in the kernel as
// well, so that EnableCrypto can still begin: to look at what a client says first, and then decide.
// FlagOOB receives out-of-band data of a connection over plaintext, and doesn't wait for it: EINVAL
// says that there is none. Select tells of it in except.
func (s *Stream) RecvFrom(
	ctx context.Context,
	p []byte,
	flags Flags,
) (n int, from string, err error) {
	if flags&^(FlagOOB|FlagPeek) != 0 {
		return 0, "", s.fail("recvfrom", syscall.EINVAL)
	}
	do := func(ctx context.Context) (err error) {
		s.lines.Reset()
		n, from, err = s.recvFrom(ctx, p, flags)
		return err
	}
	if flags&FlagOOB == 0 {
		err = s.receive(ctx, "recvfrom", do)
		return n, from, err
	}
	if err = s.begin(ctx, &s.rd); err == nil {
		defer s.rd.leave()
		err = do(ctx)
	}
	// That there is none is not the end of the connection.
	return n, "", s.outcome("recvfrom", ctx, err)
}

func (s *Stream) recvFrom(
	ctx context.Context,
	p []byte,
	flags Flags,
) (n int, from string, err error) {
	secure := s.secure.Load()
	ahead := flags&FlagOOB == 0 && s.socket.Buffered() > 0
	switch {
	case len(p) == 0:
		return 0, "", nil
	case flags&FlagOOB != 0 && (secure || s.url.datagrams()):
		return 0, "", fmt.Errorf(
			"out-of-band data needs a connection in plaintext: %w",
			syscall.EOPNOTSUPP,
		)
	case flags == FlagPeek && (secure || ahead):
		n, err = s.look(ctx, p)
		return n, "", err
	case flags == 0 && (ahead || !s.url.datagrams()):
		n, err = s.socket.Recv(ctx, p)
		return n, "", err
	case flags == 0:
		n, addr, err := s.socket.RecvFrom(ctx, p)
		return n, streamName(addr), err
	}
	raw := unix.MSG_DONTWAIT
	if flags&FlagOOB != 0 {
		raw |= unix.MSG_OOB
	}
	if flags&FlagPeek != 0 {
		raw |= unix.MSG_PEEK
	}
	var sa unix.Sockaddr
	var failed error
	err = inner(s.socket).RawRead(ctx, func(number uintptr) bool {
		n, sa, failed = unix.Recvfrom(int(number), p, raw)
		for failed == unix.EINTR {
			n, sa, failed = unix.Recvfrom(int(number), p, raw)
		}
		return failed != unix.EAGAIN
	})
	if err == nil && failed != nil {
		err = os.NewSyscallError("recvfrom", failed)
	}
	if err == nil && n == 0 && !s.url.datagrams() {
		err = io.EOF
	}
	return max(n, 0), streamAddress(sa), err
}

// SendTo sends a datagram to an address, "host:port" or the path of a Unix socket; without an
// address, to the one that the stream is connected to. A stream that is a connection takes none. It
// waits as Write does. FlagOOB sends the last byte of p out of band, on a connection over
// plaintext.
func (s *Stream) SendTo(ctx context.Context, p []byte, flags Flags, address string) (int, error) {
	switch {
	case flags&^FlagOOB != 0:
		return 0, s.fail("sendto", syscall.EINVAL)
	case address != "" && !s.url.datagrams():
		return 0, s.fail("sendto", syscall.EISCONN)
	case address == "" && flags == 0:
		return s.Write(ctx, p)
	}
	s.timedOut.Store(false)
	if err := s.begin(ctx, &s.wr); err != nil {
		return 0, s.outcome("sendto", ctx, err)
	}
	defer s.wr.leave()
	waited, err := s.patience(ctx)
	n := 0
	switch {
	case err != nil:
	case flags == 0:
		var to net.Addr
		if to, err = s.destination(ctx, address); err == nil {
			n, err = s.socket.SendTo(waited, p, to)
		}
	default:
		n, err = s.sendUrgent(waited, p)
	}
	if err = s.outcome("sendto", waited, err); err == ErrWouldBlock && n > 0 {
		err = nil
	}
	return n, err
}

// destination makes an address of the stream's kind.
func (s *Stream) destination(ctx context.Context, address string) (net.Addr, error) {
	if s.url.local() {
		path, err := streamPath(address)
		return &net.UnixAddr{Name: path, Net: s.url.network}, err
	}
	host, port, err := streamHostPort(address)
	if err != nil {
		return nil, &net.AddrError{Err: err.Error(), Addr: address}
	}
	ip, err := numeric.Host(ctx, s.url.network, host)
	return &net.UDPAddr{IP: ip.AsSlice(), Port: int(port), Zone: ip.Zone()}, err
}

func (s *Stream) sendUrgent(ctx context.Context, p []byte) (sent int, err error) {
	if s.url.datagrams() {
		return 0, fmt.Errorf(
			"out-of-band data needs a connection in plaintext: %w",
			syscall.EOPNOTSUPP,
		)
	}
	var failed error
	err = inner(s.socket).RawWrite(ctx, func(number uintptr) bool {
		for sent < len(p) {
			n, err := unix.SendmsgN(
				int(number),
				p[sent:],
				nil,
				nil,
				unix.MSG_OOB|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT,
			)
			switch {
			case err == nil:
				sent += n
			case err == unix.EAGAIN:
				return false
			case err != unix.EINTR:
				failed = os.NewSyscallError("sendmsg", err)
				return true
			}
		}
		return true
	})
	if errors.Is(err, socket.ErrWouldBlock) || failed == nil {
		return sent, err
	}
	return sent, failed
}

// streamName returns an address in the form in which streams have them: "" for none.
func streamName(a net.Addr) string {
	switch a := a.(type) {
	case nil:
		return ""
	case *net.UnixAddr:
		return a.Name
	}
	return a.String()
}

// streamAddress is streamName of a kernel's address.
func streamAddress(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return (&net.UDPAddr{IP: a.Addr[:], Port: a.Port}).String()
	case *unix.SockaddrInet6:
		return (&net.UDPAddr{IP: a.Addr[:], Port: a.Port}).String()
	case *unix.SockaddrUnix:
		return a.Name
	}
	return ""
}
