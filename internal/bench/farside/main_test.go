//go:build linux

package farside

import (
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = leaktest.Patience

var check = leaktest.Check

// started starts a server on two loops.
func started(t *testing.T, config Config) *Server {
	t.Helper()
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(2))...)
	config.Listen, config.Timeout = "127.0.0.1:0", patience
	s, err := Start(rt, config)
	check(t, err)
	return s
}
