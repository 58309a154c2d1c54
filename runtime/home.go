package runtime

import (
	"context"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/goroutine"
)

// Home is the loop that something lives on, such as a socket. As long as it is only used there, by
// the loop's coroutines and functions, it needs no lock: they run one at a time.
type Home struct{ sched *scheduler }

// HomeFor returns where something new should live: the caller's own loop if it runs on one, that of
// the coroutine whose context ctx comes from, else the runtime's loops in turn. It fails with
// ErrShutdown when that loop takes nothing any more, and with ErrNoRuntime.
func HomeFor(ctx context.Context) (Home, error) {
	s, err := schedulerFor(ctx)
	if err != nil {
		return Home{}, err
	}
	if s.loop.Closed() {
		return Home{}, ErrShutdown
	}
	return Home{s}, nil
}

func schedulerFor(ctx context.Context) (*scheduler, error) {
	if s, _ := whereAmI(schedulerHint(ctx)); s != nil {
		return s, nil
	}
	if co, ok := ctx.Value(coroutineKey{}).(*Coroutine); ok {
		return co.sched, nil
	}
	rt, err := From(ctx)
	if err != nil {
		return nil, err
	}
	return rt.pick(), nil
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

// Here reports whether the caller runs on the loop: as one of its coroutines or as a function of
// the loop.
func (h Home) Here() bool {
	return h.sched.running.Load() == uintptr(goroutine.Current()) || h.sched.loop.OnLoop()
}

var reasonHome = NewReason("another loop")

// Do has fn run on the loop and waits for it, from elsewhere. When the loop has ended, so that
// nothing runs there any more, fn is simply called. It fails with ErrOnLoop when the caller must
// not wait, and with ErrShutdown when its runtime shuts down meanwhile; fn may then still run.
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

// Go starts a coroutine on the loop for work of the house that isn't anybody's: to deliver what was
// sent before a Close. It never runs at once. It may also be started while Shutdown is under way,
// which doesn't cancel it, but waits for it as for all coroutines; when Shutdown's time is over it
// is forced out, and should say by [Runtime.Cut] what is lost then. It fails with ErrTooMany, and
// with ErrShutdown when the loop has ended or is about to.
func (h Home) Go(fn func(ctx context.Context)) error {
	s := h.sched
	s.rt.mu.Lock()
	if s.rt.doorShut {
		s.rt.mu.Unlock()
		return ErrShutdown
	}
	s.rt.live.Add(1) // so that the door stays open
	s.rt.mu.Unlock()
	defer s.rt.release()
	co, err := s.spawnFor(context.WithoutCancel(&s.rt.root), nil, true)
	if err != nil {
		return err
	}
	return s.startLater(co, fn)
}
