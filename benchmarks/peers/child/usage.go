//go:build linux

package child

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used since it began. What it used in an interval is the difference of
// two.
type Usage struct {
	CPU time.Duration // by the kernel's CPU clock, to the nanosecond
	// User and System are counted in ticks of 10 ms, and sampled by the timer's interrupt: they
	// tell how CPU is shared out, roughly.
	User, System time.Duration
	Sleeps       uint64 // times that a thread has given up its CPU to wait
}

// Sub returns u - before.
func (u Usage) Sub(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, User: u.User - before.User,
		System: u.System - before.System, Sleeps: u.Sleeps - before.Sleeps}
}

// Usage reads the counters of the child.
func (c *Child) Usage() (u Usage, err error) {
	pid := c.cmd.Process.Pid
	if u.CPU, err = processClock(pid); err != nil {
		return u, err
	}
	if u.User, u.System, err = ticks(pid); err != nil {
		return u, err
	}
	u.Sleeps, err = sleeps(pid)
	return u, err
}

// Sockets returns how many sockets the child has open.
func (c *Child) Sockets() (n int, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid)
	descriptors, err := os.ReadDir(dir)
	for _, d := range descriptors {
		if to, err := os.Readlink(filepath.Join(dir, d.Name())); err == nil &&
			strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n, err
}

// processClock reads the CPU clock of a process. Its number is made as clock_getcpuclockid(3) makes
// it: the complement of the process, shifted by three bits, and 2 (CPUCLOCK_SCHED) for the
// scheduler's count of nanoseconds.
func processClock(pid int) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &ts); err != nil {
		return 0, fmt.Errorf("child: CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

const tick = time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on

// ticks reads fields 14 and 15 of /proc/pid/stat, proc_pid_stat(5).
func ticks(pid int) (user, system time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name in parentheses, which may itself hold blanks and
	// parentheses.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("child: /proc/%d/stat has %d fields", pid, len(fields))
	}
	u, errU := strconv.ParseInt(string(fields[11]), 10, 64)
	s, errS := strconv.ParseInt(string(fields[12]), 10, 64)
	if errU != nil || errS != nil {
		return 0, 0, fmt.Errorf("child: /proc/%d/stat: times %q and %q", pid, fields[11],
			fields[12])
	}
	return time.Duration(u) * tick, time.Duration(s) * tick, nil
}

// sleeps adds up the threads' voluntary context switches.
func sleeps(pid int) (total uint64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, path := range threads {
		n, err := statusField(path, "voluntary_ctxt_switches:")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// statusField reads a number from /proc/pid/status, proc_pid_status(5).
func statusField(path, name string) (uint64, error) {
	status, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if value, found := bytes.CutPrefix(line, []byte(name)); found {
			return strconv.ParseUint(string(bytes.Fields(value)[0]), 10, 64)
		}
	}
	return 0, fmt.Errorf("child: no %s in %s", name, path)
}
