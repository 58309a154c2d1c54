//go:build unix

package eventloop

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPoller(t *testing.T) {
	const edge = EdgeTriggered
	for _, is := range []struct {
		name string
		so   func(t *testing.T, p *poller, closeIt func())
	}{
		{"a poll finds what was ready, in order", func(t *testing.T, p *poller, _ func()) {
			var ends [5]end
			for i := range ends {
				ends[i] = newEnd(t)
				watchEnd(t, p, ends[i], uint32(i+1), Readable|edge)
			}
			found(t, p, p.poll(), "")
			for _, i := range []int{3, 0, 4} {
				ends[i].raise(t)
			}
			found(t, p, p.poll(), "4:0x1 1:0x1 5:0x1")
			found(t, p, p.poll(), "")
			ends[1].raise(t)
			found(t, p, p.wait(-1), "2:0x1")
		}},
		{"an edge is reported once, and once more when more comes", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			e.raise(t)
			watchEnd(t, p, e, 1, Readable|edge)
			found(t, p, p.poll(), "1:0x1")
			found(t, p, p.poll(), "")
			e.raise(t)
			e.raise(t)
			found(t, p, p.poll(), "1:0x1")
			found(t, p, p.wait(0), "")
		}},
		{"a level is reported as long as it lasts", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 1, Readable)
			e.raise(t)
			for range 3 {
				found(t, p, p.poll(), "1:0x1")
				found(t, p, p.wait(-1), "1:0x1")
			}
			e.lower(t)
			found(t, p, p.poll(), "")
			e.raise(t)
			found(t, p, p.poll(), "1:0x1")
		}},
		{"modify reports anew", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 7, Readable|edge)
			e.raise(t)
			found(t, p, p.poll(), "7:0x1")
			for _, ask := range []struct {
				events Events
				found  string
			}{
				{Readable | edge, "7:0x1"},
				{Writable | edge, "7:0x4"},
				{Readable | Writable | edge, "7:0x5"},
				{edge, ""},
				{Readable, "7:0x1"},
			} {
				if err := p.modify(e.fd, 7, ask.events); err != nil {
					t.Error(err)
				}
				found(t, p, p.poll(), ask.found)
			}
			e.raise(t)
			if err := p.modify(e.fd, 7, Writable); err != nil {
				t.Error(err)
			}
			found(t, p, p.poll(), "7:0x4")
		}},
		{"a peer that has closed its sending side", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 1, Readable|Writable|PeerClosed|edge)
			found(t, p, p.poll(), "1:0x4")
			unix.Shutdown(e.peer, unix.SHUT_WR)
			found(t, p, p.poll(), "1:0x2005")
			e.fill(t)
			for _, ask := range []struct {
				events Events
				found  string
			}{
				{Readable | Writable | PeerClosed, "1:0x2001"},
				{Writable | PeerClosed, "1:0x2000"},
				{Writable, ""},
			} {
				if err := p.modify(e.fd, 1, ask.events); err != nil {
					t.Error(err)
				}
				found(t, p, p.poll(), ask.found)
			}
		}},
		{"a peer that is gone", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 1, Readable|Writable|PeerClosed|edge)
			found(t, p, p.poll(), "1:0x4")
			unix.Close(e.peer)
			found(t, p, p.poll(), "1:0x2015")
		}},
		{"what was removed is not found", func(t *testing.T, p *poller, _ func()) {
			gone, left := newEnd(t), newEnd(t)
			for _, events := range []Events{Readable | edge, Readable} {
				watchEnd(t, p, gone, 1, events)
				watchEnd(t, p, left, 2, events)
				gone.raise(t)
				left.raise(t)
				p.remove(gone.fd)
				found(t, p, p.poll(), "2:0x1")
				p.remove(left.fd)
				found(t, p, p.poll(), "")
			}
		}},
		{"a number in use again has its new generation", func(t *testing.T, p *poller, _ func()) {
			first, next := newEnd(t), newEnd(t)
			watchEnd(t, p, first, 1, Readable|edge)
			first.raise(t)
			p.remove(first.fd)
			if err := unix.Dup2(next.fd, first.fd); err != nil { // closes the former
				t.Fatal(err)
			}
			watchEnd(t, p, first, 2, Readable|edge)
			found(t, p, p.poll(), "")
			next.raise(t)
			found(t, p, p.poll(), "2:0x1")
		}},
		{"a poll has a limit, the others come next", func(t *testing.T, p *poller, _ func()) {
			const many = maxEvents + 50
			times := make(map[uint32]int)
			for i := range many {
				e := newEnd(t)
				watchEnd(t, p, e, uint32(i+1), Readable)
				e.raise(t)
			}
			for range 2 {
				n := p.poll()
				if n > maxEvents {
					t.Fatalf("%d at a time", n)
				}
				for i := range n {
					_, generation, _ := p.event(i)
					times[generation]++
				}
			}
			if len(times) != many {
				t.Errorf("%d of %d were found", len(times), many)
			}
		}},
		{"wake-ups before a poll are one", func(t *testing.T, p *poller, _ func()) {
			var all sync.WaitGroup
			for range 10 {
				all.Go(p.wake)
			}
			all.Wait()
			found(t, p, p.wait(-1), "")
			waits(t, p, 20*time.Millisecond)
		}},
		{"wake ends a wait, and so does a descriptor", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 1, Readable|edge)
			for range 200 {
				go p.wake()
				found(t, p, p.wait(-1), "")
				go e.raise(t)
				found(t, p, p.wait(-1), "1:0x1")
			}
		}},
		{"a wait is no shorter than the time-out", func(t *testing.T, p *poller, _ func()) {
			for d := time.Microsecond; d < 10*time.Millisecond; d = d*3/2 + 1 {
				waits(t, p, d)
			}
		}},
		{"a closed one does nothing", func(t *testing.T, p *poller, closeIt func()) {
			e := newEnd(t)
			watchEnd(t, p, e, 1, Readable|edge)
			found(t, p, p.wait(0), "")
			closeIt()
			p.wake()
			p.remove(e.fd)
			for name, err := range map[string]error{
				"add": p.add(newEnd(t).fd, 2, Readable), "modify": p.modify(e.fd, 1, Readable),
			} {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}},
		{"what can't be watched is refused", func(t *testing.T, p *poller, _ func()) {
			e := newEnd(t)
			unix.Close(e.fd)
			if err := p.add(e.fd, 1, Readable); !errors.Is(err, unix.EBADF) {
				t.Errorf("a closed descriptor: %v", err)
			}
		}},
	} {
		t.Run(is.name, func(t *testing.T) {
			p, err := openPoller()
			if err != nil {
				t.Fatal(err)
			}
			closeIt := sync.OnceFunc(p.close)
			defer closeIt()
			is.so(t, p, closeIt)
		})
	}
}

// An end is one end of a pair of sockets.
type end struct{ fd, peer int }

func newEnd(t *testing.T) end {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		unix.SetNonblock(fd, true)
		t.Cleanup(func() { unix.Close(fd) })
	}
	return end{pair[0], pair[1]}
}

// raise makes it readable, or more so.
func (e end) raise(t *testing.T) {
	t.Helper()
	if _, err := unix.Write(e.peer, []byte("x")); err != nil {
		t.Error(err)
	}
}

// fill makes it unwritable.
func (e end) fill(t *testing.T) {
	t.Helper()
	for full := make([]byte, 64<<10); ; {
		if _, err := unix.Write(e.fd, full); err == unix.EAGAIN {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// lower makes it unreadable.
func (e end) lower(t *testing.T) {
	t.Helper()
	if _, err := unix.Read(e.fd, make([]byte, 64)); err != nil {
		t.Error(err)
	}
}

func watchEnd(t *testing.T, p *poller, e end, generation uint32, events Events) {
	t.Helper()
	if err := p.add(e.fd, generation, events); err != nil {
		t.Fatal(err)
	}
}

// waits waits for as long as that. A signal may end a wait early, but one that is too short by
// itself takes many.
func waits(t *testing.T, p *poller, d time.Duration) {
	t.Helper()
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		found(t, p, p.wait(max(0, time.Until(end))), "")
	}
	if n > 20 {
		t.Errorf("%d waits for %v", n, d)
	}
}

// found compares the n events that were found with want, of the form "generation:events …". The
// poller's own have generation 0.
func found(t *testing.T, p *poller, n int, want string) {
	t.Helper()
	var got []byte
	for i := range n {
		if _, generation, events := p.event(i); generation != 0 {
			got = fmt.Appendf(got, " %d:%#x", generation, uint32(events))
		}
	}
	if got := string(bytes.TrimPrefix(got, []byte(" "))); got != want {
		t.Errorf("found %q, not %q", got, want)
	}
}
