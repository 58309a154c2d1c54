package event_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs main on one loop and wants it to return nil.
func run(t *testing.T, main func(ctx context.Context) error, options ...runtime.Option) {
	t.Helper()
	options = append([]runtime.Option{runtime.WithLoops(1), runtime.WithLogger(zap.NewNop())}, options...)
	if err := runtime.Run(main, options...); err != nil {
		t.Error(err)
	}
}

// started returns a runtime for tests that call from outside, and shuts it down at the end.
func started(t *testing.T, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	options = append([]runtime.Option{runtime.WithLoops(1), runtime.WithLogger(zap.NewNop())}, options...)
	return runtimetest.Start(t, options...)
}

// transcript is what a program has said; all of it on one loop.
type transcript []string

func (s *transcript) say(what string) { *s = append(*s, what) }

func (s *transcript) saying(what string) func(context.Context) {
	return func(context.Context) { s.say(what) }
}

func (s transcript) want(t *testing.T, lines string) {
	t.Helper()
	want := strings.Split(strings.TrimSpace(lines), "\n")
	for i := range want {
		want[i] = strings.TrimSpace(want[i])
	}
	if !slices.Equal(s, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(s, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// turns lets n iterations of the loop pass.
func turns(ctx context.Context, n int) {
	for range n {
		runtime.Yield(ctx)
	}
}

// socketpair returns two connected, non-blocking stream sockets, which are closed at the end if
// close isn't called before.
func socketpair(t testing.TB) (a, b *descriptor) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	return newDescriptor(t, fds[0]), newDescriptor(t, fds[1])
}

// pipe returns the reading and the writing end of a pipe.
func pipe(t testing.TB) (r, w *descriptor) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	return newDescriptor(t, fds[0]), newDescriptor(t, fds[1])
}

type descriptor struct {
	t    testing.TB
	fd   int
	open bool
}

func newDescriptor(t testing.TB, fd int) *descriptor {
	t.Helper()
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	d := &descriptor{t, fd, true}
	t.Cleanup(d.close)
	return d
}

func (d *descriptor) close() {
	if d.open {
		d.open = false
		syscall.Close(d.fd)
	}
}

// read returns what one read(2) gives, "EOF", or the error.
func (d *descriptor) read() string {
	var buf [64]byte
	n, err := syscall.Read(d.fd, buf[:])
	switch {
	case err != nil:
		return err.Error()
	case n == 0:
		return "EOF"
	}
	return string(buf[:n])
}

func (d *descriptor) write(s string) {
	d.t.Helper()
	if _, err := syscall.Write(d.fd, []byte(s)); err != nil {
		d.t.Error(err)
	}
}
