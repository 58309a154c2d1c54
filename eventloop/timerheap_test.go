package eventloop

import (
	"math"
	"math/rand/v2"
	"testing"
)

// heapTest drives a timer heap and a naive model of it: a list of what is set, searched from end to
// end.
type heapTest struct {
	t      *testing.T
	loop   *Loop // nobody runs it; only its heap is used
	timers []Timer
	model  []modelTimer
	serial uint64
}

type modelTimer struct {
	set    bool
	when   int64
	serial uint64
}

func newHeapTest(t *testing.T, timers int) *heapTest {
	h := &heapTest{t: t, loop: new(Loop), timers: make([]Timer, timers), model: make([]modelTimer, timers)}
	for i := range h.timers {
		h.loop.InitTimer(&h.timers[i], nil)
	}
	return h
}

func (h *heapTest) report(i int, method string, was bool) {
	if was != h.model[i].set {
		h.t.Fatalf("%s of timer %d reports %v", method, i, was)
	}
}

func (h *heapTest) set(i int, when int64) {
	h.report(i, "Reset", h.timers[i].resetAt(when))
	h.serial++
	h.model[i] = modelTimer{true, when, h.serial}
}

func (h *heapTest) stop(i int) {
	h.report(i, "Stop", h.timers[i].Stop())
	h.model[i].set = false
	if h.timers[i].index != 0 {
		h.t.Fatalf("stopped timer %d is still in the heap", i)
	}
}

func (h *heapTest) disarm(i int) {
	h.report(i, "Disarm", h.timers[i].Disarm())
	h.model[i].set = false
}

// earliest returns the timer that the model says is next, -1 if none is set.
func (h *heapTest) earliest() int {
	best := -1
	for i, m := range h.model {
		if m.set && (best < 0 || m.when < h.model[best].when || m.when == h.model[best].when && m.serial < h.model[best].serial) {
			best = i
		}
	}
	return best
}

func (h *heapTest) next() {
	want := int64(math.MaxInt64)
	if i := h.earliest(); i >= 0 {
		want = h.model[i].when
	}
	if got := h.loop.timers.next(); got > want || want == math.MaxInt64 && got != want {
		h.t.Fatalf("next is %d, must not be later than %d", got, want)
	}
}

// fire takes one timer that is due at now, set no later than serial, and reports whether there was
// one.
func (h *heapTest) fire(now int64, serial uint64) bool {
	timer := h.loop.timers.due(now, serial)
	want := h.earliest()
	if want >= 0 && (h.model[want].when > now || h.model[want].serial > serial) {
		want = -1
	}
	if want < 0 {
		if timer != nil {
			h.t.Fatalf("at %d a timer due at %d fired", now, timer.when)
		}
		return false
	}
	if timer != &h.timers[want] {
		h.t.Fatalf("at %d timer %d is due, but another fired, or none: %+v", now, want, timer)
	}
	timer.Disarm() // as runTimers does
	h.model[want].set = false
	return true
}

// check looks at the heap's own order.
func (h *heapTest) check() {
	heap := &h.loop.timers
	for i := range heap.entries {
		e := &heap.entries[i]
		if i > 0 && e.before(&heap.entries[(i-1)/arity]) {
			h.t.Fatalf("entry %d comes before its parent", i)
		}
		if e.timer.index != int32(i+1) {
			h.t.Fatalf("the timer of entry %d believes to be entry %d", i, e.timer.index-1)
		}
		if e.timer.set && (e.when > e.timer.when || e.when == e.timer.when && e.serial > e.timer.serial) {
			h.t.Fatalf("entry %d is keyed (%d, %d), later than its timer's (%d, %d)", i, e.when, e.serial, e.timer.when, e.timer.serial)
		}
	}
	set, indexed := 0, 0
	for i := range h.timers {
		if h.timers[i].set != h.model[i].set {
			h.t.Fatalf("timer %d: set is %v", i, h.timers[i].set)
		}
		if h.timers[i].set {
			set++
		}
		if h.timers[i].index != 0 {
			indexed++
		} else if h.timers[i].set {
			h.t.Fatalf("timer %d is set and not in the heap", i)
		}
	}
	if heap.set != set || len(heap.entries) != indexed {
		h.t.Fatalf("%d timers set, %d in the heap; it counts %d set among %d", set, indexed, heap.set, len(heap.entries))
	}
}

// drain fires all that is set.
func (h *heapTest) drain() {
	for h.fire(math.MaxInt64-1, h.serial) {
	}
	h.next()
	h.check()
	if n := len(h.loop.timers.entries); n != 0 {
		h.t.Fatalf("%d entries are left when nothing is set", n)
	}
}

// play has the heap do what the bytes say, three for each operation: what, with which timer, and
// when or how many.
func (h *heapTest) play(program []byte) {
	const instants = 32 // few, so that many timers share one
	now := int64(0)
	for len(program) >= 3 {
		op, i, arg := program[0], int(program[1])%len(h.timers), int64(program[2])
		program = program[3:]
		switch op % 12 {
		case 0, 1, 2:
			h.set(i, now+arg%instants)
		case 3:
			h.set(i, arg) // perhaps in the past
		case 4:
			h.stop(i)
		case 5:
			h.disarm(i)
		case 6:
			h.next()
		case 7, 8:
			now += arg % 8
			serial := h.serial
			for n := 0; h.fire(now, serial); n++ {
				if arg&64 != 0 && n < 4 { // as if the timer's function set one for the same step
					h.set(i, now)
				}
			}
			if h.serial == serial && h.loop.timers.next() <= now {
				h.t.Fatalf("nothing is due at %d any more, and next is %d", now, h.loop.timers.next())
			}
		case 9: // a run of timers
			for n := range int(arg) {
				h.set((i+n)%len(h.timers), now+(arg*int64(n))%instants)
			}
		case 10:
			for n := range int(arg) {
				h.disarm((i + n) % len(h.timers))
			}
		case 11:
			for n := range int(arg) {
				h.stop((i + n) % len(h.timers))
			}
		}
		h.check()
	}
	h.drain()
}

func FuzzTimerHeapAgainstAList(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		program := make([]byte, 3+random.IntN(600))
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		f.Add(program)
	}
	f.Add([]byte{0, 0, 1, 0, 1, 1, 0, 0, 1, 7, 0, 1})           // two at one instant, the first set again
	f.Add([]byte{0, 0, 9, 5, 0, 0, 0, 0, 2, 0, 1, 3, 7, 0, 3})  // disarmed and set to earlier
	f.Add([]byte{0, 0, 2, 5, 0, 0, 0, 0, 9, 0, 1, 3, 7, 0, 3})  // disarmed and set to later
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 2, 0, 7, 0, 64, 7, 0, 0}) // timers that set timers
	f.Add([]byte{9, 0, 255, 10, 0, 180, 6, 0, 0, 7, 0, 7})      // most disarmed
	f.Fuzz(func(t *testing.T, program []byte) {
		newHeapTest(t, 24).play(program)
		newHeapTest(t, 200).play(program)
	})
}

func TestTimersSetDuringAPassWaitForTheNext(t *testing.T) {
	h := newHeapTest(t, 3)
	h.set(0, 10)
	h.set(1, 10)
	pass := h.serial
	if !h.fire(10, pass) {
		t.Fatal("the first timer isn't due")
	}
	h.set(2, 10)
	if !h.fire(10, pass) {
		t.Fatal("the second timer isn't due")
	}
	if h.fire(10, pass) {
		t.Fatal("the timer that was set during the pass fired in it")
	}
	if !h.fire(10, h.serial) {
		t.Fatal("the timer that was set during the pass doesn't fire in the next")
	}
}

// The heap must not keep the memory of its fullest hour, nor the timers that were in it.
func TestTheHeapGivesMemoryBack(t *testing.T) {
	for _, way := range []struct {
		name string
		end  func(h *heapTest, i int)
	}{
		{"stopped", func(h *heapTest, i int) { h.stop(i) }},
		{"disarmed", func(h *heapTest, i int) { h.disarm(i) }},
		{"fired", func(h *heapTest, i int) {
			if h.loop.timers.due(int64(i), h.serial) != &h.timers[i] {
				h.t.Fatalf("timer %d isn't due", i)
			}
			h.timers[i].Disarm()
			h.model[i].set = false
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			const timers = 1 << 16
			h := newHeapTest(t, timers)
			for i := range h.timers {
				h.set(i, int64(i))
			}
			full := cap(h.loop.timers.entries)
			for i := range h.timers {
				way.end(h, i)
				if i == timers/2 {
					h.check()
				}
			}
			h.loop.timers.next() // drops what is disarmed
			h.check()
			entries := h.loop.timers.entries
			if len(entries) != 0 || cap(entries) > full/8 {
				t.Errorf("the empty heap has %d entries and room for %d; full it had room for %d", len(entries), cap(entries), full)
			}
			for _, e := range entries[:cap(entries)] {
				if e.timer != nil {
					t.Fatal("the empty heap keeps a timer alive")
				}
			}
		})
	}
}

func TestATimeOutThatIsRenewedStaysWhereItIs(t *testing.T) {
	h := newHeapTest(t, 100)
	for i := range h.timers {
		h.set(i, int64(i))
	}
	place := h.timers[7].index
	for n := range 1000 {
		h.disarm(7)
		h.set(7, int64(7+n))
		if h.timers[7].index != place {
			t.Fatal("setting the timer to later moved it in the heap")
		}
	}
	if n := len(h.loop.timers.entries); n != len(h.timers) {
		t.Errorf("%d entries for %d timers", n, len(h.timers))
	}
	h.check()
	h.drain()
}
