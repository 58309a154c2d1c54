package runtime_test

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

func TestRunReturnsTheErrorOfMain(t *testing.T) {
	want := errors.New("main's own")
	if err := run(t, func(context.Context) error { return want }); err != want {
		t.Errorf("Run returned %v", err)
	}
	if err := run(t, func(context.Context) error { return nil }); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunReturnsWhenAllCoroutinesHaveEnded(t *testing.T) {
	var ended atomic.Int32
	program(t, func(ctx context.Context) {
		for range 3 {
			start(ctx, func(ctx context.Context) {
				runtime.Sleep(ctx, 5*time.Millisecond)
				start(ctx, func(ctx context.Context) {
					runtime.Sleep(ctx, 5*time.Millisecond)
					ended.Add(1)
				})
			})
		}
	})
	if n := ended.Load(); n != 3 {
		t.Errorf("when Run returned %d of 3 grandchildren had ended", n)
	}
}

func TestRunReturnsWhenWhatWasRetainedIsReleased(t *testing.T) {
	fired := false
	program(t, func(ctx context.Context) {
		co := sched.Current(ctx)
		co.Runtime().Retain()
		co.Loop().AfterFunc(5*time.Millisecond, func() {
			fired = true
			co.Runtime().Release()
		})
	})
	if !fired {
		t.Error("Run returned before the timer fired")
	}
}

func TestRunInsideARunIsRefused(t *testing.T) {
	program(t, func(ctx context.Context) {
		inner := func(context.Context) error { t.Error("the inner main ran"); return nil }
		if err := runtime.Run(inner); err == nil || !strings.Contains(err.Error(), "event loop") {
			t.Errorf("in a coroutine: error is %v", err)
		}
		result := runtime.NewChannel[error](1)
		runtime.Current(ctx).Loop().Post(func() { result.Push(ctx, runtime.Run(inner)) })
		if err, _ := result.Pop(ctx); err == nil {
			t.Error("in a function of the loop: no error")
		}
	})
}

func TestGoexitOfMain(t *testing.T) {
	for _, loops := range []int{1, 3} {
		deferred := false
		err := run(t, func(ctx context.Context) error {
			defer func() { deferred = true }()
			goruntime.Goexit()
			return nil
		}, runtime.WithLoops(loops))
		if err != runtime.ErrGoexit || !deferred {
			t.Errorf("on %d loops: Run returned %v, deferred call made: %v", loops, err, deferred)
		}
	}
}

func TestInvalidOptionsAreNamed(t *testing.T) {
	for _, test := range []struct {
		option runtime.Option
		names  string
	}{
		{runtime.WithLoops(0), "WithLoops(0)"},
		{runtime.WithLoops(-1), "WithLoops(-1)"},
		{runtime.WithMaxCoroutines(0), "WithMaxCoroutines(0)"},
		{runtime.WithAwaitLimit(0), "WithAwaitLimit(0)"},
	} {
		if rt, err := runtime.New(test.option); rt != nil || err == nil || !strings.Contains(err.Error(), test.names) {
			t.Errorf("%s: New returned %v, %v", test.names, rt, err)
		}
		if err := run(t, func(context.Context) error { return nil }, test.option); err == nil {
			t.Errorf("%s: Run returned no error", test.names)
		}
	}
}

func TestNamesOfLoops(t *testing.T) {
	rt := newRuntime(t, runtime.WithName("mail"), runtime.WithLoops(2))
	var names []string
	for _, loop := range rt.Loops() {
		names = append(names, loop.Name(), fmt.Sprint(loop))
	}
	if got := strings.Join(names, " "); got != "mail-0 mail-0 mail-1 mail-1" {
		t.Errorf("loops are called, and printed as, %s", got)
	}
}

func TestRuntimesSideBySide(t *testing.T) {
	a, b := startRuntime(t, runtime.WithLoops(2)), startRuntime(t, runtime.WithLoops(1))
	const n = 100
	there, back := runtime.NewChannel[int](1), runtime.NewChannel[int](1)
	result := make(chan string, 2)
	b.Go(func(ctx context.Context) {
		for range n {
			v, err := there.Pop(ctx)
			if err != nil {
				result <- err.Error()
				return
			}
			back.Push(ctx, v+1)
		}
		result <- "echoed"
	})
	a.Go(func(ctx context.Context) {
		for i := range n {
			there.Push(ctx, i)
			if v, err := back.Pop(ctx); v != i+1 || err != nil {
				result <- fmt.Sprint(i, " came back as ", v, err)
				return
			}
		}
		result <- "done"
	})
	got := []string{receive(t, result, "first end"), receive(t, result, "second end")}
	if s := strings.Join(got, " "); s != "echoed done" && s != "done echoed" {
		t.Errorf("got %v", got)
	}
}

func TestCoroutineStartsAnotherWithTheContextOfAnotherRuntime(t *testing.T) {
	a, b := startRuntime(t, runtime.WithLoops(1)), startRuntime(t, runtime.WithLoops(1))
	where := make(chan *runtime.Coroutine, 1)
	a.Go(func(ctx context.Context) {
		start(b.Context(), func(ctx context.Context) { where <- runtime.Current(ctx) })
	})
	if co := receive(t, where, "child"); from(co.Context()) != a {
		t.Error("the child runs on the runtime of the context, not on its parent's loop")
	}
	start(b.Context(), func(ctx context.Context) { where <- runtime.Current(ctx) })
	if co := receive(t, where, "child"); from(co.Context()) != b {
		t.Error("Go from a plain goroutine ignored the runtime of its context")
	}
}

func TestGoFromPlainGoroutinesUsesTheLoopsInTurn(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(3))
	loops := make(chan string, 30)
	for i := range 30 {
		fn := func(ctx context.Context) { loops <- runtime.Current(ctx).Loop().Name() }
		if i%2 == 0 {
			rt.Go(fn)
		} else {
			start(rt.Context(), fn)
		}
	}
	count := make(map[string]int)
	for range 30 {
		count[receive(t, loops, "loop")]++
	}
	for name, n := range count {
		if n != 10 {
			t.Errorf("%d of 30 coroutines on %s", n, name)
		}
	}
}

func TestGoInACoroutineStaysOnItsLoop(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt, loop := from(ctx), runtime.Current(ctx).Loop()
		for _, with := range []context.Context{ctx, rt.Context(), context.Background()} {
			for range 3 {
				if co := start(with, func(context.Context) {}); co.Loop() != loop {
					t.Errorf("with %v: child on %s, parent on %s", with, co.Loop().Name(), loop.Name())
				}
			}
		}
	}, runtime.WithLoops(3))
}

func TestLimitOfCoroutines(t *testing.T) {
	program(t, func(ctx context.Context) {
		var all []*runtime.Coroutine
		for range 3 {
			all = append(all, start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) }))
		}
		started := func() error {
			_, err := runtime.Go(ctx, func(context.Context) {})
			return err
		}
		wantError(t, "beyond the limit", started(), runtime.ErrTooMany)
		_, err := from(ctx).Go(func(context.Context) {})
		wantError(t, "beyond the limit, by Runtime.Go", err, runtime.ErrTooMany)
		var group runtime.WaitGroup
		wantError(t, "beyond the limit, by WaitGroup.Go", group.Go(ctx, func(context.Context) {}), runtime.ErrTooMany)
		if group.Count() != 0 {
			t.Error("the WaitGroup counts a coroutine that was not started")
		}
		all[0].Resume()
		all[0].Join(ctx)
		if err := started(); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
		for _, co := range all[1:] {
			co.Resume()
		}
	}, runtime.WithMaxCoroutines(4))
}

func TestMapReportsWhatTheLimitOfCoroutinesKeptFromRunning(t *testing.T) {
	program(t, func(ctx context.Context) {
		results, err := runtime.Map(ctx, []int{1, 2, 3}, func(ctx context.Context, i int) (int, error) {
			return i, runtime.Sleep(ctx, time.Millisecond)
		})
		wantError(t, "Map", err, runtime.ErrTooMany)
		if fmt.Sprint(results) != "[1 2 0]" {
			t.Errorf("results are %v", results)
		}
	}, runtime.WithMaxCoroutines(3))
}
