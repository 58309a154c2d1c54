package eventloop

import "math"

// timerHeap is a 4-ary min-heap of timers. The keys lie in the heap itself, so that sifting touches
// few cache lines.
//
// A timer whose time is moved to later keeps its place: only Timer.when and Timer.serial change,
// and when the entry comes up it is put back with the true ones. Time-outs that are renewed for
// each packet, nearly always to a later time, so cost a store each, and one sift per time-out
// period. The same holds for timers that are disarmed: their entries are dropped when they come up.
type timerHeap struct {
	entries []timerEntry
	serial  uint64
	set     int // timers that are set; the other entries are dead
}

// timerEntry is ordered by when, then serial. Neither is ever greater than the timer's; if the
// serial is the timer's, so is when.
type timerEntry struct {
	when   int64
	serial uint64
	timer  *Timer
}

func (e *timerEntry) before(o *timerEntry) bool {
	return e.when < o.when || e.when == o.when && e.serial < o.serial
}

const arity = 4

// next returns when the loop has to look at the heap again: never later than the earliest timer,
// math.MaxInt64 if none is set. It may be earlier, if the timer on top was moved or disarmed; to
// find out, which means touching a timer that has long left the cache, is left to due.
func (h *timerHeap) next() int64 {
	if len(h.entries) > compactAbove && h.set < len(h.entries)/4 {
		h.compact()
	}
	if h.set == 0 || len(h.entries) == 0 {
		return math.MaxInt64
	}
	return h.entries[0].when
}

// due takes the earliest timer out of the heap if it is due at now and was set no later than
// serial; else it returns nil.
func (h *timerHeap) due(now int64, serial uint64) *Timer {
	for len(h.entries) > 0 && h.entries[0].when <= now {
		top := h.entries[0]
		switch t := top.timer; {
		case !t.set:
			h.remove(0)
		case t.serial != top.serial:
			h.renew(t) // it was set again since
		case top.serial > serial:
			return nil
		default:
			h.remove(0)
			return t
		}
	}
	return nil
}

// compactAbove is the size below which dead entries are left where they are.
const compactAbove = 64

// compact drops the entries of timers that are not set, when most are.
func (h *timerHeap) compact() {
	alive := make([]timerEntry, 0, 2*h.set)
	for _, e := range h.entries {
		if t := e.timer; t.set {
			t.key = t.when
			alive = append(alive, timerEntry{t.when, t.serial, t})
			t.index = int32(len(alive))
		} else {
			t.index = 0
		}
	}
	h.entries = alive
	for i := (len(alive) - 2) / arity; i >= 0 && len(alive) > 1; i-- {
		h.down(i)
	}
}

// place puts a timer that has just been set where it belongs; if it is in the heap at an earlier
// time, there it stays.
func (h *timerHeap) place(t *Timer) {
	h.serial++
	t.serial = h.serial
	switch {
	case t.index == 0:
		t.key = t.when
		h.entries = append(h.entries, timerEntry{t.when, t.serial, t})
		h.up(len(h.entries) - 1)
	case t.when < t.key:
		t.key = t.when
		h.entries[t.index-1] = timerEntry{t.when, t.serial, t}
		h.up(int(t.index - 1))
	}
}

// renew gives a timer's entry its true time and serial, which come after the key.
func (h *timerHeap) renew(t *Timer) {
	i := int(t.index - 1)
	t.key = t.when
	h.entries[i].when, h.entries[i].serial = t.when, t.serial
	h.down(i)
}

func (h *timerHeap) remove(i int) {
	last := len(h.entries) - 1
	h.entries[i].timer.index = 0
	moved := h.entries[last]
	h.entries[last] = timerEntry{}
	h.entries = h.entries[:last]
	if i == last {
		h.shrink()
		return
	}
	h.entries[i] = moved
	moved.timer.index = int32(i + 1)
	if !h.up(i) {
		h.down(i)
	}
	h.shrink()
}

// shrink gives memory back after a large number of timers has gone.
func (h *timerHeap) shrink() {
	if c := cap(h.entries); c > 4096 && len(h.entries) < c/4 {
		h.entries = append(make([]timerEntry, 0, c/2), h.entries...)
	}
}

func (h *timerHeap) up(i int) (moved bool) {
	e := h.entries[i]
	start := i
	for i > 0 {
		parent := (i - 1) / arity
		if !e.before(&h.entries[parent]) {
			break
		}
		h.entries[i] = h.entries[parent]
		h.entries[i].timer.index = int32(i + 1)
		i = parent
	}
	h.entries[i] = e
	e.timer.index = int32(i + 1)
	return i != start
}

func (h *timerHeap) down(i int) {
	e := h.entries[i]
	n := len(h.entries)
	for {
		first := i*arity + 1
		if first >= n {
			break
		}
		least := first
		for c := first + 1; c < min(first+arity, n); c++ {
			if h.entries[c].before(&h.entries[least]) {
				least = c
			}
		}
		if !h.entries[least].before(&e) {
			break
		}
		h.entries[i] = h.entries[least]
		h.entries[i].timer.index = int32(i + 1)
		i = least
	}
	h.entries[i] = e
	e.timer.index = int32(i + 1)
}
