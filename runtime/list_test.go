package runtime_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

func TestIDsAndParents(t *testing.T) {
	prints(t, `
		coroutine#1: ID 1, parent -1
		coroutine#2: ID 2, parent 1
		coroutine#3: ID 3, parent 2
		coroutine#4: ID 4, parent 1
		a plain goroutine: coroutine <nil>
		coroutine#5: ID 5, parent -1
	`, func(ctx context.Context, say func(string, ...any)) {
		introduce := func(ctx context.Context) {
			co := runtime.Current(ctx)
			if co.ID() < 1 || co.Context() != ctx {
				t.Errorf("%v: context %v", co, co.Context())
			}
			say("%v: ID %d, parent %d", co, co.ID(), co.Parent())
		}
		introduce(ctx)
		start(ctx, func(ctx context.Context) {
			introduce(ctx)
			start(ctx, introduce)
		})
		start(ctx, introduce)
		runtime.Await(ctx, func() (int, error) {
			say("a plain goroutine: coroutine %v", runtime.Current(ctx))
			co, _ := runtime.Go(ctx, introduce)
			return 0, co.Join(ctx)
		})
	})
}

// The context of somebody else says nothing about who is calling.
func TestCurrentGoesByTheGoroutine(t *testing.T) {
	program(t, func(ctx context.Context) {
		main := runtime.Current(ctx)
		start(ctx, func(own context.Context) {
			for _, with := range []context.Context{own, ctx, context.Background(), context.WithValue(ctx, keyOfTest{}, 1)} {
				if co := runtime.Current(with); co == main || co != runtime.Current(own) {
					t.Errorf("Current(%v) is %v", with, co)
				}
			}
		})
	})
	if runtime.Current(context.Background()) != nil {
		t.Error("a plain goroutine takes itself for a coroutine")
	}
}

func TestListTellsWhatEachCoroutineWaitsFor(t *testing.T) {
	program(t, func(ctx context.Context) {
		co := runtime.Current(ctx)
		want := []string{"coroutine#1 on test-0: running"}
		var all []*runtime.Coroutine
		var settle []func(context.Context) string
		i := 1
		for name, newSite := range sites {
			if name == "join" {
				continue // joins a coroutine of its own
			}
			site := newSite(ctx)
			i++
			all = append(all, start(ctx, func(ctx context.Context) { site.wait(ctx) }))
			want = append(want, fmt.Sprintf("coroutine#%d on test-0: %s", i, name))
			settle = append(settle, site.settle)
		}
		var got []string
		for _, info := range from(co.Context()).List() {
			got = append(got, info.String())
			if info.ID > 1 && info.Parent != 1 {
				t.Errorf("%v has the parent %d", info, info.Parent)
			}
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("the list is\n%s\nwant\n%s", g, w)
		}
		if n := from(co.Context()).Stats().Coroutines; n != len(want) {
			t.Errorf("Stats counts %d coroutines, there are %d", n, len(want))
		}
		for i, co := range all {
			co.Cancel()
			settle[i](ctx)
		}
	}, runtime.WithLoops(1), runtime.WithName("test"))
}

func TestListFromAPlainGoroutineHasAllLoops(t *testing.T) {
	rt := newRuntime(t, runtime.WithLoops(3))
	if list := rt.List(); len(list) != 0 {
		t.Errorf("before Start the list is %v", list)
	}
	if err := rt.Start(); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		rt.Go(func(ctx context.Context) { runtime.Sleep(ctx, time.Hour) })
	}
	parked(t, rt, 6, "sleep")
	loops := make(map[string]int)
	for _, info := range rt.List() {
		loops[info.Loop]++
	}
	if fmt.Sprint(loops) != "map[whorl-0:2 whorl-1:2 whorl-2:2]" {
		t.Errorf("coroutines on loops: %v", loops)
	}
	rt.Shutdown(context.Background())
	if list := rt.List(); len(list) != 0 {
		t.Errorf("after Shutdown the list is %v", list)
	}
}

// List answers at once, whoever asks: a goroutine or another loop's function while a loop is held,
// and functions of the loop itself.
func TestListWhileALoopIsHeld(t *testing.T) {
	rt := startRuntime(t, runtime.WithLoops(2))
	held, release := make(chan bool), make(chan bool)
	rt.Go(func(ctx context.Context) {
		start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) })
		close(held)
		<-release
	})
	<-held
	want := "[coroutine#1 on whorl-0: running coroutine#2 on whorl-0: suspend]"
	if list := rt.List(); fmt.Sprint(list) != want {
		t.Errorf("from a goroutine: %v", list)
	}
	answer := make(chan []runtime.Info, 1)
	rt.Loops()[1].Post(func() { answer <- rt.List() })
	if list := receive(t, answer, "answer on another loop"); fmt.Sprint(list) != want {
		t.Errorf("from a function of another loop: %v", list)
	}
	close(release)
	rt.Loops()[0].Post(func() { answer <- rt.List() })
	if list := receive(t, answer, "answer on the loop"); fmt.Sprint(list) != "[coroutine#2 on whorl-0: suspend]" {
		t.Errorf("from a function of the loop: %v", list)
	}
}

func TestStats(t *testing.T) {
	program(t, func(ctx context.Context) {
		rt := from(ctx)
		var all []*runtime.Coroutine
		for range 5 {
			all = append(all, start(ctx, func(ctx context.Context) { runtime.Suspend(ctx) }))
		}
		want := runtime.Stats{Coroutines: 6, Created: 6, Workers: 6}
		if st := rt.Stats(); st != want {
			t.Errorf("with 5 children: %+v, want %+v", st, want)
		}
		for _, co := range all {
			co.Resume()
		}
		runtime.Join(ctx, all...)
		want = runtime.Stats{Coroutines: 1, Created: 6, Workers: 6}
		if st := rt.Stats(); st != want {
			t.Errorf("when they have ended: %+v, want %+v", st, want)
		}
		for range 3 {
			start(ctx, func(context.Context) {})
		}
		runtime.Await(ctx, func() (int, error) { return 0, nil })
		want = runtime.Stats{Coroutines: 1, Created: 9, Workers: 6, Awaiting: 1}
		if st := rt.Stats(); st != want {
			t.Errorf("after three more and an Await: %+v, want %+v", st, want)
		}
	}, runtime.WithLoops(1))
}
