package runtime

import (
	"context"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
)

// Home is the loop that something lives on, such as a socket. As long as it is only used there, by the loop's coroutines and functions, it needs no
// lock: they run one at a time.
type Home struct{ sched *scheduler }

// HomeFor returns where something new should live: the caller's own loop if it runs on one, that of the coroutine whose context ctx
// comes from, else the runtime's loops in turn.
func HomeFor(ctx context.Context) (Home, error) {
	if s, _ := whereAmI(schedulerHint(ctx)); s != nil {
		return Home{s}, nil
	}
	if co, ok := ctx.Value(coroutineKey{}).(*Coroutine); ok {
		return Home{co.sched}, nil
	}
	rt, err := From(ctx)
	if err != nil {
		return Home{}, err
	}
	return Home{rt.pick()}, nil
}

// LoopFor is HomeFor for those who only need the loop.
func LoopFor(ctx context.Context) (*eventloop.Loop, error) {
	home, err := HomeFor(ctx)
	if err != nil {
		return nil, err
	}
	return home.Loop(), nil
}

// Loop returns the loop.
func (h Home) Loop() *eventloop.Loop { return h.sched.loop }

// Runtime returns the runtime that the loop belongs to.
func (h Home) Runtime() *Runtime { return h.sched.rt }

// Here reports whether the caller runs on the loop: as one of its coroutines or as a function of the loop.
func (h Home) Here() bool {
	return h.sched.running.Load() == uintptr(goroutine.Current()) || h.sched.loop.OnLoop()
}

var reasonHome = NewReason("another loop")

// Do has fn run on the loop and waits for it, from elsewhere. When the loop has ended, so that nothing runs there any more, fn is simply called. It fails with
// ErrOnLoop when the caller must not wait, and with ErrShutdown when its runtime shuts down meanwhile; fn may then still run.
func (h Home) Do(fn func()) error {
	w, err := Enter(context.Background())
	if err != nil {
		return err
	}
	defer w.Leave()
	done := &single{waiter: w}
	if h.sched.loop.Post(func() { defer done.fire(); fn() }) != nil {
		fn()
		return nil
	}
	return w.Wait(context.Background(), reasonHome, 0, done)
}
