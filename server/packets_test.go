//go:build linux

package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// A handler that takes its packets as a sequence gets all of them, counted as those of Recv, and the
// end of the stream ends it.
func TestPacketsOfAConnection(t *testing.T) {
	const n = 2000
	ended := make(chan error, 1)
	h, l := start(t, "tcp", server.Config{Port: server.Port{EOF: "\n", Handle: func(ctx context.Context, c *server.Conn) {
		count := 0
		for pkt, err := range c.Packets(ctx) {
			if err != nil {
				ended <- err
				return
			}
			if count++; count == 1 {
				if _, err := c.Recv(ctx); !errors.Is(err, socket.ErrBusy) {
					t.Errorf("Recv within the loop: %v", err)
				}
			}
			if count == n {
				c.Send(ctx, pkt)
			}
		}
		ended <- nil
	}}})
	conn := dial(t, l)
	write(t, conn, strings.Repeat("line\n", n))
	expect(t, conn, "line\n")
	if st := h.Stats(); st.PacketsIn != n {
		t.Errorf("%d packets were counted", st.PacketsIn)
	}
	conn.Close()
	check(t, receive(t, ended))
}

// Shutdown ends the sequence between two packets.
func TestShutdownEndsPackets(t *testing.T) {
	ended, got := make(chan error, 1), make(chan struct{}, 1)
	h, l := start(t, "tcp", server.Config{Port: server.Port{EOF: "\n", Handle: func(ctx context.Context, c *server.Conn) {
		for _, err := range c.Packets(ctx) {
			if err != nil {
				ended <- err
				return
			}
			got <- struct{}{}
		}
		ended <- io.EOF
	}}})
	conn := dial(t, l)
	write(t, conn, "line\n")
	receive(t, got)
	check(t, h.Shutdown(context.Background()))
	wantError(t, "the sequence", receive(t, ended), server.ErrShutdown)
}
