//go:build linux

package socket_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Messages come whole, as large as the kernel lets them be, and empty ones come, too.
func TestMessagesComeWhole(t *testing.T) {
	for _, network := range []string{"unixgram", "unixpacket"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			a, b, err := socket.Pair(ctx, network)
			if err != nil {
				t.Fatal(err)
			}
			sizes := []int{1, 4096, 65536, 65537, 150_000, 3}
			if network == "unixgram" { // on unixpacket an empty message looks like the end
				sizes = append(sizes, 0, 2, 0)
			}
			for _, size := range sizes {
				sent := pattern(size)
				if n, err := a.SendAll(ctx, sent); n != size || err != nil {
					t.Fatalf("%s: %d of %d bytes sent, %v", network, n, size, err)
				}
				got, err := b.RecvPacket(ctx)
				if err != nil || got == nil {
					t.Fatalf("%s: %d bytes: %v", network, size, err)
				}
				mustBe(t, got, sent)
			}
			a.Close()
			b.Close()
		})
	}
}

// On Unix sockets the kernel stops a read behind a descriptor that is passed along, though there is
// more, and no edge follows.
func TestWhatFollowsAPassedDescriptor(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := accepted(ctx, t, "unix")
		defer peer.Close()
		passed, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer passed.Close()
		reader := start(ctx, func(ctx context.Context) {
			got := make([]byte, len("one two"))
			if _, err := s.RecvAll(ctx, got); err != nil {
				t.Error(err)
			}
			mustBe(t, got, []byte("one two"))
		})
		// Both come within one turn of the loop.
		rights := syscall.UnixRights(int(passed.Fd()))
		if _, _, err := peer.(*net.UnixConn).WriteMsgUnix([]byte("one "), rights, nil); err != nil {
			t.Error(err)
		}
		if _, err := peer.Write([]byte("two")); err != nil {
			t.Error(err)
		}
		reader.Join(ctx)
		s.Close()
	}, runtime.WithLoops(1))
}

// Shutdown of the receiving side ends receiving on datagram sockets, too, for whoever waits and for
// whoever comes later.
func TestShutdownOfReadingEndsReceiving(t *testing.T) {
	for _, network := range []string{"unix", "unixgram", "unixpacket"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			a, b, err := socket.Pair(ctx, network)
			if err != nil {
				t.Fatal(err)
			}
			reader := start(ctx, func(ctx context.Context) {
				_, err := a.Recv(ctx, make([]byte, 1))
				wantError(t, network+": Recv", err, io.EOF)
			})
			if err := a.Shutdown(ctx, socket.ShutdownRead); err != nil {
				t.Error(err)
			}
			reader.Join(ctx)
			_, err = a.RecvPacket(ctx)
			wantError(t, network+": RecvPacket", err, io.EOF)
			a.Close()
			b.Close()
		})
	}
}
