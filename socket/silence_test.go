//go:build linux

package socket_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/socket"
)

// Time-outs of sending are for a peer that takes nothing. These peers take all of it, some at a
// time, for several times as long as the time-out, and never pause for nearly that long.
const (
	silence = time.Second
	pauses  = 20
	pause   = 3 * silence / pauses
)

// takeSlowly reads what the peer is to get, in equal parts with pauses between them.
func takeSlowly(t *testing.T, peer net.Conn, size int) []byte {
	got := make([]byte, 0, size)
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for len(got) < size {
		part := make([]byte, min(size/pauses+1, size-len(got)))
		n, err := io.ReadFull(peer, part)
		got = append(got, part[:n]...)
		if err != nil {
			t.Errorf("peer, after %d of %d bytes: %v", len(got), size, err)
			break
		}
		<-ticks.C
	}
	return got
}

func TestASlowPeerGetsAll(t *testing.T) {
	sent := pattern(16 << 20)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, sent, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		secure bool
		send   func(ctx context.Context, s *socket.Socket) (int, error)
	}{
		{"SendAll", false, func(ctx context.Context, s *socket.Socket) (int, error) { return s.SendAll(ctx, sent) }},
		{"SendAll with TLS", true, func(ctx context.Context, s *socket.Socket) (int, error) { return s.SendAll(ctx, sent) }},
		{"SendFile", false, func(ctx context.Context, s *socket.Socket) (int, error) {
			n, err := inner(s).SendPath(ctx, path, 0, 0)
			return int(n), err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			withPeersBeside(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, "tcp", c.secure)
				s.SetTimeouts(socket.Timeouts{Write: silence})
				s.SetLinger(silence)
				peers.Go(func() {
					defer peer.Close()
					got := takeSlowly(t, peer, len(sent))
					mustBe(t, got, sent)
					if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
						t.Error("peer, at the end:", err)
					}
				})
				if n, err := c.send(ctx, s); n != len(sent) || err != nil {
					t.Error(n, err)
				}
				s.Close() // with megabytes under way
			})
		})
	}
}

// A delivery that is given up ends in a reset: half an answer must not look like a whole one.
func TestAPeerThatTakesNothingIsReset(t *testing.T) {
	for _, linger := range []time.Duration{0, 10 * time.Millisecond} {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer := secured(ctx, t, "tcp", false)
			s.SetLinger(linger)
			sent := len(fill(ctx, t, s))
			n, err := s.SendSoon(ctx, make([]byte, 5000))
			if err != nil {
				t.Error(err)
			}
			s.Close()
			peers.Go(func() {
				defer peer.Close()
				lingers(0)
				got, err := io.Copy(io.Discard, peer)
				if linger == 0 && int(got) == sent+n && err == nil {
					return // the kernel has found room for the rest after all, and delivers it without us
				}
				wantError(t, "the peer's Read", err, syscall.ECONNRESET)
				t.Logf("the peer got %d bytes of %d", got, sent+n)
			})
		})
	}
}
