//go:build linux

package porting_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// must ends the test process where an example's surroundings can't be set up.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// authority is a root with an intermediate authority, and a server's certificate below, as the
// PHP programs have them.
type authority struct {
	roots       *x509.CertPool
	chain, leaf tls.Certificate // the leaf lacks the intermediate certificate
	self        tls.Certificate
	caFile      string
	remove      func()
}

func newAuthority() *authority {
	root := must(devca.New("Test Root"))
	mid := intermediate(root)
	names := []string{"mail.example.test", "*.chat.example.test", "127.0.0.1"}
	a := &authority{roots: root.Pool(), leaf: must(mid.Issue(names...))}
	a.self = must(devca.SelfSigned(devca.Request{Names: names}))
	a.leaf.Certificate = a.leaf.Certificate[:1]
	a.chain = a.leaf
	a.chain.Certificate = [][]byte{a.leaf.Certificate[0], mid.KeyPair().Certificate[0]}
	folder := must(os.MkdirTemp("", "whorl-porting"))
	a.caFile, a.remove = filepath.Join(folder, "ca.pem"), func() { os.RemoveAll(folder) }
	if err := os.WriteFile(a.caFile, root.PEM(), 0o600); err != nil {
		panic(err)
	}
	return a
}

// intermediate makes an authority that another one has signed.
func intermediate(root *devca.CA) *devca.CA {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	pair := root.KeyPair()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: "Test Intermediate"},
		NotBefore:             pair.Leaf.NotBefore,
		NotAfter:              pair.Leaf.NotAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(
		rand.Reader, template, pair.Leaf, key.Public(), pair.PrivateKey,
	))
	return must(devca.FromKeyPair(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
}

// A mailServer says what the Postfix of the PHP programs says, and takes a mail.
type mailServer struct {
	*authority
	address string
	stop    func()
}

func startMailServer() *mailServer {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	m := &mailServer{authority: newAuthority(), address: l.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { m.converse(conn) })
		}
	})
	m.stop = func() {
		l.Close()
		serving.Wait()
		m.remove()
	}
	return m
}

// converse serves a client that waits for each reply.
func (m *mailServer) converse(plain net.Conn) {
	conn := plain
	defer func() { conn.Close() }() // with close_notify, if TLS is on
	say := func(lines ...string) { fmt.Fprintf(conn, "%s\r\n", strings.Join(lines, "\r\n")) }
	say("220 mail.example.test ESMTP Postfix")
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "EHLO":
			if conn == plain {
				say("250-mail.example.test", "250-STARTTLS", "250-AUTH LOGIN", "250 8BITMIME")
			} else {
				say("250-mail.example.test", "250-AUTH LOGIN", "250 8BITMIME")
			}
		case "STARTTLS":
			say("220 2.0.0 Ready to start TLS")
			conn = tls.Server(plain, &tls.Config{Certificates: []tls.Certificate{m.chain}})
			lines = bufio.NewReader(conn)
		case "AUTH":
			say("334 VXNlcm5hbWU6")
			lines.ReadString('\n')
			say("334 UGFzc3dvcmQ6")
			if password, _ := lines.ReadString('\n'); password == "c2VjcmV0\r\n" {
				say("235 ok")
			} else {
				say("535 no")
			}
		case "DATA":
			say("354 go on")
			count := 0
			for line, err = lines.ReadString('\n'); err == nil && line != ".\r\n"; count++ {
				line, err = lines.ReadString('\n')
			}
			say(fmt.Sprintf("250 queued, %d lines", count))
		case "QUIT":
			say("221 2.0.0 Bye")
			return
		default:
			say("250 2.0.0 Ok")
		}
	}
}
