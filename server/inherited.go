package server

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/internal/unix"
)

// Inherited is a socket that systemd has opened for the process.
type Inherited struct {
	Name string // FileDescriptorName= of the socket unit, by default the unit's name
	File *os.File
}

// firstInherited is SD_LISTEN_FDS_START.
const firstInherited = 3

// TakeInherited returns the sockets that systemd has passed on by socket activation
// (sd_listen_fds(3)), for Server.ListenFile; none if LISTEN_PID isn't this process. It removes
// LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES from the environment, so that children don't take them
// for theirs, and has the descriptors closed in children. A second call finds none.
func TakeInherited() ([]Inherited, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid == "" || count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1<<16 {
		return nil, fmt.Errorf("server: LISTEN_FDS is %q, must be a number of descriptors", count)
	}
	var named []string
	if names != "" {
		named = strings.Split(names, ":")
	}
	inherited := make([]Inherited, n)
	for i := range inherited {
		fd := firstInherited + i
		unix.CloseOnExec(fd)
		name := "unknown"
		if i < len(named) {
			name = named[i]
		}
		inherited[i] = Inherited{name, os.NewFile(uintptr(fd), name)}
	}
	return inherited, nil
}
