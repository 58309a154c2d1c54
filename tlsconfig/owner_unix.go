//go:build unix

package tlsconfig

import (
	"io/fs"
	"strconv"
	"syscall"
)

// owner says whose a file is.
func owner(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return ", owner " + userName(int(stat.Uid)) + ", group " + strconv.FormatUint(uint64(stat.Gid), 10)
}
