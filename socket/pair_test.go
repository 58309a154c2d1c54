//go:build linux

package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestPair(t *testing.T) {
	for _, network := range []string{"unix", "unixgram", "unixpacket"} {
		t.Run(network, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				a, b, err := socket.Pair(ctx, network)
				if err != nil {
					t.Fatal(err)
				}
				if loop := runtime.Current(ctx).Loop(); a.Loop() != loop || b.Loop() != loop {
					t.Error("not on the caller's loop")
				}
				for _, way := range []struct{ from, to *socket.Socket }{{a, b}, {b, a}} {
					reader, _ := runtime.Go(ctx, func(ctx context.Context) {
						buf := make([]byte, 100)
						if n, err := way.to.Recv(ctx, buf); string(buf[:n]) != "hello" || err != nil {
							t.Errorf("%q, %v", buf[:n], err)
						}
					})
					if n, err := way.from.Send(ctx, []byte("hello")); n != 5 || err != nil {
						t.Error(n, err)
					}
					reader.Join(ctx)
				}
				a.Close()
				if network != "unixgram" { // which has no connections that could end
					for range 2 {
						if n, err := b.Recv(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
							t.Error(n, err)
						}
					}
					if b.Alive() {
						t.Error("alive, though the other end is closed")
					}
				}
				if _, err := b.SendAll(ctx, []byte("hello")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNREFUSED) &&
					!errors.Is(err, syscall.ENOTCONN) {
					t.Error(err)
				}
				b.Close()
			})
		})
	}
}

func TestPairOfOtherNetworks(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		for network, want := range map[string]error{"tcp": syscall.EAFNOSUPPORT, "udp6": syscall.EAFNOSUPPORT, "": net.UnknownNetworkError("")} {
			a, b, err := socket.Pair(ctx, network)
			if a != nil || b != nil || !errors.Is(err, want) {
				t.Errorf("%q: %v", network, err)
			}
		}
	})
	if _, _, err := socket.Pair(context.Background(), "unix"); !errors.Is(err, runtime.ErrNoRuntime) {
		t.Error(err)
	}
}

// A Pair from a plain goroutine, used by two of them.
func TestPairOfGoroutines(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		await(ctx, func() {
			a, b, err := socket.Pair(ctx, "unix")
			if err != nil {
				t.Error(err)
				return
			}
			var ends sync.WaitGroup
			sent := pattern(1 << 20)
			ends.Go(func() {
				if _, err := a.SendAll(ctx, sent); err != nil {
					t.Error(err)
				}
				a.Close()
			})
			got := make([]byte, len(sent))
			if n, err := b.RecvAll(ctx, got); err != nil {
				t.Error(n, err)
			}
			mustBe(t, got, sent)
			if _, err := b.Recv(ctx, got); err != io.EOF {
				t.Error(err)
			}
			b.Close()
			ends.Wait()
		})
	})
}

// Packets of a Unix socket of packets keep their boundaries, and an empty Send is no packet.
func TestPacketsKeepTheirBoundaries(t *testing.T) {
	for _, network := range []string{"unixgram", "unixpacket"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			a, b, err := socket.Pair(ctx, network)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			defer b.Close()
			a.SendSoon(ctx, []byte("one"))
			a.SendSoon(ctx, []byte("two"))
			a.SendAll(ctx, []byte("three"))
			a.WriteVector(ctx, [][]byte{[]byte("fo"), []byte("ur")})
			a.WriteVectorAll(ctx, [][]byte{[]byte("fi"), []byte("ve")})
			a.Send(ctx, []byte("truncated"))
			a.Send(ctx, []byte("last"))
			buf := make([]byte, 5)
			for _, want := range []string{"one", "two", "three", "four", "five", "trunc", "last"} {
				if n, err := b.Recv(ctx, buf); string(buf[:n]) != want || err != nil {
					t.Errorf("%s: %q, %v; want %q", network, buf[:n], err, want)
				}
			}
		})
	}
}
