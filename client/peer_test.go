//go:build linux

package client_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// peer says where the servers of the benchmarks are. They run in a process of their own, so that a
// benchmark measures the client's CPU time alone.
type peer struct {
	Echo   string // sends back what comes
	Flood  string // sends packets of 100 bytes that end with CR LF for as long as it can
	Pieces string // a Unix socket; see servePieces
	TLS    string // shakes hands, sends one byte, waits for the client to leave
	CA     []byte // that has issued the certificate of TLS, for "peer.test"
}

// startPeer starts the process for a benchmark.
func startPeer(b *testing.B) (p peer) {
	b.Helper()
	childtest.Peer(b, &p)
	return p
}

// config is for clients of the peer.
func (p peer) config(cache tls.ClientSessionCache) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA)
	return &tls.Config{RootCAs: roots, ServerName: "peer.test", ClientSessionCache: cache}
}

// servePeer starts the servers, in that process.
func servePeer() (where any, err error) {
	ca, err := devca.New("Whorl benchmark CA")
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue("peer.test")
	if err != nil {
		return nil, err
	}
	p := peer{CA: ca.PEM()}
	listen := func(addr *string, network, at string, config *tls.Config, serve func(net.Conn) error) {
		if err == nil {
			*addr, err = childtest.Listen(network, at, config, serve)
		}
	}
	listen(&p.Echo, "tcp", "127.0.0.1:0", nil, childtest.Echo)
	listen(&p.Flood, "tcp", "127.0.0.1:0", nil, serveFlood)
	listen(&p.Pieces, "unix", fmt.Sprintf("@whorl-client-test-%d", os.Getpid()), nil, servePieces)
	listen(&p.TLS, "tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, serveByte)
	return p, err
}

func serveFlood(conn net.Conn) error {
	packet := append(bytes.Repeat([]byte{'x'}, 98), "\r\n"...)
	packets := bytes.Repeat(packet, 600)
	for {
		if _, err := conn.Write(packets); err != nil {
			return err
		}
	}
}

// servePieces is asked, with two 32-bit numbers, for a packet of so many bytes in so many pieces;
// the packet ends with CR LF. The kernel's buffer is as small as can be, and holds no more than two
// or three of the pieces: a client can't read them all at once.
func servePieces(conn net.Conn) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1) })
	if err = errors.Join(err, optionErr); err != nil {
		return err
	}
	var packet []byte
	for {
		var request [8]byte
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return err
		}
		size, pieces := int(binary.BigEndian.Uint32(request[:])), int(binary.BigEndian.Uint32(request[4:]))
		if len(packet) != size {
			packet = append(bytes.Repeat([]byte{'x'}, size-2), "\r\n"...)
		}
		for i := range pieces {
			if _, err := conn.Write(packet[i*size/pieces : (i+1)*size/pieces]); err != nil {
				return err
			}
		}
	}
}

func serveByte(conn net.Conn) error {
	if _, err := conn.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	return err
}
