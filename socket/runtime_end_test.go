//go:build linux

package socket_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// A socket doesn't outlive its runtime: whoever waits, with whatever context, is told, and so is
// whoever uses it afterwards. Its descriptor is closed.
func TestSocketsEndWithTheirRuntime(t *testing.T) {
	wakeNetpoll(t)
	before := len(descriptors(t))
	rt, err := runtime.New(runtime.WithLoops(2), runtime.WithLogger(zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	var client *socket.Socket
	var listener *socket.Socket
	var peer net.Conn
	ready := make(chan struct{})
	rt.Go(func(ctx context.Context) {
		defer close(ready)
		client, peer = dialed(ctx, t, "tcp")
		listener = listening(ctx, t, "tcp")
		client.SetTimeouts(socket.Timeouts{})
		listener.SetTimeouts(socket.Timeouts{})
		fill(ctx, t, client)
	})
	<-ready
	client.SetTimeouts(socket.Timeouts{})
	waits := map[string]func() error{
		"Recv":    func() error { _, err := client.Recv(context.Background(), make([]byte, 1)); return err },
		"SendAll": func() error { _, err := client.SendAll(context.Background(), make([]byte, 1<<20)); return err },
		"Accept":  func() error { _, err := listener.Accept(context.Background()); return err },
	}
	var all sync.WaitGroup
	for what, wait := range waits {
		all.Go(func() { wantError(t, what, wait(), runtime.ErrShutdown) })
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	all.Wait()
	for what, use := range waits {
		wantError(t, what+" afterwards", use(), runtime.ErrShutdown)
	}
	_, err = client.Peek(make([]byte, 1))
	wantError(t, "Peek", err, runtime.ErrShutdown)
	if client.Alive() || client.Connected() || client.FD() != -1 {
		t.Error("the socket still looks connected")
	}
	io.Copy(io.Discard, peer) // it sees the end
	peer.Close()
	if after := descriptors(t); len(after) != before {
		t.Errorf("%d descriptors before, after: %v", before, after)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// Everything that doesn't wait answers at once from anywhere, while the socket's loop is held, too.
func TestLooksNeedNoLoop(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := dialed(ctx, t, "tcp")
		defer peer.Close()
		held, release := make(chan struct{}), make(chan struct{})
		await(ctx, func() {
			if err := s.Loop().Post(func() { close(held); <-release }); err != nil {
				t.Fatal(err)
			}
			<-held
			defer close(release)
			if !s.Alive() || !s.Connected() {
				t.Error("not alive")
			}
			if s.LocalAddr().String() != peer.RemoteAddr().String() ||
				s.RemoteAddr().String() != peer.LocalAddr().String() {
				t.Error(s.LocalAddr(), s.RemoteAddr())
			}
			if _, err := s.Option(1, 3); err != nil { // SOL_SOCKET, SO_TYPE
				t.Error(err)
			}
			if inner(s).Queued() != 0 || s.Buffered() != 0 || s.Cancel(socket.ReadEvent) {
				t.Error("queued, buffered or waited for")
			}
			s.SetLinger(0)
			s.SetTimeouts(socket.Timeouts{})
			if n, err := s.SendAll(ctx, []byte("held")); n != 4 || err != nil {
				t.Error(n, err)
			}
			mustBe(t, read(t, peer, 4), []byte("held"))
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}, runtime.WithLoops(2), runtime.WithWatchdog(0), runtime.WithLogger(zap.NewNop()))
}
