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
			l.cursor = 0
			l.runPosted()
			l.cursor = 0
			l.runDeferred()
		}
		for _, list := range [][]Task{l.posted, l.batch, l.deferred, l.running} {
			if kept := cap(list) >= size.tasks; kept != size.kept {
				t.Errorf("after %d tasks, a list has room for %d", size.tasks, cap(list))
			}
		}
	}
}
