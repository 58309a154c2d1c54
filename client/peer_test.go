//go:build linux

package client_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/tlsconfig"
)

// The servers of the benchmarks run in a process of their own, so that a benchmark measures the client's CPU time alone: the test binary starts
// itself again with this variable set. That process ends when its standard input does.
const peerVariable = "WHORL_CLIENT_TEST_PEER"

// peer says where those servers are.
type peer struct {
	Echo   string // sends back what comes
	Flood  string // sends packets of 100 bytes that end with CR LF for as long as it can
	Pieces string // a Unix socket; see servePieces
	TLS    string // shakes hands, sends one byte, waits for the client to leave
	CA     []byte // that has issued the certificate of TLS, for "peer.test"
}

// startPeer starts the process for a benchmark.
func startPeer(b *testing.B) peer {
	b.Helper()
	self, err := os.Executable()
	check(b, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), peerVariable+"="+b.TempDir())
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	check(b, err)
	out, err := child.StdoutPipe()
	check(b, err)
	check(b, child.Start())
	b.Cleanup(func() {
		in.Close()
		child.Wait()
	})
	var p peer
	check(b, json.NewDecoder(out).Decode(&p))
	return p
}

func (p peer) config(cache tls.ClientSessionCache) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA)
	return &tls.Config{RootCAs: roots, ServerName: "peer.test", ClientSessionCache: cache}
}

// servePeer is the main function of that process.
func servePeer() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ca, err := tlsconfig.NewCA("Whorl benchmark CA")
	must(err)
	cert, err := ca.Issue("peer.test")
	must(err)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	listen := func(network, address string, serve func(net.Conn) error) string {
		l, err := net.Listen(network, address)
		must(err)
		go func() {
			for {
				conn, err := l.Accept()
				must(err)
				go func() {
					defer conn.Close()
					serve(conn) // an error is the client's leaving
				}()
			}
		}()
		return l.Addr().String()
	}
	loopback := "127.0.0.1:0"
	p := peer{
		Echo:   listen("tcp", loopback, serveEcho),
		Flood:  listen("tcp", loopback, serveFlood),
		Pieces: listen("unix", filepath.Join(os.Getenv(peerVariable), "pieces"), servePieces),
		TLS:    listen("tcp", loopback, func(conn net.Conn) error { return serveTLS(conn, config) }),
		CA:     ca.PEM(),
	}
	must(json.NewEncoder(os.Stdout).Encode(p))
	io.Copy(io.Discard, os.Stdin)
}

func serveEcho(conn net.Conn) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
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

// servePieces is asked, with two 32-bit numbers, for a packet of so many bytes in so many pieces; the packet ends with CR LF. The kernel's buffer is as small
// as can be, and holds no more than two or three of the pieces: a client can't read them all at once.
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

func serveTLS(conn net.Conn, config *tls.Config) error {
	secure := tls.Server(conn, config)
	if _, err := secure.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, secure)
	return err
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
