//go:build linux

package dropin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whorl-go/whorl/runtime"
)

// forgotten tests what becomes of a coroutine that calls a library without Await where it blocks:
// never a silent deadlock. The watchdog reports it, with the stack of what holds the loop, which
// has to contain culprit. When the call's context ends, so does the call, and the loop goes on.
// prepare returns the call.
func forgotten(t *testing.T, culprit string, prepare func(ctx context.Context, t *testing.T) (call func(ctx context.Context) error)) {
	t.Helper()
	guard(t)
	core := &reports{stacks: make(chan string, 100)}
	err := runtime.Run(func(ctx context.Context) error {
		call := prepare(ctx, t)
		for len(core.stacks) > 0 { // a busy machine can stop a loop, too
			<-core.stacks
		}
		var stack string
		for end := time.Now().Add(patience); !strings.Contains(stack, culprit) && time.Now().Before(end); {
			// The watchdog reports a call that holds the loop once. On a busy machine it may do so
			// before the call has come to where it waits; then the next one counts.
			var err error
			if stack, err = core.during(ctx, call); err == nil {
				t.Error("no error of the call that nobody could serve")
				break
			}
		}
		if !strings.Contains(stack, culprit) {
			t.Errorf("the report that names %s is %s", culprit, stack)
		}
		return nil
	}, runtime.WithLoops(1), runtime.WithLogger(zap.New(core)), runtime.WithWatchdog(100*time.Millisecond))
	if err != nil && err != runtime.ErrGoexit {
		t.Fatal(err)
	}
}

// reports is a log that hands on the stacks of the watchdog's warnings.
type reports struct{ stacks chan string }

// during makes a call, ends its context when something is reported, and returns what, with the
// call's error.
func (r *reports) during(ctx context.Context, call func(ctx context.Context) error) (stack string, err error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen := make(chan string, 1)
	go func() {
		defer cancel()
		select {
		case stack := <-r.stacks:
			seen <- stack
		case <-limited.Done():
			seen <- "none"
		}
	}()
	err = call(limited)
	cancel()
	stack, waitErr := runtime.Await(ctx, func() (string, error) { return <-seen, nil })
	return stack, errors.Join(err, waitErr)
}

func (*reports) Enabled(level zapcore.Level) bool    { return level >= zap.WarnLevel }
func (r *reports) With([]zapcore.Field) zapcore.Core { return r }
func (*reports) Sync() error                         { return nil }
func (r *reports) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, r)
}

func (r *reports) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		if field.Key == "stack" {
			select {
			case r.stacks <- field.String:
			default: // nobody wants so many
			}
		}
	}
	return nil
}

func TestForgottenAwaitOfHTTP(t *testing.T) {
	forgotten(t, "net/http.(*Transport).roundTrip", func(ctx context.Context, t *testing.T) func(ctx context.Context) error {
		s, stop := serve(ctx, t, false)
		runtime.Defer(ctx, func(context.Context) { stop() })
		b := newBrowser(t, s.addr, false)
		return func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/echo", nil)
			if err != nil {
				return err
			}
			response, err := b.Do(request)
			if err == nil {
				response.Body.Close()
			}
			return err
		}
	})
}
