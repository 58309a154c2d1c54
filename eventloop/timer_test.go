//go:build unix

package eventloop_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/clock"
)

func TestTimersNeverFireEarly(t *testing.T) {
	const timers = 1000
	l := start(t)
	random := rand.New(rand.NewPCG(1, 2))
	left := timers
	done := make(chan struct{})
	fired := func(set time.Time, d time.Duration) {
		if after := time.Since(set); after < d {
			t.Errorf("a timer of %v fired after %v", d, after)
		}
		if left--; left == 0 {
			close(done)
		}
	}
	on(t, l, func() {
		for i := range timers {
			d := time.Duration(random.Int64N(int64(20 * time.Millisecond)))
			if i%2 == 0 {
				d %= time.Millisecond
			}
			set := time.Now()
			fn := func() { fired(set, d) }
			switch i % 5 {
			case 0:
				l.AfterFunc(d, fn)
			case 1:
				l.AfterFunc(0, fn).Reset(d)
			case 2:
				l.AfterFunc(time.Hour, fn).ResetAt(set.Add(d))
			case 3:
				timer := l.AfterFunc(d/2, fn)
				timer.Disarm()
				timer.Reset(d)
			case 4:
				timer := l.AfterFunc(d/2, fn)
				timer.Stop()
				timer.ResetAt(set.Add(d))
			}
		}
	})
	await(t, done)
}

// One after the other, so that the loop sleeps for each of them.
func TestTimersWakeASleepingLoopNeverEarly(t *testing.T) {
	l := start(t)
	fired := make(chan time.Duration)
	for d := time.Microsecond; d < 5*time.Millisecond; d = d*5/4 + 1 {
		on(t, l, func() {
			set := time.Now()
			l.AfterFunc(d, func() { fired <- time.Since(set) })
		})
		if after := await(t, fired); after < d {
			t.Errorf("a timer of %v fired after %v", d, after)
		}
	}
}

func TestTimersDueAtTheSameInstantFireInTheOrderTheyWereSet(t *testing.T) {
	l := start(t)
	var said trace
	done := make(chan struct{})
	on(t, l, func() {
		instant := time.Now().Add(time.Millisecond)
		timer := func(name string) *eventloop.Timer {
			timer := l.AfterFunc(time.Hour, func() { said.say("%s", name) })
			timer.ResetAt(instant)
			return timer
		}
		again := timer("set again")
		disarmed := timer("disarmed, then set again")
		stopped := timer("stopped, then set again")
		later := timer("set to later, then back")
		never := timer("disarmed for good")
		timer("first")
		timer("second")
		again.ResetAt(instant)
		disarmed.Disarm()
		disarmed.ResetAt(instant)
		stopped.Stop()
		stopped.ResetAt(instant)
		later.ResetAt(instant.Add(time.Hour))
		later.ResetAt(instant)
		never.Disarm()
		timer("third")
		l.AfterFunc(time.Hour, func() { close(done) }).ResetAt(instant)
	})
	await(t, done)
	said.mustBe(t, `
		first
		second
		set again
		disarmed, then set again
		stopped, then set again
		set to later, then back
		third`)
}

func TestWhatTimerMethodsReport(t *testing.T) {
	type timer = eventloop.Timer
	var (
		set    = func(t *timer) bool { return t.Set() }
		stop   = func(t *timer) bool { return t.Stop() }
		disarm = func(t *timer) bool { return t.Disarm() }
		reset  = func(t *timer) bool { return t.Reset(time.Hour) }
		at     = func(t *timer) bool { return t.ResetAt(time.Now().Add(time.Hour)) }
	)
	l := start(t)
	nothing := func() {}
	initialised := func() *timer {
		timer := new(timer)
		l.InitTimer(timer, &taskLog{say: func(string) {}})
		return timer
	}
	states := []struct {
		name string
		set  bool
		make func() *timer
	}{
		{"initialised", false, initialised},
		{"made by AfterFunc", true, func() *timer { return l.AfterFunc(time.Hour, nothing) }},
		{"initialised and set", true, func() *timer { timer := initialised(); timer.Reset(time.Hour); return timer }},
		{"stopped", false, func() *timer { timer := l.AfterFunc(time.Hour, nothing); timer.Stop(); return timer }},
		{"disarmed", false, func() *timer { timer := l.AfterFunc(time.Hour, nothing); timer.Disarm(); return timer }},
		{"disarmed, then stopped", false, func() *timer {
			timer := l.AfterFunc(time.Hour, nothing)
			timer.Disarm()
			timer.Stop()
			return timer
		}},
		{"stopped and set again", true, func() *timer {
			timer := l.AfterFunc(time.Hour, nothing)
			timer.Stop()
			timer.Reset(time.Minute)
			return timer
		}},
		{"disarmed and set again", true, func() *timer {
			timer := l.AfterFunc(time.Hour, nothing)
			timer.Disarm()
			timer.Reset(2 * time.Hour)
			return timer
		}},
		{"set to never", true, func() *timer { return l.AfterFunc(math.MaxInt64, nothing) }},
		{"set to a year beyond the clock", true, func() *timer {
			timer := initialised()
			timer.ResetAt(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
			return timer
		}},
	}
	methods := []struct {
		name   string
		call   func(*timer) bool
		setNow func(before bool) bool
	}{
		{"Set", set, func(before bool) bool { return before }},
		{"Stop", stop, func(bool) bool { return false }},
		{"Disarm", disarm, func(bool) bool { return false }},
		{"Reset", reset, func(bool) bool { return true }},
		{"ResetAt", at, func(bool) bool { return true }},
	}
	on(t, l, func() {
		for _, state := range states {
			for _, method := range methods {
				timer := state.make()
				if was := method.call(timer); was != state.set {
					t.Errorf("%s: %s reports %v", state.name, method.name, was)
				}
				if is := timer.Set(); is != method.setNow(state.set) {
					t.Errorf("%s: after %s, Set reports %v", state.name, method.name, is)
				}
				if was := timer.Stop(); was != method.setNow(state.set) {
					t.Errorf("%s: after %s, Stop reports %v", state.name, method.name, was)
				}
			}
		}
	})
	awaitSleep(t, l)
	if n := l.Stats().Timers; n != 0 {
		t.Errorf("Stats().Timers is %d after all were stopped", n)
	}
}

func TestATimerThatFiresIsNotSet(t *testing.T) {
	l := start(t)
	var said trace
	done := make(chan struct{})
	on(t, l, func() {
		fired := 0
		var timer *eventloop.Timer
		timer = l.AfterFunc(0, func() {
			fired++
			said.say("fired %d: Set %v, Stop %v, Disarm %v", fired, timer.Set(), timer.Stop(), timer.Disarm())
			if fired == 3 {
				l.Defer(func() {
					said.say("afterwards: Set %v, Stop %v, Reset %v", timer.Set(), timer.Stop(), timer.Reset(time.Hour))
					close(done)
				})
				return
			}
			said.say("Reset %v, Reset again %v", timer.Reset(0), timer.Reset(0))
		})
	})
	await(t, done)
	said.mustBe(t, `
		fired 1: Set false, Stop false, Disarm false
		Reset false, Reset again true
		fired 2: Set false, Stop false, Disarm false
		Reset false, Reset again true
		fired 3: Set false, Stop false, Disarm false
		afterwards: Set false, Stop false, Reset false`)
}

func TestATimerCanStopAnotherThatIsDueWithIt(t *testing.T) {
	l := start(t)
	var said trace
	done := make(chan struct{})
	on(t, l, func() {
		instant := time.Now()
		at := func(what string, also func()) *eventloop.Timer {
			timer := l.AfterFunc(time.Hour, func() {
				said.say("%s", what)
				if also != nil {
					also()
				}
			})
			timer.ResetAt(instant)
			return timer
		}
		var stopped, disarmed, moved *eventloop.Timer
		at("first", func() {
			said.say("Stop %v, Disarm %v, Reset %v", stopped.Stop(), disarmed.Disarm(), moved.Reset(0))
		})
		stopped = at("stopped", nil)
		disarmed = at("disarmed", nil)
		moved = at("moved", func() { close(done) })
		at("last", func() { l.Defer(func() { said.say("next step") }) })
	})
	await(t, done)
	said.mustBe(t, `
		first
		Stop true, Disarm true, Reset true
		last
		next step
		moved`)
}

// The entry of a disarmed timer stays in the loop's heap. It must neither fire nor keep the timer's
// next time from counting.
func TestADisarmedTimerFiresAtItsNewTimeOnly(t *testing.T) {
	l := start(t)
	var said trace
	done := make(chan struct{})
	on(t, l, func() {
		instant := time.Now().Add(time.Millisecond)
		after := func(n int) time.Time { return instant.Add(time.Duration(n) * time.Microsecond) }
		at := func(n int, what string) *eventloop.Timer {
			timer := l.AfterFunc(time.Hour, func() {
				if now := time.Now(); now.Before(after(n)) {
					t.Errorf("%s fired %v early", what, after(n).Sub(now))
				}
				said.say("%s", what)
			})
			timer.ResetAt(after(n))
			return timer
		}
		later := l.AfterFunc(time.Hour, func() { said.say("from 1 to 5") })
		later.ResetAt(after(1))
		later.Disarm()
		later.ResetAt(after(5))
		earlier := l.AfterFunc(time.Hour, func() { said.say("from an hour to 2") })
		earlier.Disarm()
		earlier.ResetAt(after(2))
		at(3, "disarmed").Disarm()
		at(4, "at 4")
		at(6, "at 6")
		renewed := l.AfterFunc(time.Hour, func() { said.say("renewed up to 7") })
		for n := range 8 {
			renewed.Disarm()
			renewed.ResetAt(after(n))
		}
		at(8, "at 8")
		l.AfterFunc(time.Hour, func() { close(done) }).ResetAt(after(9))
	})
	await(t, done)
	said.mustBe(t, `
		from an hour to 2
		at 4
		from 1 to 5
		at 6
		renewed up to 7
		at 8`)
}

func TestATimerSetBeyondTheClockNeverFires(t *testing.T) {
	l := start(t)
	fired := func() { t.Error("it fired") }
	on(t, l, func() {
		l.AfterFunc(math.MaxInt64, fired)
		l.AfterFunc(math.MaxInt64-1, fired)
		l.AfterFunc(time.Hour, fired).ResetAt(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		l.AfterFunc(time.Hour, fired).ResetClock(math.MaxInt64)
	})
	awaitSleep(t, l)
	if n := l.Stats().Timers; n != 4 {
		t.Errorf("%d timers are set", n)
	}
}

func TestATimerStoppedBeforeItsStepDoesntFire(t *testing.T) {
	l := start(t)
	fired := false
	on(t, l, func() {
		timer := l.AfterFunc(0, func() { fired = true })
		timer.Stop()
	})
	on(t, l, func() {
		if fired {
			t.Error("a stopped timer fired")
		}
	})
}

func TestResetClockGoesByTheClockOfAllLoops(t *testing.T) {
	l := start(t)
	var said trace
	done := make(chan struct{})
	on(t, l, func() {
		at := clock.Now() + time.Millisecond
		timer := func(what string, at time.Duration) *eventloop.Timer {
			timer := l.AfterFunc(time.Hour, func() {
				if now := clock.Now(); now < at {
					t.Errorf("%s fired %v early", what, at-now)
				}
				said.say("%s", what)
			})
			if !timer.ResetClock(at) {
				t.Errorf("%s: ResetClock reports that it was not set", what)
			}
			return timer
		}
		timer("third", at+2)
		timer("first", at)
		timer("second", at+1).Stop()
		l.AfterFunc(0, func() { close(done) }).ResetClock(at + 3)
		timer("past", -time.Hour)
	})
	await(t, done)
	said.mustBe(t, `
		past
		first
		third`)
}

// Of a million pending timers, set, moved, stopped and disarmed at random, those that are due soon
// fire in the order that a sort of their times gives. The others are due in an hour.
func TestAMillionTimersFireInOrder(t *testing.T) {
	const (
		timers = 1 << 20
		soon   = 1 << 15 // the instants that are soon
		later  = 1 << 21
	)
	// The model: for each timer when it is due, then when it was set, then which it is, all in one
	// number; 0 = not set.
	model := make([]uint64, timers)
	const serialBits, indexBits = 22, 20
	var fired []uint32
	l := start(t)
	done := make(chan struct{})
	on(t, l, func() {
		random := rand.New(rand.NewPCG(3, 4))
		base := clock.Now()
		real := make([]eventloop.Timer, timers)
		tasks := make([]firedTask, timers)
		serial := uint64(0)
		set := func(i int) {
			serial++
			at := random.Uint32N(soon)
			due := base + time.Duration(at)
			if random.IntN(16) != 0 {
				at = later + random.Uint32N(later)
				due = base + time.Hour + time.Duration(at)
			}
			if was := model[i] != 0; real[i].ResetClock(due) != was {
				t.Errorf("ResetClock didn't report %v", was)
			}
			model[i] = (uint64(at)<<serialBits|serial)<<indexBits | uint64(i)
		}
		for i := range real {
			tasks[i] = firedTask{&fired, uint32(i)}
			l.InitTimer(&real[i], &tasks[i])
			set(i)
		}
		for range timers {
			switch i := random.IntN(timers); random.IntN(4) {
			case 0:
				real[i].Stop()
				model[i] = 0
			case 1:
				real[i].Disarm()
				model[i] = 0
			default:
				set(i)
			}
		}
		l.AfterFunc(0, func() { close(done) }).ResetClock(base + soon)
	})
	await(t, done)
	model = slices.DeleteFunc(model, func(m uint64) bool { return m == 0 || m >= later<<serialBits<<indexBits })
	slices.Sort(model)
	if len(fired) != len(model) {
		t.Fatalf("%d timers fired, %d were set", len(fired), len(model))
	}
	for n, m := range model {
		if want := uint32(m & (1<<indexBits - 1)); fired[n] != want {
			t.Fatalf("timer %d fired as number %d, where timer %d belongs", fired[n], n, want)
		}
	}
}

// firedTask notes the order in which timers fire.
type firedTask struct {
	fired *[]uint32
	index uint32
}

func (f *firedTask) Run() { *f.fired = append(*f.fired, f.index) }

func TestSettingATimerAgainAllocatesNothing(t *testing.T) {
	l := start(t)
	on(t, l, func() {
		others := make([]*eventloop.Timer, 1000)
		for i := range others {
			others[i] = l.AfterFunc(time.Hour+time.Duration(i)*time.Millisecond, func() {})
		}
		var timer eventloop.Timer
		l.InitTimer(&timer, &taskLog{say: func(string) {}})
		deadline := time.Now().Add(time.Minute)
		for _, use := range []struct {
			name string
			use  func()
		}{
			{"Reset", func() { timer.Reset(time.Hour) }},
			{"ResetAt", func() { timer.ResetAt(deadline) }},
			{"Stop, Reset", func() { timer.Stop(); timer.Reset(time.Hour) }},
			{"Disarm, Reset", func() { timer.Disarm(); timer.Reset(time.Hour) }},
			{"Reset to earlier", func() { timer.Reset(time.Minute); timer.Reset(2 * time.Hour) }},
		} {
			if n := testing.AllocsPerRun(1000, use.use); n != 0 {
				t.Errorf("%s: %v allocations", use.name, n)
			}
		}
		timer.Stop()
		for _, timer := range others {
			timer.Stop()
		}
	})
}
