//go:build linux

package serve

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// started starts a server on two loops.
func started(t *testing.T, config Config) *Server {
	t.Helper()
	rt, err := runtime.New(runtime.WithLoops(2), runtime.WithLogger(zap.NewNop()), runtime.WithWatchdog(0))
	check(t, err)
	check(t, rt.Start())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check(t, rt.Shutdown(ctx))
	})
	config.Listen, config.Timeout = "127.0.0.1:0", patience
	s, err := Start(rt, config)
	check(t, err)
	return s
}
