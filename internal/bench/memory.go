package bench

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// memory is what the process has, in bytes.
type memory struct {
	heap, stack float64 // alive
	rss         float64 // resident, after what is free was given back
	rssBefore   float64 // resident as it was found
}

// takeMemory collects all garbage and looks what is left. It takes its time.
func takeMemory() memory {
	m := memory{rssBefore: residentSize()}
	runtime.GC() // empties the pools, in two goes
	runtime.GC()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.heap, m.stack = float64(stats.HeapAlloc), float64(stats.StackInuse)
	m.rss = residentSize()
	return m
}

// residentSize returns the resident set size (proc(5), statm), 0 if it isn't known.
func residentSize() float64 {
	data, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages) * float64(os.Getpagesize())
}

// per returns the growth since an earlier look for each of n things.
func (m memory) per(n int64, since memory) memory {
	each := func(now, then float64) float64 { return (now - then) / float64(n) }
	// Both sizes of the resident set are compared with the one that holds nothing free: what is not given back then is part of the cost.
	return memory{
		heap: each(m.heap, since.heap), stack: each(m.stack, since.stack), rss: each(m.rss, since.rss), rssBefore: each(m.rssBefore, since.rss),
	}
}
