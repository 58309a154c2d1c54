//go:build linux

package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) {
	childtest.Main(servePeer)
	leaktest.Main(m)
}

const patience = leaktest.Patience

// What other packages' tests have, too.
var (
	guard     = leaktest.Guard
	until     = leaktest.Until
	check     = leaktest.Check
	wantError = leaktest.WantError
	start     = runtimetest.Beside
)

// soon is a time-out for what is not going to happen.
const soon = 30 * time.Millisecond

// both runs a test in a coroutine and again on a plain goroutine. It must leave neither goroutines
// nor descriptors behind.
func both(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Both(t, runtimetest.Quiet, test)
}

// coroutine runs a test in a coroutine.
func coroutine(t *testing.T, test func(ctx context.Context, t *testing.T)) {
	t.Helper()
	runtimetest.Coroutine(t, runtimetest.Quiet, test)
}

var quiet = runtimetest.Quiet(nil)

// eventually is until for coroutines and goroutines.
func eventually(ctx context.Context, t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
		check(t, runtime.Sleep(ctx, time.Millisecond))
	}
}

// receive takes a value from a Go channel, from coroutines and goroutines.
func receive[T any](ctx context.Context, t testing.TB, ch <-chan T) T {
	t.Helper()
	v, err := runtime.Await(ctx, func() (v T, err error) {
		select {
		case v = <-ch:
			return v, nil
		case <-time.After(patience):
			return v, errors.New("nothing came")
		}
	})
	check(t, err)
	return v
}

// connect returns a client that is connected to the address. It is closed at the end of the test.
func connect(ctx context.Context, t testing.TB, config client.Config, network, address string) *client.Client {
	t.Helper()
	c := client.New(config)
	check(t, c.Connect(ctx, network, address))
	t.Cleanup(func() { c.Abort() })
	return c
}

// recv receives a packet that has to be want.
func recv(ctx context.Context, t testing.TB, c *client.Client, want string) {
	t.Helper()
	p, err := c.Recv(ctx)
	if err != nil || string(p) != want {
		t.Fatalf("received %.100q (%d bytes), %v; want %.100q", p, len(p), err, want)
	}
}

func send(ctx context.Context, t testing.TB, c *client.Client, text string) {
	t.Helper()
	if n, err := c.Send(ctx, []byte(text)); n != len(text) || err != nil {
		t.Fatalf("sent %d bytes of %d, %v", n, len(text), err)
	}
}
