package childtest

import (
	"time"

	"github.com/whorl-go/whorl/internal/unix"
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
	user, kernel, err := unix.CPUTime()
	if err != nil {
		panic(err) // on Unix only a wrong argument could be the reason
	}
	return user, kernel
}
