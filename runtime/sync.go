package runtime

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// waitList is a FIFO of waiters, with the mutex that guards it and the rest of what they wait for.
type waitList struct {
	mu      sync.Mutex
	waiters []*Waiter
}

// Remove takes a Waiter that gives up out of the list.
func (l *waitList) Remove(w *Waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiters, w)
	if i < 0 {
		return false
	}
	l.waiters = slices.Delete(l.waiters, i, i+1)
	return true
}

// WaitGroup waits for a number of things to be done. The zero WaitGroup is ready for use, from coroutines of any loop and from plain goroutines.
type WaitGroup struct {
	list  waitList
	count int // guarded by list.mu
}

// Add adds n, which may be negative, to the count. When the count becomes zero, all that wait are woken; coroutines of the same loop run at
// once. A count below zero panics.
func (g *WaitGroup) Add(n int) {
	g.list.mu.Lock()
	if g.count+n < 0 {
		g.list.mu.Unlock()
		panic("runtime: negative WaitGroup count")
	}
	g.count += n
	var waiters []*Waiter
	if g.count == 0 {
		waiters, g.list.waiters = g.list.waiters, nil
	}
	g.list.mu.Unlock()
	for _, w := range waiters {
		w.Wake()
	}
}

// Done takes one from the count.
func (g *WaitGroup) Done() { g.Add(-1) }

// Count returns the count.
func (g *WaitGroup) Count() int {
	g.list.mu.Lock()
	defer g.list.mu.Unlock()
	return g.count
}

// Go starts a coroutine, as the function [Go] does, that counts as one until it has ended.
func (g *WaitGroup) Go(ctx context.Context, fn func(ctx context.Context)) error {
	return g.start(Go, ctx, fn)
}

// GoSpread is Go, but the coroutines run on the runtime's loops in turn, as those of the function [GoSpread].
func (g *WaitGroup) GoSpread(ctx context.Context, fn func(ctx context.Context)) error {
	return g.start(GoSpread, ctx, fn)
}

func (g *WaitGroup) start(
	how func(context.Context, func(context.Context)) (*Coroutine, error), ctx context.Context, fn func(context.Context),
) error {
	g.Add(1)
	_, err := how(ctx, func(ctx context.Context) {
		defer g.Done()
		fn(ctx)
	})
	if err != nil {
		g.Done()
	}
	return err
}

// Wait waits until the count is zero. It returns early with the error of ctx or ErrShutdown. Several may wait.
func (g *WaitGroup) Wait(ctx context.Context) error {
	if err := refuse(ctx); err != nil {
		return err
	}
	g.list.mu.Lock()
	if g.count == 0 {
		g.list.mu.Unlock()
		return nil
	}
	return g.list.wait(ctx, reasonGroup)
}

// wait puts the caller at the end of the list. It is called with mu held and returns without it.
func (l *waitList) wait(ctx context.Context, reason *Reason) error {
	w, err := Enter(ctx)
	if err != nil {
		l.mu.Unlock()
		return err
	}
	defer w.Leave()
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	return w.Wait(ctx, reason, 0, l)
}

// Mutex is a lock that a coroutine may hold while it waits for other things; a coroutine that has to wait for it yields to its loop, where a
// sync.Mutex would stop the loop. It goes to those who wait in the order of arrival. The zero Mutex is unlocked. It may be used from coroutines of
// any loop and from plain goroutines.
type Mutex struct {
	state atomic.Uint32
	list  waitList
}

// The states of a Mutex. It becomes mutexWanted, and something else again, with list.mu held. Those who wait and give up leave it as it is, so there may be
// nobody any more.
const (
	mutexUnlocked uint32 = iota
	mutexLocked
	mutexWanted // locked, and Unlock has to look for who waits
)

// Lock locks the mutex, or returns the error of ctx or ErrShutdown.
func (m *Mutex) Lock(ctx context.Context) error {
	if err := refuse(ctx); err != nil {
		return err
	}
	if m.TryLock() {
		return nil
	}
	m.list.mu.Lock()
	for m.state.Load() != mutexWanted && !m.state.CompareAndSwap(mutexLocked, mutexWanted) {
		if m.TryLock() { // it was unlocked meanwhile
			m.list.mu.Unlock()
			return nil
		}
	}
	return m.list.wait(ctx, reasonMutex)
}

// TryLock locks the mutex if it is unlocked, and reports whether it did.
func (m *Mutex) TryLock() bool {
	return m.state.CompareAndSwap(mutexUnlocked, mutexLocked)
}

// Unlock unlocks the mutex. If somebody waits for it, it stays locked and is theirs; a coroutine of the same loop goes on in the loop's deferred
// functions. Unlocking a mutex that is not locked panics.
func (m *Mutex) Unlock() {
	if m.state.CompareAndSwap(mutexLocked, mutexUnlocked) {
		return
	}
	m.list.mu.Lock()
	if m.state.Load() != mutexWanted {
		m.list.mu.Unlock()
		panic("runtime: unlock of unlocked Mutex")
	}
	var next *Waiter
	if len(m.list.waiters) > 0 {
		next = m.list.waiters[0]
		m.list.waiters = slices.Delete(m.list.waiters, 0, 1)
	} else {
		m.state.Store(mutexUnlocked)
	}
	m.list.mu.Unlock()
	if next != nil {
		next.WakeLater()
	}
}
