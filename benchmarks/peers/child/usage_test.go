//go:build linux

package child

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The clock that is made from a process's number is the time that getrusage tells the process
// itself.
func TestProcessClock(t *testing.T) {
	const slack = 20 * time.Millisecond // getrusage counts in ticks on some kernels
	for target := ownCPU(t) + 100*time.Millisecond; ownCPU(t) < target; {
	}
	before := ownCPU(t)
	clock, err := processClock(os.Getpid())
	after := ownCPU(t)
	if err != nil || clock < before-slack || clock > after+slack {
		t.Errorf("the clock says %v, %v; getrusage %v and %v", clock, err, before, after)
	}
	user, system, err := ticks(os.Getpid())
	if err != nil || user+system < before-2*tick-slack || user+system > ownCPU(t)+slack {
		t.Errorf("the ticks are %v and %v, %v; getrusage says %v", user, system, err, before)
	}
}

func TestAProcessThatIsNotThere(t *testing.T) {
	const none = 1 << 22 // the largest process number is one less
	if _, err := processClock(none); err == nil {
		t.Error("it has a clock")
	}
	if _, _, err := ticks(none); err == nil {
		t.Error("it has ticks")
	}
}

func TestTheServerStaysOnItsCPUs(t *testing.T) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	last := -1
	for cpu := range len(mine) * 64 {
		if mine.IsSet(cpu) {
			last = cpu
		}
	}
	var one unix.CPUSet
	one.Set(last)
	c, err := Start(Spec{Name: "idle", Program: os.Args[0], Args: []string{"serve"},
		Config: map[string]any{"Server": "net", "Buffer": 4096}, CPUs: &one})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	var theirs unix.CPUSet
	if err := unix.SchedGetaffinity(c.cmd.Process.Pid, &theirs); err != nil {
		t.Fatal(err)
	}
	if theirs != one {
		t.Errorf("the server runs on %d CPUs", theirs.Count())
	}
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil || now != mine {
		t.Errorf("this thread's CPUs have changed: %v", err)
	}
}
