//go:build linux

package otherside

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	errUpgrade  = errors.New("otherside: the server has refused a handshake")
	errTakeover = errors.New("otherside: the server hasn't agreed to compress without takeover")
)

// keys are what handshakes are made with, in turn.
var keys = func() (all [different]struct{ key, accept string }) {
	for i := range all {
		key := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("key number %5d", i)))
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		all[i].key, all[i].accept = key, base64.StdEncoding.EncodeToString(sum[:])
	}
	return all
}()

// request is a handshake with headers such as a browser sends.
func (l *load) request(number int) []byte {
	host, scheme := l.config.Addr, "http"
	if l.config.TLS {
		scheme = "https"
	}
	offer := ""
	if l.config.Deflate {
		offer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; " +
			"client_no_context_takeover\r\n"
	}
	return fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"+
		"Pragma: no-cache\r\nCache-Control: no-cache\r\n"+
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"+
		"Upgrade: websocket\r\nOrigin: %s://%s\r\nSec-WebSocket-Version: 13\r\n"+
		"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"+
		"Sec-WebSocket-Key: %s\r\n%s\r\n", host, scheme, host, keys[number%different].key, offer)
}

// accepted checks a response, if it is whole.
func (l *load) accepted(in []byte, number int) (whole bool, err error) {
	head, _, whole := bytes.Cut(in, []byte("\r\n\r\n"))
	if !whole {
		return false, nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) ||
		!bytes.Contains(head, []byte(keys[number%different].accept)) {
		return false, fmt.Errorf("%w: %q", errUpgrade, head)
	}
	if l.config.Deflate && (!bytes.Contains(head, []byte("server_no_context_takeover")) ||
		!bytes.Contains(head, []byte("permessage-deflate"))) {
		return false, fmt.Errorf("%w: %q", errTakeover, head)
	}
	return true, nil
}

// open opens a connection that stays, waiting for each step.
func (p *loop) open(number int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c := &wireConn{fd: int32(fd), next: number}
	wait := unix.NsecToTimeval(int64(answerTimeout))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.Connect(fd, p.load.to))
	if err == nil {
		err = write(c.fd, p.load.request(number))
	}
	for got, whole := 0, false; err == nil && !whole; {
		var n int
		if n, err = p.read(c, got); err == nil {
			got += n
			whole, err = p.load.accepted(p.in[:got], number)
		}
	}
	if err == nil {
		err = p.first(c)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		p.conns[c.fd] = c
		err = p.watch(c, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
	}
	return err
}

// first has a message come back on a connection: the server has it in its room then.
func (p *loop) first(c *wireConn) error {
	m := p.message(c)
	if p.load.pace != nil {
		m = &greeting
	}
	if err := write(c.fd, m.frame); err != nil {
		return err
	}
	for got := 0; ; {
		n, err := p.read(c, got)
		if err != nil {
			return err
		}
		got += n
		if whole, err := m.check(p.in[:got], p.load.config.Deflate); whole || err != nil {
			return err
		}
	}
}

// greeting is binary.
var greeting = func() outgoing {
	all, _ := messagesOf(WebSocket{Does: Trips, Size: 16}) // it has a size
	return outgoing{payload: all[0].payload, frame: all[0].frame}
}()

func (p *loop) watch(c *wireConn, op int, events uint32) error {
	return unix.EpollCtl(p.epoll, op, int(c.fd), &unix.EpollEvent{Events: events, Fd: c.fd})
}

// connect begins a handshake.
func (p *loop) connect() error {
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return err
	}
	p.begun++
	c := &wireConn{fd: int32(fd), next: p.begun}
	p.conns[c.fd] = c
	// A close resets it: thousands of ports in TIME_WAIT would be in the way of the next ones.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER,
		&unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.Connect(fd, p.load.to); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return p.watch(c, unix.EPOLL_CTL_ADD, unix.EPOLLOUT)
}

// upgrade does the next step of a handshake; when it is over the next one begins.
func (p *loop) upgrade(c *wireConn, e unix.EpollEvent) (ended int, err error) {
	if e.Events&unix.EPOLLOUT != 0 {
		if code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET,
			unix.SO_ERROR); err != nil || code != 0 {
			return 0, errors.Join(err, unix.Errno(code))
		}
		if err := write(c.fd, p.load.request(c.next)); err != nil {
			return 0, err
		}
		return 0, p.watch(c, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	}
	kept := copy(p.in[:], c.rest)
	n, err := p.read(c, kept)
	if err != nil {
		return 0, err
	}
	whole, err := p.load.accepted(p.in[:kept+n], c.next)
	if err != nil {
		return 0, err
	}
	if !whole {
		c.rest = append(c.rest[:0], p.in[:kept+n]...)
		return 0, nil
	}
	p.counter.Add(1)
	delete(p.conns, c.fd)
	if err := unix.Close(int(c.fd)); err != nil {
		return 0, err
	}
	if p.load.over.Load() {
		return 1, nil
	}
	return 0, p.connect()
}
