//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	exampletest.Demonstration(t, func(_ context.Context, _ []string, stdout io.Writer) error { return run(stdout) })
}

func TestPathsThatAreThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := runtime.Run(func(ctx context.Context) error {
		if _, err := listen(ctx, file); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("at a file: %v", err)
		}
		path := filepath.Join(dir, "socket")
		first, err := listen(ctx, path)
		if err != nil {
			return err
		}
		if _, err := listen(ctx, path); err == nil || !strings.Contains(err.Error(), "running") {
			t.Errorf("at one that is served: %v", err)
		}
		first.Close()
		second, err := listen(ctx, path) // which the first one has left
		if err != nil {
			return err
		}
		return second.Close()
	})
	if err != nil {
		t.Error(err)
	}
}
