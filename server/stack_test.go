//go:build linux && !race && !gnetpoll

package server_test

import (
	"net"
	"testing"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/server"
)

// Very many coroutines wait in Recv: in plaintext Recv and Send do with the 2 KiB of a new stack.
func TestStackStaysSmall(t *testing.T) {
	// Go would begin with larger stacks once there have been many.
	if !childtest.Alone(t, "GODEBUG=adaptivestackstart=0") {
		return
	}
	const connections = 1000
	h, l := start(t, "tcp", server.Config{Port: server.Port{EOF: "\n", Handle: echo}})
	open := func(n int) (all []net.Conn) {
		for range n {
			conn := dial(t, l)
			trip(t, conn, "hello\n")
			all = append(all, conn)
		}
		return all
	}
	closeAll := func(all []net.Conn) {
		for _, conn := range all {
			conn.Close()
		}
		h.settled()
	}
	closeAll(open(20)) // what the first leave in pools isn't theirs
	_, before := childtest.MemoryInUse()
	all := open(connections)
	_, after := childtest.MemoryInUse()
	if each := (int64(after) - int64(before)) / connections; each > 3<<10 {
		t.Errorf("a coroutine that waits has %d bytes of stack", each)
	}
	closeAll(all)
}
