//go:build linux

package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
)

// A socket becomes the connection of another one: what has arrived is its, and the other one's end
// is not the connection's.
func TestBecome(t *testing.T) {
	runtimetest.Coroutine(t, runtimetest.Quiet, func(ctx context.Context, t *testing.T) {
		from, peer := secured(ctx, t, "tcp", false)
		defer peer.Close()
		line, err := packet.NewEOF("\n", 100)
		leaktest.Check(t, err)
		leaktest.Check(t, from.SetProtocol(line))
		io.WriteString(peer, "line\nahead") // together, as a rule
		if got, err := from.RecvPacket(ctx); string(got) != "line\n" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		var to socket.Socket
		defer to.Close()
		if err := inner(&to).Become(inner(from)); err != nil {
			t.Fatal(err)
		}
		if _, err := from.Recv(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Recv of the other one: %v", err)
		}
		if err := from.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close of the other one: %v", err)
		}
		io.WriteString(peer, " and behind")
		got := make([]byte, len("ahead and behind"))
		if _, err := to.RecvAll(ctx, got); string(got) != "ahead and behind" || err != nil {
			t.Errorf("received %q, %v", got, err)
		}
		if _, err := to.SendAll(ctx, []byte("answer")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(peer, got[:6]); string(got[:6]) != "answer" || err != nil {
			t.Errorf("the peer has read %q, %v", got[:6], err)
		}
	})
}

// What somebody is in, what has TLS, and what is closed stays what it is.
func TestBecomeIsRefused(t *testing.T) {
	runtimetest.Coroutine(t, runtimetest.Quiet, func(ctx context.Context, t *testing.T) {
		refused := func(from *socket.Socket, want error) {
			t.Helper()
			if err := inner(new(socket.Socket)).Become(inner(from)); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		busy, peer := secured(ctx, t, "tcp", false)
		defer peer.Close()
		wait := runtimetest.Beside(ctx, t, func(ctx context.Context) error {
			_, err := busy.Recv(ctx, make([]byte, 1))
			return err
		})
		refused(busy, socket.ErrBusy)
		io.WriteString(peer, "x")
		if err := wait(); err != nil {
			t.Errorf("Recv: %v", err)
		}
		busy.Close()
		refused(busy, net.ErrClosed)
		secure, other := secured(ctx, t, "tcp", true)
		defer other.Close()
		defer secure.Close()
		refused(secure, syscall.EPROTONOSUPPORT)
	})
}
