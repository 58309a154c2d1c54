//go:build unix

package main

import (
	"context"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	noon := time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)
	now := func() time.Time {
		noon = noon.Add(time.Second)
		return noon
	}
	exampletest.Demonstration(t, func(_ context.Context, _ []string, stdout io.Writer) error { return run(stdout, now) })
}
