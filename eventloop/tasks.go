package eventloop

import (
	"slices"

	"github.com/whorl-go/whorl/internal/turn"
)

// Post has fn run on the loop, in the next step 4 (see the package comment). It may be called from
// any goroutine; posts of one goroutine run in their order. After Close it returns ErrClosed and fn
// will not run.
//
// A post wakes a sleeping loop with one write to its eventfd (on macOS and BSD, to a pipe); a loop
// that is awake is not written to.
func (l *Loop) Post(fn func()) error { return l.PostTask(taskFunc(fn)) }

// PostTask is Post for a Task.
func (l *Loop) PostTask(t Task) error {
	l.postMu.Lock()
	if l.postClosed {
		l.postMu.Unlock()
		return ErrClosed
	}
	l.posted = append(l.posted, t)
	l.postedCount.Store(int64(len(l.posted)))
	l.postMu.Unlock()
	l.wake()
	return nil
}

// refusePosts has Post return ErrClosed from now on.
func (l *Loop) refusePosts() {
	l.postMu.Lock()
	l.postClosed = true
	l.postMu.Unlock()
}

// wake ends the loop's poll if it sleeps. The order matters: the work is published before asleep is
// read, and the loop publishes asleep before it looks for work, so one of the two sees the other.
func (l *Loop) wake() {
	if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
		l.counters.wakeups.Add(1)
		l.poller.wake()
	}
}

// Defer has fn run in step 6 of this iteration, after the descriptors, posted tasks and timers;
// from within a deferred function, in step 6 of the next. Functions run in the order they were
// deferred. Must be called on the loop.
func (l *Loop) Defer(fn func()) { l.deferred = append(l.deferred, taskFunc(fn)) }

// DeferTask is Defer for a Task.
func (l *Loop) DeferTask(t Task) { l.deferred = append(l.deferred, t) }

// BeforePoll sets the function that is called at the start of each iteration, before the poll; nil
// removes it. There is one; setting it again replaces it. Must be called on the loop.
func (l *Loop) BeforePoll(fn func()) { l.beforePoll = fn }

// AfterDefer sets the function that is called at the end of each iteration; nil removes it. There
// is one; setting it again replaces it. Must be called on the loop.
func (l *Loop) AfterDefer(fn func()) { l.afterDefer = fn }

// A batch is tasks that one step runs, in order. It is kept in the loop: what is left of it when
// the time of the step is over, or when a panic has torn the step down, is run later.
type batch struct {
	tasks []Task
	next  int // of tasks; those before it have been run
}

// maxIdleTasks bounds the capacity that a task list keeps when it is empty.
const maxIdleTasks = 4096

// left returns how many tasks have not been run.
func (b *batch) left() int { return len(b.tasks) - b.next }

// add puts the tasks of list behind those that are left, and empties list.
func (b *batch) add(list *[]Task) {
	if b.left() == 0 {
		b.empty()
		b.tasks, *list = *list, b.tasks
		return
	}
	if b.next > len(b.tasks)/2 {
		b.tasks, b.next = slices.Delete(b.tasks, 0, b.next), 0
	}
	b.tasks = append(b.tasks, *list...)
	*list = slices.Delete(*list, 0, len(*list))
}

// empty makes the batch ready for others when none is left.
func (b *batch) empty() {
	b.next, b.tasks = 0, b.tasks[:0]
	if cap(b.tasks) > maxIdleTasks {
		b.tasks = nil
	}
}

// takePosted begins step 4: it takes the tasks that were posted before.
func (l *Loop) takePosted() {
	l.budget.Renew()
	if l.postedCount.Load() == 0 {
		return
	}
	l.postMu.Lock()
	defer l.postMu.Unlock()
	l.counters.posted.Add(uint64(len(l.posted)))
	l.postedNow.add(&l.posted)
	l.postedCount.Store(0)
}

// takeDeferred begins step 6: it takes the functions that were deferred before.
func (l *Loop) takeDeferred() {
	l.budget.Renew()
	if len(l.deferred) > 0 {
		l.counters.deferred.Add(uint64(len(l.deferred)))
		l.deferredNow.add(&l.deferred)
	}
}

// run runs the tasks of a batch until none is left or the step has taken its time.
func (l *Loop) run(b *batch) {
	for b.left() > 0 && !l.stepOver() {
		t := b.tasks[b.next]
		b.tasks[b.next] = nil // the list is used again and must not keep it alive
		b.next++
		l.turn()
		t.Run()
	}
	if b.left() == 0 {
		b.empty()
	}
}

// stepOver counts a function that a step is about to run, and reports whether the step has taken
// its time. The last steps of a loop that closes may take any time.
func (l *Loop) stepOver() bool {
	if l.phase >= phaseLastPosted {
		return false
	}
	l.budget.Count(0)
	return l.budget.Spent(turn.Step)
}
