//go:build linux

package socket

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestLockExcludes(t *testing.T) {
	kinds := map[string]uint32{
		"using": using, "reading": reading, "writing": writing, "both": both, "looking": looking,
		"queueing": queueing,
	}
	excluded := map[[2]string]bool{
		{"reading", "reading"}: true, {"reading", "both"}: true, {"both", "reading"}: true,
		{"writing", "writing"}: true, {"writing", "both"}: true, {"both", "writing"}: true,
		{"both", "both"}: true, {"reading", "looking"}: true, {"both", "looking"}: true,
		{"writing", "queueing"}: true, {"both", "queueing"}: true,
	}
	waited := map[[2]string]bool{
		{"looking", "looking"}: true, {"looking", "reading"}: true, {"looking", "both"}: true,
		{"queueing", "writing"}: true, {"queueing", "queueing"}: true, {"queueing", "both"}: true,
	}
	for first, held := range kinds {
		for second, wanted := range kinds {
			var l lock
			if err := l.acquire(held); err != nil {
				t.Fatal(err)
			}
			pair := [2]string{first, second}
			if waited[pair] {
				continue // see TestLockWaitsForAnInstant
			}
			err := l.acquire(wanted)
			switch {
			case excluded[pair] && err != ErrBusy:
				t.Errorf("%s while %s: %v", second, first, err)
			case !excluded[pair] && err != nil:
				t.Errorf("%s while %s: %v", second, first, err)
			case err == nil && l.release(wanted):
				t.Error("an open descriptor is to be destroyed")
			}
			for _, kind := range []string{"reading", "writing", "looking"} {
				want := first == kind || first == "both" && kind != "looking" ||
					first == "queueing" && kind == "writing"
				if l.in(kinds[kind]) != want {
					t.Errorf("%s while %s: in(%s) is %v", second, first, kind, !want)
				}
			}
			if l.release(held) {
				t.Error("an open descriptor is to be destroyed")
			}
			if l.in(both) {
				t.Error("busy after release")
			}
			if err := l.acquire(both); err != nil {
				t.Errorf("after %s and %s: %v", first, second, err)
			}
		}
	}
}

// Who looks at what was read ahead may read, so a delivery leaves the input alone meanwhile.
func TestDeliveryWaitsForALook(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		s, peer, err := Pair(ctx, "unix")
		if err != nil {
			return err
		}
		if _, err := peer.SendAll(ctx, []byte("unread")); err != nil {
			return err
		}
		f, err := s.acquire(looking)
		if err != nil {
			return err
		}
		for f.flush() == nil { // more than the kernel takes
			f.enqueue(make([]byte, bufferSize))
		}
		s.Close()
		for range 3 {
			runtime.Yield(ctx)
		}
		if sysUnread(f.number) == 0 {
			t.Error("the input was taken while somebody looked at it")
		}
		f.leave(looking)
		for sysUnread(f.number) > 0 {
			if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return peer.Abort()
	})
	if err != nil {
		t.Error(err)
	}
}

// A look and an addition to the queue take an instant: whoever they exclude waits for their end
// and isn't refused.
func TestLockWaitsForAnInstant(t *testing.T) {
	for _, pair := range [][2]uint32{
		{looking, reading}, {looking, both}, {looking, looking},
		{queueing, writing}, {queueing, both}, {queueing, queueing},
	} {
		held, wanted := pair[0], pair[1]
		var l lock
		if err := l.acquire(held); err != nil {
			t.Fatal(err)
		}
		began, done := make(chan struct{}), make(chan error)
		go func() { close(began); done <- l.acquire(wanted) }()
		<-began
		for range 100 {
			goruntime.Gosched()
		}
		l.release(held)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The last user of a closed descriptor destroys it, be it Close itself.
func TestLockTellsTheLastUser(t *testing.T) {
	for _, how := range []uint32{lockClosed, lockClosed | lockOrphaned} {
		cause := error(net.ErrClosed)
		if how&lockOrphaned != 0 {
			cause = runtime.ErrShutdown
		}
		var l lock
		if first, last := l.close(how); !first || !last {
			t.Error("nobody uses it, but close isn't the last")
		}
		l = lock{}
		for _, kind := range []uint32{reading, writing, using} {
			if err := l.acquire(kind); err != nil {
				t.Fatal(err)
			}
		}
		if first, last := l.close(how); !first || last {
			t.Error("close is the last though others use it")
		}
		if first, _ := l.close(lockClosed | lockOrphaned); first {
			t.Error("it was closed before")
		}
		for _, kind := range []uint32{using, reading, writing, both, looking, queueing} {
			if err := l.acquire(kind); err != cause {
				t.Errorf("acquire after close: %v", err)
			}
		}
		for _, kind := range []uint32{writing, using} {
			if l.release(kind) {
				t.Error("release is the last though a reader is left")
			}
		}
		if !l.release(reading) {
			t.Error("the last release isn't the last")
		}
	}
}

// From many places at once: those who have a lock are alone with it, and exactly one is told to
// destroy the descriptor.
func TestLockUnderContention(t *testing.T) {
	const users, rounds = 4, 200
	kinds := []uint32{using, reading, writing, both, looking, queueing}
	for range 20 {
		var (
			l                           lock
			destroyed, readers, writers atomic.Int32
			all                         sync.WaitGroup
		)
		use := func() {
			for range rounds {
				kind := kinds[rand.IntN(len(kinds))]
				switch err := l.acquire(kind); {
				case errors.Is(err, net.ErrClosed):
					return
				case err != nil:
					goruntime.Gosched()
					continue
				}
				if kind&(lockReading|lockLooking) != 0 && readers.Add(1) != 1 ||
					kind&lockWriting != 0 && writers.Add(1) != 1 {
					t.Error("two at a time")
				}
				goruntime.Gosched()
				if kind&(lockReading|lockLooking) != 0 {
					readers.Add(-1)
				}
				if kind&lockWriting != 0 {
					writers.Add(-1)
				}
				if l.release(kind) {
					destroyed.Add(1)
				}
			}
		}
		for range users {
			all.Go(use)
		}
		for range 2 {
			all.Go(func() {
				for range rand.IntN(2 * rounds) {
					goruntime.Gosched()
				}
				if first, last := l.close(lockClosed); first && last {
					destroyed.Add(1)
				}
			})
		}
		all.Wait()
		if n := destroyed.Load(); n != 1 {
			t.Errorf("destroyed %d times", n)
		}
	}
}
