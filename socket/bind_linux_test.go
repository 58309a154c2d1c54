//go:build !gnetpoll

package socket_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/socket"
)

// One local address serves for the same port to different peers: the kernel chooses the port when
// it knows the peer.
func TestBindOnConnectUsesAPortForSeveralPeers(t *testing.T) {
	const ipLocalPortRange = 51 // IP_LOCAL_PORT_RANGE, Linux 6.3
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		shares := func() (ok bool) {
			probe := fresh(t, "tcp")
			if err := probe.Bind(ctx, "127.0.0.6:0"); err != nil {
				t.Fatal(err)
			}
			address, port := probe.LocalAddr().String(), probe.LocalAddr().(*net.TCPAddr).Port
			err := probe.SetOption(unix.IPPROTO_IP, ipLocalPortRange, port<<16|port)
			probe.Close()
			if err != nil {
				t.Logf("this kernel can't restrict the ports of a socket: %v", err)
				return true
			}
			for _, to := range []string{"127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"} {
				l, err := socket.Listen(ctx, "tcp", to)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				s := fresh(t, "tcp")
				defer s.Abort()
				s.SetOption(unix.IPPROTO_IP, ipLocalPortRange, port<<16|port)
				if err := s.BindOnConnect("127.0.0.6:0"); err != nil {
					t.Fatal(err)
				}
				if err := s.Connect(ctx, l.LocalAddr().String()); err != nil {
					t.Logf("%s to %s: %v", address, to, err)
					return false
				}
				if got := s.LocalAddr().String(); got != address {
					t.Errorf("connected from %s, want %s", got, address)
				}
			}
			return true
		}
		// A port is no good when another socket was bound to it, to whatever address, even one that
		// is in TIME-WAIT now: after many tests that is a good part of the ports.
		for range 500 {
			if shares() {
				return
			}
		}
		t.Error("no port could be used for several peers")
	})
}
