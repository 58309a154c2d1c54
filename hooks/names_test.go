//go:build linux

package hooks_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/dnstest"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

const (
	bücher  = "bücher.example"
	bücherA = "xn--bcher-kva.example" // the same in A-labels
)

// oneAddress is a resolver for which all names stand for the same.
type oneAddress struct {
	ip    atomic.Pointer[netip.Addr]
	asked atomic.Int64
	last  atomic.Value // the name that was asked for
}

func (o *oneAddress) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	o.asked.Add(1)
	o.last.Store(host)
	if ip := o.ip.Load(); ip != nil {
		return []netip.Addr{*ip}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (o *oneAddress) set(ip string) {
	address := netip.MustParseAddr(ip)
	o.ip.Store(&address)
}

// bücherTLS has the configurations of a server with a certificate for bücher.example and of a
// client that trusts it.
func bücherTLS(t testing.TB) (client, server *tls.Config) {
	ca, err := devca.New("names")
	check(t, err)
	cert, err := ca.Issue(bücherA)
	check(t, err)
	return &tls.Config{RootCAs: ca.Pool()}, &tls.Config{Certificates: []tls.Certificate{cert}}
}

func TestDialerHasAResolver(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		resolver := new(oneAddress)
		resolver.set("127.0.0.2") // nobody listens there
		dialer := hooks.Dialer{Resolver: resolver}
		if _, err := dialer.DialContext(ctx, "tcp", "mail.test:"+port); err == nil {
			t.Error("connected")
		}
		resolver.set("127.0.0.1") // it has moved
		for range 2 {
			conn, err := dialer.DialContext(ctx, "tcp", "mail.test:"+port)
			check(t, err)
			check(t, conn.Close())
		}
		if n := resolver.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestDialInternationalNames(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := bücherTLS(t)
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		resolver := new(oneAddress)
		resolver.set("127.0.0.1")
		dialer := hooks.Dialer{Resolver: resolver}
		named := client.Clone()
		named.ServerName = bücher
		for host, config := range map[string]*tls.Config{bücher: client, "other-ü.test": named} {
			conn, err := dialer.DialContext(ctx, "tcp", host+":"+port)
			check(t, err)
			accepted, err := l.Accept()
			check(t, err)
			other := beside(ctx, t, func(ctx context.Context) error {
				return accepted.(*hooks.Conn).EnableSSL(ctx, server)
			})
			check(t, conn.(*hooks.Conn).EnableSSL(ctx, config))
			check(t, other())
			check(t, conn.Close())
			check(t, accepted.Close())
		}
		if config := named; config.ServerName != bücher {
			t.Errorf("the program's configuration has become one for %s", config.ServerName)
		}

		nowhere := &hooks.Dialer{Resolver: new(oneAddress)}
		_, err = nowhere.DialContext(ctx, "tcp", bücher+":25")
		text := fmt.Sprint(err)
		if socket.Code(err) != 711 || strings.Contains(text, "xn--") ||
			strings.Count(text, bücher) != 2 {
			t.Errorf("error is %v", err)
		}
		for _, address := range []string{"bü cher:25", "-ü.test:25"} {
			_, err := dialer.DialContext(ctx, "tcp", address)
			wantOp(t, err, "dial", "tcp", nil)
			if socket.Code(err) != 713 {
				t.Errorf("error is %v, code %d", err, socket.Code(err))
			}
		}
	})
}

// Listeners ask net.DefaultResolver.
func TestListenAtInternationalNames(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		dnstest.Default(t, map[string]string{bücherA: "127.0.0.1"})
		l, err := hooks.Listen(ctx, "tcp", bücher+":0")
		check(t, err)
		if ip, _, _ := net.SplitHostPort(l.Addr().String()); ip != "127.0.0.1" {
			t.Errorf("listens at %s", ip)
		}
		check(t, l.Close())
		_, err = hooks.Listen(ctx, "tcp", "-ü:0")
		if socket.Code(err) != 713 {
			t.Errorf("error is %v", err)
		}
	})
}

// With a context that is done nothing is begun: no socket, no SYN, no look-up.
func TestDialWithAContextThatIsDone(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		late, cancelLate := context.WithTimeout(ctx, -1)
		defer cancelLate()
		resolver := new(oneAddress)
		resolver.set("127.0.0.1")
		controlled := 0
		control := func(string, string, syscall.RawConn) error { controlled++; return nil }
		dialer := hooks.Dialer{Resolver: resolver, Control: control}
		for _, done := range []context.Context{cancelled, late} {
			for _, host := range []string{"127.0.0.1", "mail.test"} {
				_, err := dialer.DialContext(done, "tcp", host+":"+port)
				wantOp(t, err, "dial", "tcp", done.Err())
			}
		}
		last, err := net.Dial("tcp", l.Addr().String()) // is accepted after all that came before
		check(t, err)
		defer last.Close()
		first, err := l.Accept()
		check(t, err)
		defer first.Close()
		if first.RemoteAddr().String() != last.LocalAddr().String() {
			t.Error("a connection was made")
		}
		if controlled != 0 || resolver.asked.Load() != 0 {
			t.Errorf("%d sockets, %d look-ups", controlled, resolver.asked.Load())
		}
	})
}
