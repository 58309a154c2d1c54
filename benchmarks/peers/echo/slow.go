//go:build linux

package echo

import (
	"net"
	"time"
)

// slowPeer is there to check the measurement itself: it must show as net and slowBy more.
var slowPeer = Peer{
	Name:  "net+2us",
	About: "net, and " + slowBy.String() + " of busy waiting per message: checks the measurement",
	Plain: true,
	TLS:   true,
	Serve: func(c Config, ready func(net.Addr)) error { return serveNet(c, ready, slowBy) },
}

const slowBy = 2 * time.Microsecond

// burn keeps the CPU busy for d. It asks the clock, as a count of rounds takes longer where others
// use the same core.
func burn(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}
