//go:build linux

package socket

import (
	"context"
	"errors"
	"testing"

	"github.com/whorl-go/whorl/runtime"
)

// A queue that is never empty, since the peer takes just what comes in, doesn't grow.
func TestQueueThatIsNeverEmptyStaysSmall(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		s.SetBuffers(4<<10, 4<<10)
		peer.SetBuffers(4<<10, 4<<10)
		f := s.conn.Load()
		message := make([]byte, 1000)
		for f.queued() < 20*len(message) {
			if _, err := s.SendSoon(ctx, message); err != nil {
				t.Fatal(err)
			}
			runtime.Yield(ctx)
		}
		for range 1000 {
			if _, err := peer.RecvAll(ctx, make([]byte, len(message))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.SendSoon(ctx, message); err != nil {
				t.Fatal(err)
			}
			runtime.Yield(ctx)
			if f.queued() == 0 {
				t.Fatal("the queue is empty")
			}
		}
		if size := cap(f.out.queue); size > 2*highWater {
			t.Errorf("a queue of %d bytes for %d", size, f.queued())
		}
		peer.Close()
	})
}

// What crypto/tls says on its own account is bounded, too: the peer may ask for it without end and
// take nothing.
func TestQueueIsBounded(t *testing.T) {
	pairs(t, func(ctx context.Context, s, peer *Socket) {
		f := s.conn.Load()
		var err error
		for n := 0; err == nil; n++ {
			if n > queueLimit/100 {
				t.Fatalf("%d bytes are queued", f.queued())
			}
			_, err = f.enqueue(make([]byte, 100))
		}
		if _, err := s.SendAll(ctx, []byte("hello")); !errors.Is(err, errQueueFull) {
			t.Error(err)
		}
	})
}
