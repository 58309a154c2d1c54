package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/internal/unix"
)

// LimitError says which limit of the system a run doesn't fit in.
type LimitError struct {
	What, Why, How string // what doesn't fit, where, and what mends it
}

// Error is a sentence with all three.
func (e *LimitError) Error() string { return e.What + " don't fit: " + e.Why + "; " + e.How }

// spareDescriptors is for what a process needs besides connections.
const spareDescriptors = 256

// AllowDescriptors raises the limit on descriptors, where the process may, so that so many
// connections fit, and says what stands in the way otherwise.
func AllowDescriptors(connections int64) error {
	need := uint64(connections) + spareDescriptors
	limit, highest, err := unix.DescriptorLimit()
	if err != nil {
		return fmt.Errorf("limit on descriptors: %w", err)
	}
	if limit >= need {
		return nil
	}
	// Beyond highest it needs privilege.
	if err = unix.SetDescriptorLimit(need, max(highest, need)); err == nil {
		return nil
	}
	why := fmt.Sprintf("the limit on descriptors is %d (RLIMIT_NOFILE, hard limit %d) and can't "+
		"be raised to %d: %v", limit, highest, need, err)
	if most, ok := readNumber("/proc/sys/fs/nr_open"); ok && most < int64(need) {
		why += fmt.Sprintf("; no process may have more than %d (fs.nr_open)", most)
	}
	return &LimitError{
		What: fmt.Sprintf("%d connections", connections), Why: why,
		How: "raise it (ulimit -n, LimitNOFILE=, sysctl fs.nr_open), run as root, or use several " +
			"processes",
	}
}

// RaiseDescriptors raises the limit on descriptors as far as the process may, and returns it.
func RaiseDescriptors() uint64 {
	limit, highest, err := unix.DescriptorLimit()
	if err != nil {
		return 0
	}
	most, _ := readNumber("/proc/sys/fs/nr_open")
	for _, wanted := range []uint64{uint64(most), highest} {
		if wanted > limit && unix.SetDescriptorLimit(wanted, max(highest, wanted)) == nil {
			return wanted
		}
	}
	return limit
}

// CheckSystem looks whether so many connections fit in what the system allows to all processes
// together.
func CheckSystem(connections int64) error {
	for _, limit := range []struct{ path, name string }{
		{"/proc/sys/fs/file-max", "fs.file-max"},
		{"/proc/sys/fs/epoll/max_user_watches", "fs.epoll.max_user_watches"},
	} {
		if highest, ok := readNumber(limit.path); ok && highest < connections {
			return &LimitError{
				What: fmt.Sprintf("%d connections", connections),
				Why:  fmt.Sprintf("%s is %d", limit.name, highest), How: "raise it with sysctl",
			}
		}
	}
	return nil
}

func readNumber(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
