//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	exampletest.Demonstration(t, func(_ context.Context, _ []string, stdout io.Writer) error { return run(stdout) })
}

// TestGuestThatDoesNotListen has one client never read: the others must not notice until it is
// shown the door.
func TestGuestThatDoesNotListen(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		listener, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		c := &chat{listener: listener, guests: make(map[int]*guest)}
		if _, err := runtime.Go(ctx, func(ctx context.Context) {
			if err := c.serve(ctx); err != nil {
				t.Error(err)
			}
		}); err != nil {
			return err
		}
		var guests [3]*stream.Stream // one that talks, one that listens, one that doesn't
		for i := range guests {
			if guests[i], err = stream.SocketClient(ctx, "tcp://"+listener.GetName(false)); err != nil {
				return err
			}
			defer guests[i].Close()
			if _, err := guests[i].Gets(ctx, maxLine); err != nil {
				return err
			}
		}
		talking, err := runtime.Go(ctx, func(ctx context.Context) {
			line := []byte(strings.Repeat("x", 400) + "\n")
			for {
				if _, err := guests[0].Write(ctx, line); err != nil {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		for deadline := time.Now().Add(time.Minute); ; {
			line, err := guests[1].Gets(ctx, maxLine)
			if err != nil {
				return err
			}
			if line == "number 3 has left\n" {
				break
			}
			if time.Now().After(deadline) {
				return errors.New("the one that doesn't listen is still there")
			}
		}
		guests[0].Close()
		return talking.Join(ctx)
	})
	if err != nil && !errors.Is(err, net.ErrClosed) && err != io.EOF {
		t.Error(err)
	}
}
