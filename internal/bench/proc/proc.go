// Package proc tells what a process and its machine have used: processor time and memory. What the
// system doesn't tell is 0.
package proc

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = time.Second / 100

// MachineCPU returns for how long the processors of the machine were busy in all, and for how long
// they were there. Time that the hypervisor has given to others counts as busy.
func MachineCPU() (busy, all time.Duration) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	return parseStat(string(data))
}

// parseStat reads the first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait,
// irq, softirq, steal, in ticks of all processors. Guest time, which follows, is in user time
// already.
func parseStat(stat string) (busy, all time.Duration) {
	const idle, iowait = 3, 4
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0
		}
		all += time.Duration(n) * tick
		if i != idle && i != iowait {
			busy += time.Duration(n) * tick
		}
	}
	return busy, all
}

// Memory is what a process has, in bytes.
type Memory struct {
	Heap  uint64 `json:"heap_bytes"`          // alive
	Stack uint64 `json:"stack_bytes"`         // spans of goroutines' stacks
	RSS   uint64 `json:"rss_bytes"`           // resident, after what is free was given back
	Found uint64 `json:"rss_before_gc_bytes"` // resident, as it was

	Goroutines int `json:"goroutines"`
}

// TakeMemory collects all garbage of this process and looks what is left. It takes its time.
func TakeMemory() Memory {
	m := Memory{Found: residentSize()}
	// what finalizers free, and what pools keep over one collection, goes with a later one
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.Heap, m.Stack, m.RSS = stats.HeapAlloc, stats.StackInuse, residentSize()
	m.Goroutines = runtime.NumGoroutine()
	return m
}

// residentSize returns the resident set size (proc_pid_statm(5)).
func residentSize() uint64 {
	data, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// Slab returns what the kernel's allocator of objects has in use, in bytes (proc_meminfo(5)): that
// of all processes. Most of what a socket takes is in there.
func Slab() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return parseSlab(string(data))
}

func parseSlab(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Slab:" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}

// Each is what each of some things takes, in bytes.
type Each struct {
	Heap, Stack, RSS, Found float64 // as in Memory
}

// Per returns the growth since an earlier look for each of n things. Both sizes of the resident set
// are compared with the one that holds nothing free: what is not given back then is part of the
// cost.
func (m Memory) Per(n int64, since Memory) Each {
	each := func(now, then uint64) float64 { return (float64(now) - float64(then)) / float64(n) }
	return Each{
		Heap: each(m.Heap, since.Heap), Stack: each(m.Stack, since.Stack),
		RSS: each(m.RSS, since.RSS), Found: each(m.Found, since.RSS),
	}
}
