//go:build !(linux || darwin || freebsd || netbsd || dragonfly)

package unix

// There are no such options: OpenBSD has times for the whole system only.
const (
	TCP_KEEPIDLE  = 0
	TCP_KEEPINTVL = 0
	TCP_KEEPCNT   = 0
)
