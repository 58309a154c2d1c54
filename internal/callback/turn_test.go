//go:build linux

package callback

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// slow takes some time for each packet, and tells when it has had them all.
type slow struct {
	received, most int
	each           time.Duration
	done           *runtime.WaitGroup
}

func (s *slow) Received([]byte) {
	for begin := clock.Now(); clock.Now()-begin < s.each; {
	}
	if s.received++; s.received == s.most {
		s.done.Done()
	}
}

func (*slow) BufferFull()  {}
func (*slow) BufferEmpty() {}
func (*slow) Ended(error)  {}

// connect makes h that of a connection, and returns it with its peer.
func connect(ctx context.Context, t *testing.T, h Handler) (c *Conn, peer *socket.Socket) {
	limits, err := NewLimits(0, 0, 0, 0)
	check(t, err)
	framer, err := packet.NewEOF("\n", 10)
	check(t, err)
	path := filepath.Join(t.TempDir(), "socket")
	l, err := socket.New("unix")
	check(t, err)
	defer l.Close()
	check(t, l.Bind(ctx, path))
	check(t, l.Listen(1))
	c = new(Conn)
	c.Init(h, &limits)
	check(t, c.House().Init("unix"))
	check(t, c.Socket.Connect(ctx, path))
	check(t, c.Socket.SetProtocol(framer))
	peer, err = l.Accept(ctx)
	check(t, err)
	return c, peer
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A connection whose packets are all there doesn't keep its loop from the others, be they quick or
// not.
func TestBusyConnectionLetsOthersRun(t *testing.T) {
	const packets = 20_000
	for _, c := range []struct {
		each  time.Duration
		turns int // of another coroutine, at least
	}{
		{5 * time.Microsecond, packets / 100},
		{0, 1},
	} {
		check(t, runtime.Run(func(ctx context.Context) error {
			handler := &slow{most: packets, each: c.each, done: new(runtime.WaitGroup)}
			handler.done.Add(1)
			conn, peer := connect(ctx, t, handler)
			defer peer.Abort()
			defer conn.End(nil, true)
			if _, err := peer.SendAll(ctx, bytes.Repeat([]byte("\n"), packets)); err != nil {
				return err
			}
			turns, over := 0, false
			_, err := runtime.Go(ctx, func(ctx context.Context) {
				for ; !over; turns++ {
					runtime.Yield(ctx)
				}
			})
			check(t, err)
			check(t, conn.Start())
			err = handler.done.Wait(ctx)
			over = true
			if turns < c.turns {
				t.Errorf("%v each: another coroutine had %d turns while %d packets were handed out, want %d", c.each, turns, packets, c.turns)
			}
			return err
		}, runtime.WithLoops(1)))
	}
}

// marks tells of BufferFull and BufferEmpty.
type marks struct {
	slow
	full, empty *runtime.WaitGroup
}

func (m *marks) BufferFull()  { m.full.Done() }
func (m *marks) BufferEmpty() { m.empty.Done() }

// The low mark may be reached exactly: it is also there at 0.
func TestLowMarkIsReachedAtItsValue(t *testing.T) {
	check(t, runtime.Run(func(ctx context.Context) error {
		m := &marks{full: new(runtime.WaitGroup), empty: new(runtime.WaitGroup)}
		m.full.Add(1)
		m.empty.Add(1)
		conn, peer := connect(ctx, t, m)
		defer peer.Abort()
		defer conn.End(nil, true)
		conn.limits = &Limits{Queue: 4 << 20, High: 1000, Low: 0}
		check(t, conn.Start())
		check(t, conn.Send(make([]byte, 2<<20)))
		check(t, m.full.Wait(ctx))
		if _, err := peer.RecvAll(ctx, make([]byte, 2<<20)); err != nil {
			return err
		}
		return m.empty.Wait(ctx)
	}, runtime.WithLoops(1)))
}

// A peer that has taken something isn't stalled, though the loop, which is busy, hasn't come to the
// event that says so before the time was over.
func TestPeerThatHasTakenSomethingIsNotStalled(t *testing.T) {
	check(t, runtime.Run(func(ctx context.Context) error {
		conn, peer := connect(ctx, t, new(slow))
		defer peer.Abort()
		defer conn.End(nil, true)
		conn.limits = &Limits{Queue: 4 << 20, High: 4 << 20, Stall: time.Hour}
		check(t, conn.Start())
		check(t, conn.Send(make([]byte, 2<<20)))
		runtime.Yield(ctx)
		queued := conn.House().Queued()
		if _, err := peer.Recv(ctx, make([]byte, 100_000)); err != nil {
			return err
		}
		(*stalled)(conn).Run()
		if conn.Over() || !conn.rare.stall.Set() || conn.House().Queued() >= queued {
			t.Errorf("over: %v, %d bytes were queued, now %d",
				conn.Over(), queued, conn.House().Queued())
		}
		(*stalled)(conn).Run()
		if !conn.Over() {
			t.Error("a peer that has taken nothing isn't stalled")
		}
		return nil
	}, runtime.WithLoops(1)))
}
