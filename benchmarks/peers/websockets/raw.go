//go:build linux

package websockets

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"slices"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

var raw = Peer{
	Name: "raw",
	About: "raw epoll on one thread, which takes every request for a handshake and every frame " +
		"for a valid one; broadcasts by write(2) in a loop",
	Plain: true, Broadcast: true,
	Serve: func(c Config, ready func(net.Addr)) error {
		s := &rawServer{broadcast: c.Broadcast, rest: map[int][]byte{}}
		addr, err := s.listen()
		if err != nil {
			return err
		}
		ready(addr)
		return s.run()
	},
}

// rawServer is what the kernel allows, and no protocol checked.
type rawServer struct {
	broadcast bool
	epoll     int
	listener  int
	all       []int          // established
	rest      map[int][]byte // what has come of a frame that isn't whole
	in        [64 << 10]byte
	out       []byte
}

func (s *rawServer) listen() (net.Addr, error) {
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if s.listener, err = unix.Socket(unix.AF_INET, kind, 0); err != nil {
		return nil, err
	}
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(s.listener, at); err != nil {
		return nil, err
	}
	if err := unix.Listen(s.listener, 4096); err != nil {
		return nil, err
	}
	bound, err := unix.Getsockname(s.listener)
	if err != nil {
		return nil, err
	}
	return &net.TCPAddr{IP: at.Addr[:], Port: bound.(*unix.SockaddrInet4).Port}, s.add(s.listener)
}

func (s *rawServer) add(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (s *rawServer) run() error {
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(0, n)] {
			if int(e.Fd) == s.listener {
				err = s.accept()
			} else if s.receive(int(e.Fd)) != nil {
				s.end(int(e.Fd))
			}
			if err != nil {
				return err
			}
		}
	}
}

func (s *rawServer) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			return nil
		}
		if err == nil {
			err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
				s.add(fd))
		}
		if err != nil {
			return err
		}
	}
}

func (s *rawServer) end(fd int) {
	unix.Close(fd)
	delete(s.rest, fd)
	if i := slices.Index(s.all, fd); i >= 0 {
		s.all = slices.Delete(s.all, i, i+1)
	}
}

var errEnded = errors.New("websockets: the connection has ended")

// receive takes what has come on a connection.
func (s *rawServer) receive(fd int) error {
	kept := copy(s.in[:], s.rest[fd])
	n, err := unix.Read(fd, s.in[kept:])
	if err != nil || n == 0 {
		return errors.Join(err, errEnded)
	}
	in := s.in[:kept+n]
	if in[0] == 'G' { // of GET; no frame begins with it
		return s.handshake(fd, in)
	}
	s.out = s.out[:0]
	for {
		op, data, size := rawFrame(in)
		if size == 0 {
			break
		}
		in = in[size:]
		start := len(s.out)
		s.out = append(rawHeader(s.out, op, len(data)), data...)
		if s.broadcast && op == byte(ws.OpText) {
			for _, to := range s.all {
				unix.Write(to, s.out[start:])
			}
			s.out = s.out[:start]
		}
	}
	if len(in) > 0 {
		s.rest[fd] = append([]byte(nil), in...)
	} else if kept > 0 {
		delete(s.rest, fd)
	}
	if len(s.out) > 0 {
		_, err = unix.Write(fd, s.out)
	}
	return err
}

// rawFrame returns what the first frame carries, unmasked, and how long the frame is; 0: it isn't
// whole.
func rawFrame(in []byte) (op byte, data []byte, size int) {
	if len(in) < 8 {
		return 0, nil, 0
	}
	length, at := int(in[1]&127), 2
	switch length {
	case 126:
		length, at = int(binary.BigEndian.Uint16(in[2:])), 4
	case 127:
		return 0, nil, 0
	}
	if len(in) < at+4+length {
		return 0, nil, 0
	}
	data = in[at+4 : at+4+length]
	ws.Cipher(data, [4]byte(in[at:at+4]), 0)
	return in[0] & 15, data, at + 4 + length
}

func rawHeader(dst []byte, op byte, length int) []byte {
	if length < 126 {
		return append(dst, 128|op, byte(length))
	}
	return binary.BigEndian.AppendUint16(append(dst, 128|op, 126), uint16(length))
}

func (s *rawServer) handshake(fd int, in []byte) error {
	_, key, _ := bytes.Cut(in, []byte("Sec-WebSocket-Key: "))
	key, _, whole := bytes.Cut(key, []byte("\r\n"))
	if !whole {
		return errEnded // its other side sends it at once
	}
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	s.out = append(s.out[:0], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: "...)
	s.out = append(base64.StdEncoding.AppendEncode(s.out, sum[:]), "\r\n\r\n"...)
	s.all = append(s.all, fd)
	_, err := unix.Write(fd, s.out)
	return err
}
