//go:build linux

package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	inhouse "github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// What goes over a link is a pattern that repeats itself, so that whoever writes knows from the
// number of bytes sent how to go on, and whoever reads what comes next.
const (
	period  = 65521
	largest = 3 * period
)

var (
	pattern = func() []byte {
		p := make([]byte, period)
		for i := range p {
			p[i] = byte(i*7 + i>>8)
		}
		return bytes.Repeat(p, 5)
	}()
	file *os.File // that holds pattern
)

func writeFiles(t *testing.T) (*os.File, string) {
	f, err := os.Create(filepath.Join(t.TempDir(), "pattern"))
	leaktest.Check(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(pattern)
	leaktest.Check(t, err)
	name := filepath.Join(t.TempDir(), "packets")
	leaktest.Check(t, os.WriteFile(name, bytes.Join(packets[:], nil), 0o600))
	return f, name
}

// expected returns what comes behind so many bytes.
func expected(n int64) []byte { return pattern[n%period:] }

// readTimeout is long enough for whatever is on its way on a busy machine.
const readTimeout = 2 * time.Second

// A link is two connected sockets. At a time one reads and one writes at either end; everything
// else may happen to it whenever it likes.
type link struct {
	ends   [2]*end
	secure bool
	over   atomic.Bool // its end has begun
}

type end struct {
	*socket.Socket
	peer             *end
	reading, writing atomic.Bool  // somebody does
	sent, received   atomic.Int64 // by whoever writes or reads
	lost             atomic.Bool  // nobody knows what was sent: a record of TLS is on its way
}

// keepLink makes links, one after the other, and leaves each to others for a while.
func (r *round) keepLink(ctx context.Context, rnd *rand.Rand, i int) {
	for !r.over(ctx) {
		l, err := r.connect(ctx, rnd)
		if err != nil {
			r.checkUnless(false, "connect", err)
			continue
		}
		r.links[i].Store(l)
		end := time.Now().Add(time.Duration(rnd.IntN(600)) * time.Millisecond)
		for time.Now().Before(end) && !r.over(ctx) && !l.over.Load() {
			pause(ctx, rnd, 20*time.Millisecond)
		}
		r.links[i].Store(nil)
		if !l.over.Swap(true) && rnd.IntN(2) == 0 {
			r.finish(ctx, rnd, l)
		}
		for _, e := range l.ends {
			e.Close()
		}
	}
}

func (r *round) connect(ctx context.Context, rnd *rand.Rand) (*link, error) {
	network := []string{"pair", "tcp", "unix"}[rnd.IntN(3)]
	a, b, err := r.sockets(ctx, rnd, network)
	if err != nil {
		return nil, err
	}
	l := &link{ends: [2]*end{{Socket: a}, {Socket: b}}, secure: rnd.IntN(3) == 0}
	l.ends[0].peer, l.ends[1].peer = l.ends[1], l.ends[0]
	for _, e := range l.ends {
		e.SetTimeouts(socket.Timeouts{Read: readTimeout, Write: readTimeout})
	}
	if !l.secure {
		return l, nil
	}
	client, server := certified()
	done := runtime.NewChannel[error](1)
	r.start(ctx, rnd, func(ctx context.Context, _ *rand.Rand) {
		done.Push(context.Background(), b.SSLHandshake(ctx, server))
	})
	err = a.SSLHandshake(ctx, client)
	other, popErr := done.Pop(ctx)
	if err = errors.Join(err, other, popErr); err != nil {
		a.Close()
		b.Close()
	}
	r.count.handshakes.Add(1)
	return l, err
}

func (r *round) sockets(
	ctx context.Context, rnd *rand.Rand, network string,
) (a, b *socket.Socket, err error) {
	if network == "pair" {
		return socket.Pair(ctx, "unix")
	}
	l, err := socket.Listen(ctx, network, address(network))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	accepted := runtime.NewChannel[*socket.Socket](1)
	r.start(ctx, rnd, func(ctx context.Context, _ *rand.Rand) {
		s, err := l.Accept(ctx)
		r.checkUnless(false, "Accept", err)
		accepted.Push(context.Background(), s)
	})
	if a, err = socket.New(network); err != nil {
		return nil, nil, err
	}
	if err = a.Connect(ctx, l.LocalAddr().String()); err == nil {
		b, err = accepted.Pop(ctx)
	}
	if err == nil && b == nil {
		err = context.Canceled
	}
	if err != nil {
		a.Close()
	}
	return a, b, err
}

// finish ends both directions, and sees that all has arrived.
func (r *round) finish(ctx context.Context, rnd *rand.Rand, l *link) {
	for _, e := range l.ends {
		for _, use := range []*atomic.Bool{&e.writing, &e.reading} {
			for !use.CompareAndSwap(false, true) {
				if runtime.Sleep(ctx, time.Millisecond) != nil {
					return
				}
			}
		}
	}
	if l.ends[0].lost.Load() || l.ends[1].lost.Load() {
		return
	}
	var all runtime.WaitGroup
	all.Add(2)
	for _, e := range l.ends {
		r.start(ctx, rnd, func(ctx context.Context, _ *rand.Rand) {
			defer all.Done()
			recv := func(p []byte) (int, error) { return e.Recv(ctx, p) }
			err := r.take(e, recv, 1<<16)
			for err == nil {
				err = r.take(e, recv, 1<<16)
			}
			if sent := e.peer.sent.Load(); err != io.EOF {
				r.checkUnless(false, "the last Recv", err)
			} else if e.received.Load() != sent {
				r.t.Errorf("%d of %d bytes have arrived", e.received.Load(), sent)
			}
		})
	}
	for _, e := range l.ends {
		r.checkUnless(false, "Shutdown", e.Shutdown(ctx, socket.ShutdownWrite))
	}
	all.Wait(ctx)
}

// take has up to size bytes read, and looks at them.
func (r *round) take(e *end, read func(p []byte) (int, error), size int) error {
	p := make([]byte, size)
	n, err := read(p)
	if lookErr := r.look(e, p[:n], true); lookErr != nil {
		return lookErr
	}
	return err
}

// look compares bytes with what should come next, and counts them if they have been taken.
func (r *round) look(e *end, p []byte, taken bool) error {
	at := e.received.Load()
	if len(p) <= largest && !bytes.HasPrefix(expected(at), p) {
		err := fmt.Errorf("%d bytes behind %d are not what was sent", len(p), at)
		r.check("look", err)
		return err
	}
	if taken {
		e.received.Add(int64(len(p)))
	}
	return nil
}

// inner returns what the module's packages may do with s.
func inner(s *socket.Socket) inhouse.Socket { return socket.House(s, inhouse.Key{}) }
