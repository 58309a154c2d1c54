//go:build unix

package main

import (
	"context"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	exampletest.Demonstration(t, func(_ context.Context, _ []string, stdout io.Writer) error { return run(stdout) })
}
