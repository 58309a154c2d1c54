package runtime

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/internal/sched"
)

var (
	reasonGroup = sched.NewInternalReason("wait group")
	reasonMutex = sched.NewInternalReason("mutex")
)

// WaitGroup waits for a number of things to be done. The zero WaitGroup is ready for use, from
// coroutines of any loop and from plain goroutines.
type WaitGroup struct {
	mu      sync.Mutex
	count   int // guarded by mu, as waiters
	waiters sched.WaitQueue[struct{}]
}

// Add adds n, which may be negative, to the count. When the count becomes zero, all that wait are
// woken, which only schedules them. A count below zero panics.
func (g *WaitGroup) Add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count+n < 0 {
		panic("runtime: negative WaitGroup count")
	}
	if g.count += n; g.count == 0 {
		g.waiters.WakeAll()
	}
}

// Done takes one from the count.
func (g *WaitGroup) Done() { g.Add(-1) }

// Count returns the count.
func (g *WaitGroup) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// Go starts a coroutine, as the function [Go] does, that counts as one until it has ended.
func (g *WaitGroup) Go(ctx context.Context, fn func(ctx context.Context)) error {
	return g.start(Go, ctx, fn)
}

// GoSpread is Go, but the coroutines run on the runtime's loops in turn, as those of the function
// [GoSpread].
func (g *WaitGroup) GoSpread(ctx context.Context, fn func(ctx context.Context)) error {
	return g.start(GoSpread, ctx, fn)
}

func (g *WaitGroup) start(
	how func(context.Context, func(context.Context)) (*Coroutine, error),
	ctx context.Context, fn func(context.Context),
) error {
	g.Add(1)
	started := false
	defer func() { // how doesn't return if Shutdown forces the caller out
		if !started {
			g.Done()
		}
	}()
	_, err := how(ctx, func(ctx context.Context) {
		defer g.Done()
		fn(ctx)
	})
	started = err == nil
	return err
}

// Wait waits until the count is zero. It returns early with the error of ctx or ErrShutdown.
// Several may wait.
func (g *WaitGroup) Wait(ctx context.Context) error {
	if err := sched.Begin(ctx, 0); err != nil {
		return err
	}
	g.mu.Lock()
	if g.count == 0 {
		g.mu.Unlock()
		return nil
	}
	return g.waiters.Park(ctx, &g.mu, reasonGroup)
}

// Mutex is a lock that a coroutine may hold while it waits for other things; a coroutine that has
// to wait for it yields to its loop, where a sync.Mutex would stop the loop. It goes to those who
// wait in the order of arrival. The zero Mutex is unlocked. It may be used from coroutines of any
// loop and from plain goroutines.
type Mutex struct {
	state   atomic.Uint32
	mu      sync.Mutex
	waiters sched.WaitQueue[struct{}] // guarded by mu
}

// The states of a Mutex. It becomes mutexWanted, and something else again, with mu held. Those who
// wait and give up leave it as it is, so there may be nobody any more.
const (
	mutexUnlocked uint32 = iota
	mutexLocked
	mutexWanted // locked, and Unlock has to look for who waits
)

// Lock locks the mutex, or returns the error of ctx or ErrShutdown.
func (m *Mutex) Lock(ctx context.Context) error {
	if err := sched.Begin(ctx, 0); err != nil {
		return err
	}
	if m.TryLock() {
		return nil
	}
	m.mu.Lock()
	for m.state.Load() != mutexWanted && !m.state.CompareAndSwap(mutexLocked, mutexWanted) {
		if m.TryLock() { // it was unlocked meanwhile
			m.mu.Unlock()
			return nil
		}
	}
	return m.waiters.Park(ctx, &m.mu, reasonMutex)
}

// TryLock locks the mutex if it is unlocked, and reports whether it did.
func (m *Mutex) TryLock() bool {
	return m.state.CompareAndSwap(mutexUnlocked, mutexLocked)
}

// Unlock unlocks the mutex. If somebody waits for it, it stays locked and is theirs; they are
// scheduled. Unlocking a mutex that is not locked panics.
func (m *Mutex) Unlock() {
	if m.state.CompareAndSwap(mutexLocked, mutexUnlocked) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Load() != mutexWanted {
		panic("runtime: unlock of unlocked Mutex")
	}
	if next := m.waiters.Pop(); next != nil {
		next.Waiter.Wake()
	} else {
		m.state.Store(mutexUnlocked)
	}
}
