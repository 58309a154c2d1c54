package eventloop

// Post has fn run on the loop, in the next step 4 (see the package comment). It may be called from any goroutine; posts of one
// goroutine run in their order. After Close it returns ErrClosed and fn will not run.
//
// A post wakes a sleeping loop with one write to its eventfd; a loop that is awake is not written to.
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

// wake ends the loop's poll if it sleeps. The order matters: the work is published before asleep is read, and the loop
// publishes asleep before it looks for work, so one of the two sees the other.
func (l *Loop) wake() {
	if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
		l.counters.wakeups.Add(1)
		l.poller.wake()
	}
}

// Defer has fn run in step 6 of this iteration, after the descriptors, posted tasks and timers; from within a deferred function, in step 6
// of the next. Functions run in the order they were deferred. Must be called on the loop.
func (l *Loop) Defer(fn func()) { l.deferred = append(l.deferred, taskFunc(fn)) }

// DeferTask is Defer for a Task.
func (l *Loop) DeferTask(t Task) { l.deferred = append(l.deferred, t) }

// BeforePoll sets the function that is called at the start of each iteration, before the poll; nil removes it. There is one; setting it
// again replaces it. Must be called on the loop.
func (l *Loop) BeforePoll(fn func()) { l.beforePoll = fn }

// AfterDefer sets the function that is called at the end of each iteration; nil removes it. There is one; setting it again
// replaces it. Must be called on the loop.
func (l *Loop) AfterDefer(fn func()) { l.afterDefer = fn }

// runPosted runs the tasks that were posted before it started. With cursor > 0 it goes on with the batch it was torn out of.
func (l *Loop) runPosted() {
	if l.cursor == 0 {
		if l.postedCount.Load() == 0 {
			return
		}
		l.postMu.Lock()
		l.batch, l.posted = l.posted, l.batch[:0]
		l.postedCount.Store(0)
		l.postMu.Unlock()
		l.counters.posted.Add(uint64(len(l.batch)))
	}
	l.runBatch(&l.batch)
}

// runDeferred runs the functions that were deferred before it started.
func (l *Loop) runDeferred() {
	if l.cursor == 0 {
		if len(l.deferred) == 0 {
			return
		}
		l.running, l.deferred = l.deferred, l.running[:0]
		l.counters.deferred.Add(uint64(len(l.running)))
	}
	l.runBatch(&l.running)
}

// maxIdleTasks bounds the capacity that a task list keeps when it is empty.
const maxIdleTasks = 4096

func (l *Loop) runBatch(batch *[]Task) {
	tasks := *batch
	for l.cursor < len(tasks) {
		t := tasks[l.cursor]
		tasks[l.cursor] = nil // done with it; the list is used again and must not keep it alive
		l.cursor++
		l.turn()
		t.Run()
	}
	if cap(tasks) > maxIdleTasks {
		*batch = nil
	} else {
		*batch = tasks[:0]
	}
}
