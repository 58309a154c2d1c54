//go:build linux

package socket_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func TestServerRoleOfWhoeverConnected(t *testing.T) {
	for _, network := range []string{"tcp", "pair"} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			connector, acceptor := connected(ctx, t, network)
			if err := errors.Join(connector.SetServerRole(true), acceptor.SetServerRole(false)); err != nil {
				t.Fatal(err)
			}
			handshakes(ctx, t, acceptor, connector, 0)
			if err := acceptor.SetServerRole(true); !errors.Is(err, socket.ErrSSLActive) {
				t.Errorf("with TLS on: %v", err)
			}
			converse(ctx, t, acceptor, connector)
			if err := connector.SetServerRole(true); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// A client's handshake comes first, so plaintext that has arrived before is refused, also where the
// client has accepted the connection.
func TestRoleDecidesWhatIsPlaintext(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		connector, acceptor := connected(ctx, t, "pair")
		connector.SendAll(ctx, []byte("injected"))
		if err := acceptor.SetServerRole(false); err != nil {
			t.Fatal(err)
		}
		forClient, _ := configs(0)
		if err := acceptor.SSLHandshake(ctx, forClient); !errors.Is(err, socket.ErrPlaintextPending) {
			t.Error(err)
		}
		connector.Close()
	})
}

func TestRoleIsNotChangedWhileOthersWait(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		client, server := connected(ctx, t, "pair")
		reader, _ := runtime.Go(ctx, func(ctx context.Context) { client.Recv(ctx, make([]byte, 1)) })
		if err := client.SetServerRole(true); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		server.Close()
		reader.Join(ctx)
		client.Close()
	})
	s, err := socket.New("tcp")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetServerRole(true); !errors.Is(err, socket.ErrNotConnected) {
		t.Errorf("before it is connected: %v", err)
	}
}
