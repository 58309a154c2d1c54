package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// Functions for the end run when nothing else does any more, the last one first, and Shutdown waits
// for them.
func TestAtEndComesLast(t *testing.T) {
	rt := startRuntime(t)
	var order []string
	for i := range 3 {
		(*sched.Runtime)(rt).AtEnd(func() {
			order = append(order, fmt.Sprint("end ", i))
			for _, loop := range rt.Loops() {
				if loop.Post(func() {}) == nil {
					t.Error("a loop still runs functions")
				}
			}
		})
	}
	co, err := rt.Go(func(ctx context.Context) {
		runtime.Sleep(ctx, time.Hour)
		runtime.Sleep(context.Background(), 10*time.Millisecond) // has an end of its own
		order = append(order, "coroutine")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(order); got != "[coroutine end 2 end 1 end 0]" || !co.Ended() {
		t.Errorf("order is %s", got)
	}
	called := false
	(*sched.Runtime)(rt).AtEnd(func() { called = true })
	if !called {
		t.Error("AtEnd after the end has not called its function")
	}
}

func TestAtEndBeforeRunReturns(t *testing.T) {
	called := false
	err := run(t, func(ctx context.Context) error {
		(*sched.Runtime)(from(ctx)).AtEnd(func() { called = true })
		return nil
	})
	if err != nil || !called {
		t.Errorf("called is %v, error %v", called, err)
	}
}

func TestAtEndOfARuntimeThatWasNotStarted(t *testing.T) {
	rt, err := runtime.New()
	if err != nil {
		t.Fatal(err)
	}
	called := false
	(*sched.Runtime)(rt).AtEnd(func() { called = true })
	if err := rt.Shutdown(context.Background()); err != nil || !called {
		t.Errorf("called is %v, error %v", called, err)
	}
}

// Where Shutdown gives up, the end is when the coroutine that it has given up on lets go.
func TestAtEndWaitsForThoseThatShutdownLeaves(t *testing.T) {
	rt := startRuntime(t)
	held, letGo, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	(*sched.Runtime)(rt).AtEnd(func() { close(ended) })
	_, err := rt.Go(func(context.Context) {
		close(held)
		<-letGo // holds the loop
	})
	if err != nil {
		t.Fatal(err)
	}
	<-held
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rt.Shutdown(ctx); err == nil {
		t.Error("Shutdown has given up on nobody")
	}
	select {
	case <-ended:
		t.Error("the end came while a coroutine was running")
	default:
	}
	close(letGo)
	receive(t, ended, "the end")
}
