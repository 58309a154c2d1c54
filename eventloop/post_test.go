//go:build unix

package eventloop_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/whorl-go/whorl/eventloop"
)

func TestPostsOfEachGoroutineRunInTheirOrder(t *testing.T) {
	const goroutines, posts = 8, 5000
	l := start(t)
	before := l.Stats().Posted
	var next [goroutines]int // owned by the loop
	total := 0
	done := make(chan struct{})
	for g := range goroutines {
		go func() {
			for i := range posts {
				l.Post(func() {
					if next[g] != i {
						t.Errorf("post %d of goroutine %d ran when %d was due", i, g, next[g])
					}
					next[g] = i + 1
					if total++; total == goroutines*posts {
						close(done)
					}
				})
			}
		}()
	}
	await(t, done)
	on(t, l, func() {
		if total != goroutines*posts {
			t.Errorf("%d of %d posted functions ran", total, goroutines*posts)
		}
	})
	if n := l.Stats().Posted - before; n != goroutines*posts+1 {
		t.Errorf("Stats().Posted has grown by %d", n)
	}
}

func TestABurstOfPostsWakesASleepingLoopOnce(t *testing.T) {
	const burst = 1000
	l := start(t)
	awaitSleep(t, l)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the loop can't be woken and asleep again in the midst of the burst
	before := l.Stats().Wakeups
	for range burst {
		l.Post(func() {})
	}
	// It can after all if this goroutine is preempted.
	if n := l.Stats().Wakeups - before; n < 1 || n > burst/50 {
		t.Errorf("%d posts took %d wake-ups", burst, n)
	}
}

func TestPostsToALoopThatIsAwakeWriteNothing(t *testing.T) {
	l := start(t)
	on(t, l, func() {
		before := l.Stats().Wakeups
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					l.Post(func() {})
				}
			})
		}
		wg.Wait()
		l.Post(func() {})
		if n := l.Stats().Wakeups - before; n != 0 {
			t.Errorf("%d wake-ups of a loop that was awake", n)
		}
	})
}

// A loop that falls asleep just as somebody posts must see the post: thousands of hand-overs, each
// to a loop on its way to sleep.
func TestNoPostIsMissedByALoopThatFallsAsleep(t *testing.T) {
	l := start(t)
	c := make(chan struct{})
	for range 20_000 {
		l.Post(func() { c <- struct{}{} })
		await(t, c)
	}
}

type taskLog struct {
	say  func(string)
	what string
}

func (k *taskLog) Run() { k.say(k.what) }

func TestTasksRunAmongFunctions(t *testing.T) {
	l := start(t)
	var said trace
	say := func(what string) { said.say("%s", what) }
	done := make(chan struct{})
	on(t, l, func() {
		l.PostTask(&taskLog{say, "posted task"})
		l.Post(func() { say("posted function") })
		l.Post(func() {
			l.DeferTask(&taskLog{say, "deferred task"})
			l.Defer(func() { say("deferred function") })
			l.Defer(func() { close(done) })
		})
		var timer eventloop.Timer
		l.InitTimer(&timer, &taskLog{say, "timer task"})
		timer.Reset(0)
	})
	await(t, done)
	said.mustBe(t, `
		timer task
		posted task
		posted function
		deferred task
		deferred function`)
}

func TestPostedAndDeferredTasksAllocateNothing(t *testing.T) {
	l := start(t)
	done := make(chan struct{})
	deferred := &taskLog{say: func(string) { done <- struct{}{} }}
	posted := &taskLog{say: func(string) { l.DeferTask(deferred) }}
	n := testing.AllocsPerRun(1000, func() {
		l.PostTask(posted)
		<-done
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTasksThatHaveRunAreLetGo(t *testing.T) {
	l := start(t)
	type big [1 << 16]byte
	var left []weak.Pointer[big]
	on(t, l, func() {
		for range 3 {
			p := new(big)
			left = append(left, weak.Make(p))
			l.Post(func() { p[0]++ })
			l.Defer(func() { p[1]++ })
			l.AfterFunc(0, func() { p[2]++ })
		}
	})
	on(t, l, func() {})
	awaitSleep(t, l)
	runtime.GC()
	for i, p := range left {
		if p.Value() != nil {
			t.Errorf("what task %d held is still held", i)
		}
	}
}

func TestABurstLargerThanTheIdleListsRunsInOrder(t *testing.T) {
	const burst = 10_000
	l := start(t)
	for round := range 3 {
		var posted, deferred []int
		on(t, l, func() {
			for i := range burst {
				l.Post(func() { posted = append(posted, i) })
				l.Defer(func() { deferred = append(deferred, i) })
			}
		})
		awaitSleep(t, l) // a burst takes more than one iteration
		for i := range burst {
			if len(posted) != burst || len(deferred) != burst || posted[i] != i || deferred[i] != i {
				t.Fatalf("round %d: %d posted and %d deferred functions ran, in disorder from %d on", round, len(posted), len(deferred), i)
			}
		}
	}
}

func TestPostAfterCloseIsRefused(t *testing.T) {
	l, err := eventloop.New(eventloop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, l)
	on(t, l, func() {
		l.Close()
		if err := l.Post(func() { t.Error("ran after all") }); !errors.Is(err, eventloop.ErrClosed) {
			t.Errorf("Post on the loop, while it closes: %v", err)
		}
	})
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
	if err := l.Post(func() { t.Error("ran after all") }); !errors.Is(err, eventloop.ErrClosed) {
		t.Errorf("Post to a loop that has ended: %v", err)
	}
	if err := l.PostTask(&taskLog{}); !errors.Is(err, eventloop.ErrClosed) {
		t.Errorf("PostTask to a loop that has ended: %v", err)
	}
}

// Whoever got nil from Post can rely on it, even while others close the loop.
func TestWhatPostAcceptsIsRun(t *testing.T) {
	for range 30 {
		l, err := eventloop.New(eventloop.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ended := run(t, l)
		ran := 0 // owned by the loop
		var accepted [4]int
		var posters sync.WaitGroup
		halfway := make(chan struct{}, len(accepted))
		for g := range accepted {
			posters.Go(func() {
				for l.Post(func() { ran++ }) == nil {
					if accepted[g]++; accepted[g] == 100 {
						halfway <- struct{}{}
					}
					runtime.Gosched()
				}
			})
		}
		for range accepted {
			await(t, halfway)
		}
		l.Close()
		if err := await(t, ended); err != nil {
			t.Error(err)
		}
		posters.Wait()
		want := 0
		for _, n := range accepted {
			want += n
		}
		if ran != want {
			t.Fatalf("%d posts were accepted, %d ran", want, ran)
		}
	}
}
