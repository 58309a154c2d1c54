//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// shakeBoth makes both sides of a handshake, and returns their errors.
func shakeBoth(
	ctx context.Context, t *testing.T, client, server *tls.Config,
) (clientErr, serverErr error) {
	a, b := connected(ctx, t, "pair")
	defer a.Abort()
	defer b.Abort()
	other := start(ctx, func(ctx context.Context) { serverErr = b.SSLHandshake(ctx, server) })
	clientErr = a.SSLHandshake(ctx, client)
	if clientErr != nil {
		a.Abort()
	}
	other.Join(ctx)
	return clientErr, serverErr
}

// The system's roots are read once, before the first handshake that may want them, and not on a
// loop.
func TestSystemRootsAreReadOffTheLoop(t *testing.T) {
	client, server := certified()
	bySystem := client.Clone()
	bySystem.RootCAs = nil
	trusting := bySystem.Clone()
	trusting.InsecureSkipVerify = true
	byFunction := trusting.Clone()
	byFunction.VerifyConnection = func(tls.ConnectionState) error { return nil }
	byOldFunction := trusting.Clone()
	byOldFunction.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return nil }
	mutual := server.Clone()
	mutual.ClientAuth = tls.VerifyClientCertIfGiven
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		want           int64
		fails          bool
	}{
		{"roots of its own", client, server, 0, false},
		{"nothing verified", trusting, server, 0, false},
		{"the system's roots", bySystem, server, 1, true},
		{"verified by a function", byFunction, server, 1, false},
		{"verified by an old function", byOldFunction, server, 1, false},
		{"clients verified", client, mutual, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				rt, _ := runtime.From(ctx)
				var reads atomic.Int64
				release := make(chan struct{})
				defer socket.FakeRoots(func() {
					reads.Add(1)
					for _, loop := range rt.Loops() {
						if runtimetest.OnLoop(loop) {
							t.Error("the roots are read on a loop")
						}
					}
					<-release
				})()
				var all runtime.WaitGroup
				var over atomic.Int64
				for i := range 6 {
					all.Go(ctx, func(ctx context.Context) {
						callers[i%len(callers)].call(ctx, func(ctx context.Context) {
							clientErr, serverErr := shakeBoth(ctx, t, c.client, c.server)
							over.Add(1)
							if (clientErr != nil) != c.fails || c.fails && socket.Code(clientErr) != 1014 {
								t.Errorf("client: %v, server: %v", clientErr, serverErr)
							}
						})
					})
				}
				if c.want > 0 {
					until(ctx, func() bool { return reads.Load() > 0 })
					for range 100 {
						runtime.Yield(ctx) // the loop turns
					}
					if over.Load() != 0 {
						t.Error("a handshake didn't wait for the roots")
					}
				}
				close(release)
				all.Wait(ctx)
				shakeBoth(ctx, t, c.client, c.server)
				if n := reads.Load(); n != c.want {
					t.Errorf("the roots were read %d times, want %d", n, c.want)
				}
			}, runtime.WithLoops(2))
		})
	}
}

// The wait for the roots ends as the handshake does, which is bounded.
func TestTheWaitForSystemRootsIsBounded(t *testing.T) {
	client, server := certified()
	bySystem := client.Clone()
	bySystem.RootCAs = nil
	release := make(chan struct{})
	defer socket.FakeRoots(func() { <-release })()
	defer close(release)
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		a, b := connected(ctx, t, "pair")
		defer b.Abort()
		a.SetTimeouts(socket.Timeouts{Handshake: soon})
		wantError(t, "time-out", a.SSLHandshake(ctx, bySystem), os.ErrDeadlineExceeded)
		if a.Connected() {
			t.Error("the connection stands")
		}
		a, b = connected(ctx, t, "pair")
		defer b.Abort()
		co := start(ctx, func(ctx context.Context) {
			wantError(t, "cancelled", a.SSLHandshake(ctx, bySystem), context.Canceled)
		})
		co.Cancel()
		co.Join(ctx)
		a, b = connected(ctx, t, "pair")
		defer a.Abort()
		wantError(t, "the server's side", b.SSLHandshake(canceled(ctx), server), context.Canceled)
	})
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// A renegotiation would be a handshake within Recv, which would stop the loop.
func TestRenegotiationIsRefused(t *testing.T) {
	client, server := certified()
	for _, kind := range []tls.RenegotiationSupport{
		tls.RenegotiateOnceAsClient, tls.RenegotiateFreelyAsClient,
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			asking := client.Clone()
			asking.Renegotiation = kind
			a, b := connected(ctx, t, "pair")
			defer b.Abort()
			err := a.SSLHandshake(ctx, asking)
			if err == nil || !strings.Contains(err.Error(), "Renegotiation") || socket.Code(err) != 1018 {
				t.Errorf("error is %v, code %d", err, socket.Code(err))
			}
			if n, err := b.Recv(ctx, make([]byte, 100)); n != 0 || err == nil {
				t.Errorf("%d bytes were sent, %v", n, err)
			}
			wantError(t, "afterwards", a.SSLHandshake(ctx, client), net.ErrClosed)

			serving := server.Clone() // has no meaning there
			serving.Renegotiation = kind
			clientErr, serverErr := shakeBoth(ctx, t, client, serving)
			if clientErr != nil || serverErr != nil {
				t.Errorf("client: %v, server: %v", clientErr, serverErr)
			}
		})
	}
}
