//go:build linux

package hooks_test

import (
	"testing"

	"github.com/whorl-go/whorl/internal/childtest"
)

// The echo server of the benchmarks runs in a process of its own, so that a benchmark measures the
// client's CPU time alone.

// startEchoes starts the process and returns where the server is.
func startEchoes(b *testing.B) (address string) {
	b.Helper()
	childtest.Peer(b, &address)
	return address
}

// serveEchoes starts the server, in that process.
func serveEchoes() (where any, err error) {
	return childtest.Listen("tcp", "127.0.0.1:0", nil, childtest.Echo)
}
