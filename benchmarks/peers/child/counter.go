//go:build linux

package child

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// countersFD is the descriptor of the page of counters in a child that is Counted.
const countersFD = 4

// Counters are a page of memory that a child shares with its parent: the child counts there what it
// has done, and the parent reads it together with the child's CPU clock, without the child having
// to do anything for that. Each counter has a cache line of its own.
type Counters [4096 / 64]Counter

// Counter is one of Counters.
type Counter struct {
	atomic.Int64
	_ [64 - 8]byte
}

// Of returns the counter of the nth worker. Workers share them if there are more than counters.
func (c *Counters) Of(n int) *Counter { return &c[n%len(c)] }

// Sum adds them up.
func (c *Counters) Sum() (sum int64) {
	for i := range c {
		sum += c[i].Load()
	}
	return sum
}

// newCounters makes a page, and the file to pass to the child.
func newCounters() (*Counters, *os.File, error) {
	fd, err := unix.MemfdCreate("counters", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), "counters")
	err = unix.Ftruncate(fd, int64(unsafe.Sizeof(Counters{})))
	var c *Counters
	if err == nil {
		c, err = mapCounters(fd)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return c, file, nil
}

// OpenCounters is for a child that is Counted.
func OpenCounters() (*Counters, error) { return mapCounters(countersFD) }

func mapCounters(fd int) (*Counters, error) {
	p, err := unix.MmapPtr(fd, 0, nil, unsafe.Sizeof(Counters{}), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	return (*Counters)(p), err
}

func (c *Counters) close() {
	if c != nil {
		unix.MunmapPtr(unsafe.Pointer(c), unsafe.Sizeof(*c))
	}
}
