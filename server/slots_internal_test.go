package server

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/runtime"
)

// waiters makes a worker without a free slot, and handshakes that wait for one, of clients from
// these addresses.
func waiters(addresses ...string) (w *worker, all []*handshake) {
	w = &worker{server: New(Config{AddressPrefix: 64})}
	for _, address := range addresses {
		c := &Conn{worker: w}
		c.setRemote(netip.AddrPortFrom(netip.MustParseAddr(address), 1))
		h := newHandshake(c)
		w.queue(h)
		all = append(all, h)
	}
	return w, all
}

// order returns in which order they are to begin.
func order(w *worker, all []*handshake) (indexes []int) {
	for h := w.handshakes.next(w); h != nil; h = w.handshakes.next(w) {
		indexes = append(indexes, slices.Index(all, h))
	}
	return indexes
}

func TestOrderOfHandshakes(t *testing.T) {
	flood := []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.9"}
	for _, c := range []struct {
		name   string
		before func(w *worker, all []*handshake)
		want   []int
	}{
		{"the addresses in turn", func(*worker, []*handshake) {}, []int{0, 3, 5, 1, 4, 2}},
		{"who has given up is passed over", func(_ *worker, all []*handshake) {
			all[0].giveUp()
			all[5].giveUp()
		}, []int{3, 1, 4, 2}},
		{"the newest, when the oldest has waited for long", func(_ *worker, all []*handshake) {
			all[0].since -= time.Second
		}, []int{2, 3, 5, 1, 4, 0}},
		{"who is in the middle comes first", func(w *worker, all []*handshake) {
			h := newHandshake(all[0].conn) // none of all
			h.underway = true
			w.queue(h)
		}, []int{-1, 0, 3, 5, 1, 4, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, all := waiters(flood...)
			c.before(w, all)
			if got := order(w, all); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if n := w.counters.waiting.Load(); n != 0 || len(w.handshakes.lineOf) != 0 {
				t.Errorf("%d still wait, %d addresses", n, len(w.handshakes.lineOf))
			}
		})
	}
}

// The end of a handshake may overtake what its coroutine has had the loop do before: nothing of it
// is left in any count.
func TestEndOvertakesTheRestOfAHandshake(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(w *worker, h *handshake)
	}{
		{"the wait for a slot", func(w *worker, h *handshake) {
			w.handshakes.slots = 1
			h.granted = runtime.NewChannel[struct{}](1)
			h.end()
			w.queue(h)
			h.giveUp()
		}},
		{"the end of that wait", func(w *worker, h *handshake) {
			w.queue(h)
			h.end()
			h.giveUp()
		}},
		{"the end of that wait, in the middle", func(w *worker, h *handshake) {
			h.underway, w.handshakes.begun = true, 1
			w.counters.handshaking.Store(1)
			w.queue(h)
			h.end()
			h.giveUp()
		}},
		{"everything, when it is forced out", func(w *worker, h *handshake) {
			w.queue(h)
			h.end()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := waiters()
			var err error
			if w.loop, err = eventloop.New(eventloop.Config{}); err != nil {
				t.Fatal(err)
			}
			defer w.loop.Close()
			conn := &Conn{worker: w}
			conn.setRemote(netip.MustParseAddrPort("192.0.2.1:1"))
			c.run(w, newHandshake(conn))
			if h := w.handshakes.next(w); h != nil {
				t.Errorf("a slot is kept for one that is over: %+v", h)
			}
			waiting, shaking := w.counters.waiting.Load(), w.counters.handshaking.Load()
			if waiting != 0 || shaking != 0 || w.handshakes.begun != 0 {
				t.Errorf("%d wait, %d shake hands, %d have begun",
					waiting, shaking, w.handshakes.begun)
			}
		})
	}
}

// A slot that is granted to who has just given up is free again.
func TestSlotGrantedTooLate(t *testing.T) {
	w := new(worker)
	h := newHandshake(&Conn{worker: w})
	h.state, h.underway = handshakeInside, true
	h.giveUp()
	if w.handshakes.slots != 1 || h.state != handshakeSilent {
		t.Errorf("%d slots are free, state %d", w.handshakes.slots, h.state)
	}
	h.end()
	if w.handshakes.slots != 1 || w.handshakes.silent.first != nil || w.handshakes.begun != -1 {
		t.Errorf("%+v", w.handshakes)
	}
}
