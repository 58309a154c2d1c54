//go:build linux

package hooks_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/whorltest"
)

// transport is a way to a pair of connected conns.
type transport struct {
	name string
	pair func(ctx context.Context, t testing.TB) (c1, c2 net.Conn, stop func(), err error)
}

// transports are all streams of package hooks.
var transports = []transport{
	{"tcp", plain("tcp")},
	{"unix", plain("unix")},
	{"tls", secured("")},
	{"upgraded", secured("a few words in plaintext\r\n")},
	{"pipe", func(context.Context, testing.TB) (net.Conn, net.Conn, func(), error) {
		a, b := hooks.Pipe()
		return a, b, func() { a.Close(); b.Close() }, nil
	}},
	{"crypto-tls", cryptoTLS},
}

// plain returns pairs of a dialled and an accepted connection.
func plain(network string) func(context.Context, testing.TB) (net.Conn, net.Conn, func(), error) {
	return func(ctx context.Context, t testing.TB) (c1, c2 net.Conn, stop func(), err error) {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := hooks.Listen(ctx, network, address)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		if c1, err = new(hooks.Dialer).DialContext(ctx, network, l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			c1.Close()
			return nil, nil, nil, err
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	}
}

// secured returns pairs that have become TLS in place, after they have exchanged some plaintext.
func secured(words string) func(context.Context, testing.TB) (net.Conn, net.Conn, func(), error) {
	return func(ctx context.Context, t testing.TB) (net.Conn, net.Conn, func(), error) {
		client, server := configs()
		c1, c2, stop, err := plain("tcp")(ctx, t)
		if err != nil {
			return nil, nil, nil, err
		}
		err = shake(ctx, t,
			func(ctx context.Context) error {
				if _, err := io.WriteString(c1, words); err != nil {
					return err
				}
				if _, err := io.ReadFull(c1, make([]byte, len(words))); err != nil {
					return err
				}
				return c1.(*hooks.Conn).EnableSSL(ctx, client)
			},
			func(ctx context.Context) error {
				got := make([]byte, len(words))
				if _, err := io.ReadFull(c2, got); err != nil {
					return err
				}
				if _, err := c2.Write(got); err != nil {
					return err
				}
				return c2.(*hooks.Conn).EnableSSL(ctx, server)
			})
		return c1, c2, stop, err
	}
}

// cryptoTLS returns pairs of crypto/tls over plain ones.
func cryptoTLS(ctx context.Context, t testing.TB) (net.Conn, net.Conn, func(), error) {
	client, server := configs()
	client.ServerName = "127.0.0.1" // which hooks.Conn knows by itself
	c1, c2, _, err := plain("tcp")(ctx, t)
	if err != nil {
		return nil, nil, nil, err
	}
	t1, t2 := tls.Client(c1, client), tls.Server(c2, server)
	err = shake(ctx, t, t1.HandshakeContext, t2.HandshakeContext)
	return t1, t2, func() { t1.Close(); t2.Close() }, err
}

// shake runs both sides of a handshake at once.
func shake(ctx context.Context, t testing.TB, client, server func(ctx context.Context) error) error {
	wait := beside(ctx, t, server)
	return errors.Join(client(ctx), wait())
}

// configs returns what both sides of TLS need. The certificate is made once.
func configs() (client, server *tls.Config) {
	made := certificate()
	client = &tls.Config{RootCAs: made.roots}
	server = &tls.Config{Certificates: []tls.Certificate{made.cert}}
	return client, server
}

type issued struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

var certificate = sync.OnceValue(func() issued {
	ca, err := devca.New("Whorl test CA")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("127.0.0.1", "localhost")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	return issued{cert, roots}
})

// The suite of golang.org/x/net, on plain goroutines.
func TestNettest(t *testing.T) {
	for _, tr := range transports {
		if tr.name == "crypto-tls" {
			continue // whose Write fails for good after a time-out, which the suite doesn't allow: see crypto/tls.Conn
		}
		t.Run(tr.name, func(t *testing.T) {
			ctx := startSuite(t)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) { return tr.pair(ctx, t) })
		})
	}
}

// Our own suite, on plain goroutines.
func TestStreamFromGoroutines(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			ctx := startSuite(t)
			whorltest.TestStream(t, func() (net.Conn, net.Conn, func(), error) { return tr.pair(ctx, t) }, nil)
		})
	}
}

// And with everything in coroutines: of one loop, so that nobody runs at the same time and what
// blocks one would block all; and of several.
func TestStreamFromCoroutines(t *testing.T) {
	for _, loops := range []int{1, 3} {
		for _, tr := range transports {
			switch {
			case tr.name == "crypto-tls": // holds a sync.Mutex while it waits: two coroutines of one loop that write would stop the loop
				continue
			case tr.name == "upgraded" && loops == 1, tr.name == "tls" && loops == 3: // which differ in what was before TLS, and that is the same from any number of loops
				continue
			}
			t.Run(fmt.Sprintf("%s/loops=%d", tr.name, loops), func(t *testing.T) {
				ctx := startSuite(t, runtime.WithLoops(loops))
				rt, err := runtime.From(ctx)
				check(t, err)
				spawn := func(party func()) {
					_, err := rt.Go(func(context.Context) { party() })
					check(t, err)
				}
				whorltest.TestStream(t, func() (net.Conn, net.Conn, func(), error) { return tr.pair(ctx, t) }, spawn)
			})
		}
	}
}
