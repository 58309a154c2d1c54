//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

func TestFiles(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		name := filepath.Join(t.TempDir(), "file")
		data := []byte("some text")
		check(t, hooks.WriteFile(ctx, name, data, 0o640))
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("mode is %v, %v", info.Mode(), err)
		}
		got, err := hooks.ReadFile(ctx, name)
		if string(got) != "some text" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_, err = hooks.ReadFile(ctx, name+"x")
		wantError(t, "ReadFile", err, os.ErrNotExist)
		wantError(t, "WriteFile", hooks.WriteFile(ctx, name+"/x", data, 0o600), syscall.ENOTDIR)
	})
}

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

func TestLookups(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		hosts, err := hooks.LookupHost(ctx, "localhost")
		if err != nil || !slices.Contains(hosts, "127.0.0.1") {
			t.Errorf("LookupHost: %q, %v", hosts, err)
		}
		ips, err := hooks.LookupNetIP(ctx, "ip4", "127.0.0.3")
		if err != nil || len(ips) != 1 || ips[0].Unmap().String() != "127.0.0.3" {
			t.Errorf("LookupNetIP: %v, %v", ips, err)
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err = hooks.LookupHost(done, "name.invalid")
		if err == nil {
			t.Error("LookupHost with a done context succeeded")
		}
	})
}

// While one coroutine waits for a command, another one of the same loop runs.
func TestBlockingWorkHoldsNoLoop(t *testing.T) {
	guard(t)
	check(t, runtime.Run(func(ctx context.Context) error {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if _, err := hooks.Exec(ctx, "mkfifo", fifo); err != nil {
			return err
		}
		wait := beside(ctx, t, func(ctx context.Context) error {
			got, err := hooks.ReadFile(ctx, fifo) // until somebody has written
			if string(got) != "through" {
				t.Errorf("got %q", got)
			}
			return err
		})
		if err := hooks.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		if err := hooks.WriteFile(ctx, fifo, []byte("through"), 0); err != nil {
			return err
		}
		return wait()
	}, append(quiet[:len(quiet):len(quiet)], runtime.WithLoops(1))...))
}
