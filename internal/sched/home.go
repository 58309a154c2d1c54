package sched

import (
	"context"

	"github.com/whorl-go/whorl/eventloop"
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

// HomeInTurn is HomeFor for what is to be spread over all processors: the next of the runtime's
// loops, whoever calls.
func HomeInTurn(ctx context.Context) (Home, error) {
	rt, err := From(ctx)
	if err != nil {
		return Home{}, err
	}
	s := rt.pick()
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

// Loop returns the loop.
func (h Home) Loop() *eventloop.Loop { return h.sched.loop }

// Runtime returns the runtime that the loop belongs to.
func (h Home) Runtime() *Runtime { return h.sched.rt }

// Here reports whether the caller runs on the loop: as one of its coroutines or as a function of
// the loop.
func (h Home) Here() bool { return h.sched.onLoop() }
