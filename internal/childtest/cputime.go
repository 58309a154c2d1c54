//go:build unix

package childtest

import (
	"syscall"
	"time"
)

// CPUTime returns how much CPU time this process has used, in its own code and in the kernel's for
// it, getrusage(2). Unlike the time on the wall it doesn't count what other processes take, so it
// measures one side of a benchmark whose other side is a [Peer].
func CPUTime() time.Duration {
	user, kernel := UserAndKernelTime()
	return user + kernel
}

// UserAndKernelTime returns the two parts of [CPUTime].
func UserAndKernelTime() (user, kernel time.Duration) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only a wrong argument can be the reason
	}
	return time.Duration(usage.Utime.Nano()), time.Duration(usage.Stime.Nano())
}
