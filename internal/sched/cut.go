package sched

import (
	"fmt"
	"slices"
	"sync"
)

// Cut notes something that was not finished because the runtime has ended, such as a connection
// with output that the peer has not taken. It becomes part of Shutdown's error, and of Run's, if it
// comes before the runtime's end, which is after the functions of AtEnd. Any goroutine.
func (rt *Runtime) Cut(err error) { rt.cuts.add(err) }

// maxCuts is how many errors Shutdown returns; of the others there is the number. There may be as
// many as connections.
const maxCuts = 16

// cuts are what the end of a runtime had to cut.
type cuts struct {
	mu   sync.Mutex
	all  []error // guarded by mu
	more int     // guarded by mu: that are not in all
}

func (c *cuts) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) < maxCuts {
		c.all = append(c.all, err)
	} else {
		c.more++
	}
}

func (c *cuts) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.all)
	if c.more > 0 {
		all = append(all, fmt.Errorf("runtime: cut %d more", c.more))
	}
	return joined(all...)
}
