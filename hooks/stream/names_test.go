//go:build linux

package stream_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/dnstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Streams ask net.DefaultResolver.
func TestStreamsOfInternationalNames(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		const bücher, bücherA = "bücher.example", "xn--bcher-kva.example"
		dnstest.Default(t, map[string]string{bücherA: "127.0.0.1", "xn--bro-hoa.test": "127.0.0.1"})
		ca, err := devca.New("names")
		check(t, err)
		cert, err := ca.Issue(bücherA)
		check(t, err)
		dir := t.TempDir()
		roots, own := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem")
		check(t, os.WriteFile(roots, ca.PEM(), 0o600))
		check(t, devca.WritePEM(cert, own, own))
		certified := withContext(t, streamOptions{"ssl": {"local_cert": own}})
		listener := streamServer(ctx, t, "tcp://"+bücher+":0", certified)
		_, port, _ := net.SplitHostPort(listener.GetName(false))
		for host, ssl := range map[string]map[string]any{
			bücher:      {"cafile": roots},
			"büro.test": {"cafile": roots, "peer_name": bücher},
		} {
			options := withContext(t, streamOptions{"ssl": ssl})
			client, err := stream.SocketClient(ctx, "tcp://"+host+":"+port, options)
			check(t, err)
			server, err := stream.Accept(ctx, listener, patience)
			check(t, err)
			other := beside(ctx, t, func(ctx context.Context) error {
				_, err := server.EnableCrypto(ctx, true, stream.CryptoTLSServer)
				return err
			})
			_, err = client.EnableCrypto(ctx, true, stream.CryptoTLSClient)
			check(t, err)
			check(t, other())
			check(t, client.Close())
			check(t, server.Close())
		}
		_, err = stream.SocketClient(ctx, "tls://bü_cher.test:25")
		wrong, ok := errors.AsType[*stream.URLError](err)
		if !ok || !strings.Contains(wrong.Reason, "bü_cher.test") {
			t.Errorf("error is %v", err)
		}
	})
}

// With a context that is done nothing is begun: no SYN, no look-up.
func TestSocketClientWithAContextThatIsDone(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		defer func(before *net.Resolver) { net.DefaultResolver = before }(net.DefaultResolver)
		unasked := func(context.Context, string, string) (net.Conn, error) {
			t.Error("a name was looked up")
			return nil, net.ErrClosed
		}
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: unasked}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		late, cancelLate := context.WithTimeout(ctx, -1)
		defer cancelLate()
		for _, done := range []context.Context{cancelled, late} {
			for _, host := range []string{"127.0.0.1", "mail.test"} {
				url := "tcp://" + host + ":" + port
				_, err = stream.SocketClient(done, url)
				wantError(t, "a stream", err, done.Err())
				_, err = stream.SocketClient(done, url, stream.WithAsyncConnect())
				wantError(t, "a stream, later", err, done.Err())
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
	})
}
