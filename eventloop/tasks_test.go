package eventloop

import "testing"

func TestTheTaskListsGiveMemoryBack(t *testing.T) {
	for _, size := range []struct {
		tasks int
		kept  bool
	}{{100, true}, {4 * maxIdleTasks, false}} {
		l := new(Loop) // nobody runs it
		for range 2 {  // so that each of the two lists that take turns has been full
			for range size.tasks {
				l.Post(func() {})
				l.Defer(func() {})
			}
			l.phase = phaseLastPosted // which may take any time
			l.takePosted()
			l.run(&l.postedNow)
			l.takeDeferred()
			l.run(&l.deferredNow)
		}
		for _, list := range [][]Task{l.posted, l.postedNow.tasks, l.deferred, l.deferredNow.tasks} {
			if kept := cap(list) >= size.tasks; kept != size.kept {
				t.Errorf("after %d tasks, a list has room for %d", size.tasks, cap(list))
			}
		}
	}
}
