//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

func TestExec(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		out, err := hooks.Exec(ctx, "sh", "-c", "echo out; echo err >&2; exit 3")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || out.Code != 3 || string(out.Stdout) != "out\n" || string(out.Stderr) != "err\n" {
			t.Errorf("got %+v, %v", out, err)
		}
		out, err = hooks.Exec(ctx, "sh", "-c", "echo $0 $1", "an argument; with $(signs)")
		if err != nil || out.Code != 0 || strings.TrimSpace(string(out.Stdout)) != "an argument; with $(signs)" {
			t.Errorf("got %+v, %v", out, err)
		}
		_, err = hooks.Exec(ctx, "/no/such/command")
		wantError(t, "Exec", err, os.ErrNotExist)
		_, err = hooks.Exec(ctx, "head", "-c", "20000000", "/dev/zero")
		wantError(t, "Exec", err, hooks.ErrTooMuchOutput)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err = hooks.Exec(short, "sleep", "600")
		wantError(t, "Exec", err, context.DeadlineExceeded)
	})
}

// While one coroutine waits for a command, another one of the same loop runs.
func TestCommandHoldsNoLoop(t *testing.T) {
	guard(t)
	check(t, runtime.Run(func(ctx context.Context) error {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if _, err := hooks.Exec(ctx, "mkfifo", fifo); err != nil {
			return err
		}
		wait := beside(ctx, t, func(ctx context.Context) error {
			out, err := hooks.Exec(ctx, "cat", fifo) // until somebody has written
			if string(out.Stdout) != "through" {
				t.Errorf("got %q", out.Stdout)
			}
			return err
		})
		if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		if _, err := hooks.Exec(ctx, "sh", "-c", "printf through > \"$0\"", fifo); err != nil {
			return err
		}
		return wait()
	}, append(quiet[:len(quiet):len(quiet)], runtime.WithLoops(1))...))
}
