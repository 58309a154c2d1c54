//go:build linux || freebsd || netbsd || dragonfly

package unix

import "golang.org/x/sys/unix"

// The options of tcp(7) that say when an idle peer is probed.
const (
	TCP_KEEPIDLE  = unix.TCP_KEEPIDLE
	TCP_KEEPINTVL = unix.TCP_KEEPINTVL
	TCP_KEEPCNT   = unix.TCP_KEEPCNT
)
