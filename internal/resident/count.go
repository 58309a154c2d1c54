package resident

import (
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Count returns how many sockets are known on a runtime, for tests; -1 if it doesn't know the
// runtime.
func Count(rt *runtime.Runtime) int {
	found, ok := houses.Load((*sched.Runtime)(rt))
	if !ok {
		return -1
	}
	h := found.(*residents)
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for r := h.list.next; r != &h.list; r = r.next {
		n++
	}
	return n
}
