//go:build linux

package stress

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// useLinks does one thing after the other, each to any end of any link.
func (r *round) useLinks(ctx context.Context, rnd *rand.Rand) {
	for !r.over(ctx) {
		l := r.links[rnd.IntN(len(r.links))].Load()
		if l == nil {
			pause(ctx, rnd, time.Millisecond)
			continue
		}
		e := l.ends[rnd.IntN(2)]
		ctx, cancel := soon(ctx, rnd)
		switch n := rnd.IntN(20); {
		case n < 9 && e.reading.CompareAndSwap(false, true):
			if !l.over.Load() {
				r.read(ctx, rnd, l, e)
			}
			e.reading.Store(false)
		case n < 18 && e.writing.CompareAndSwap(false, true):
			if !l.over.Load() && !e.lost.Load() {
				r.write(ctx, rnd, l, e)
			}
			e.writing.Store(false)
		default:
			r.disturb(rnd, l, e)
			runtime.Yield(ctx) // none of that waits
		}
		cancel()
	}
}

func (r *round) read(ctx context.Context, rnd *rand.Rand, l *link, e *end) {
	r.count.reads.Add(1)
	begin, at, sent := time.Now(), e.received.Load(), e.peer.sent.Load()
	var err error
	kind := rnd.IntN(6)
	switch kind {
	case 0:
		err = r.take(e, func(p []byte) (int, error) { return e.Recv(ctx, p) }, 1+rnd.IntN(20_000))
	case 1:
		err = r.take(e, func(p []byte) (int, error) { return e.RecvAll(ctx, p) }, 1+rnd.IntN(3000))
	case 2:
		err = r.take(e, func(p []byte) (int, error) {
			half := (len(p) + 1) / 2
			return e.ReadVector(ctx, [][]byte{p[:half], p[half:]})
		}, 2+rnd.IntN(5000))
	case 3:
		var pkt []byte
		if pkt, err = e.RecvPacket(ctx); err == nil {
			_, peekErr := e.Peek(make([]byte, 100)) // leaves it valid
			r.checkUnless(l.over.Load(), "Peek", peekErr)
			err = r.look(e, pkt, true)
		}
	case 4:
		for pkt, packetErr := range e.Packets(ctx) {
			if err = errors.Join(packetErr, r.look(e, pkt, true)); err != nil || rnd.IntN(3) == 0 {
				break
			}
		}
	case 5:
		p := make([]byte, 1+rnd.IntN(5000))
		var n int
		n, err = e.Peek(p)
		r.look(e, p[:n], false)
	}
	r.checkUnless(l.over.Load(), "read", err)
	if errors.Is(err, runtime.ErrTimeout) && time.Since(begin) >= readTimeout && sent > at &&
		e.received.Load() == at && !l.over.Load() && !r.cut.Load() {
		r.t.Errorf("read %d: nothing has come behind %d bytes, of %d that were sent", kind, at, sent)
	}
}

func (r *round) write(ctx context.Context, rnd *rand.Rand, l *link, e *end) {
	r.count.writes.Add(1)
	size := 2 + rnd.IntN(3000)
	if rnd.IntN(10) == 0 {
		size = 2 + rnd.IntN(largest-1)
	}
	p := expected(e.sent.Load())[:size]
	n, exact := 0, !l.secure
	var err error
	switch rnd.IntN(6) {
	case 0:
		n, err = e.SendAll(ctx, p)
	case 1:
		n, err = inner(e.Socket).SendExact(ctx, p)
		exact = true
	case 2:
		n, err = e.SendSoon(ctx, p)
	case 3:
		half := (size + 1) / 2
		n, err = e.WriteVectorAll(ctx, [][]byte{p[:half], p[half:]})
	case 4:
		n, err = e.Send(ctx, p)
	case 5:
		var sent int64
		sent, err = e.SendFile(ctx, file, e.sent.Load()%period, int64(size))
		n = int(sent)
	}
	e.sent.Add(int64(n))
	if err == nil && rnd.IntN(8) == 0 {
		err = e.Flush(ctx)
	}
	if err != nil && !exact {
		e.lost.Store(true)
	}
	r.checkUnless(l.over.Load(), "write", err)
}

// disturb does what may be done at any time, from anywhere: now, or in a function of a loop.
func (r *round) disturb(rnd *rand.Rand, l *link, e *end) {
	own := fork(rnd)
	loops := r.rt.Loops()
	switch loop := loops[rnd.IntN(len(loops))]; rnd.IntN(3) {
	case 0:
		loop.Post(func() { r.disturbNow(own, l, e) })
	case 1:
		loop.Post(func() { loop.Defer(func() { r.disturbNow(own, l, e) }) })
	default:
		r.disturbNow(own, l, e)
	}
}

func (r *round) disturbNow(rnd *rand.Rand, l *link, e *end) {
	ended := func() bool { return l.over.Load() || r.cut.Load() }
	switch n := rnd.IntN(100); {
	case n < 20:
		e.Cancel(socket.ReadEvent)
	case n < 40:
		e.Cancel(socket.WriteEvent)
	case n < 50:
		inner(e.Socket).Interrupt()
	case n < 60:
		if !e.Alive() && !ended() {
			r.t.Error("an open connection isn't alive")
		}
	case n < 70:
		if (e.LocalAddr() == nil || e.RemoteAddr() == nil) && !ended() {
			r.t.Error("no address")
		}
	case n < 80:
		_, err := e.Option(syscall.SOL_SOCKET, syscall.SO_TYPE)
		r.checkUnless(l.over.Load(), "Option", err)
	case n < 98:
		inner(e.Socket).Queued()
		e.Buffered()
		e.SetTimeouts(e.Timeouts())
	case l.over.Swap(true): // its keeper ends it
	case n == 98:
		e.Close()
	default:
		e.Abort()
	}
}
