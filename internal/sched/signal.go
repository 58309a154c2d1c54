package sched

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
)

// signals are the signals that a runtime's callers of WaitSignal have asked for. They stay
// registered between the calls, so that none is lost to a program that waits for them in a loop.
type signals struct {
	mu      sync.Mutex
	arrived chan os.Signal // guarded by mu; nil before the first WaitSignal
	ended   chan struct{}  // guarded by mu: closed when the goroutine has ended
	closed  bool           // guarded by mu
	known   []os.Signal    // guarded by mu: registered
	pending []os.Signal    // guarded by mu: that came when nobody waited, each once
	waiting []*signalWait  // guarded by mu
}

// signalWait is one call of WaitSignal.
type signalWait struct {
	single
	list *signals
	want []os.Signal
	got  os.Signal // written before Wake; nil if the runtime ends
}

// Remove makes it the wait's Queue.
func (w *signalWait) Remove(waiter *Waiter) bool {
	w.list.mu.Lock()
	defer w.list.mu.Unlock()
	if i := slices.Index(w.list.waiting, w); i >= 0 {
		w.list.waiting = slices.Delete(w.list.waiting, i, i+1)
	}
	return w.single.Remove(waiter)
}

// signalBuffer is how many signals may arrive before the goroutine gets to them.
const signalBuffer = 64

// WaitSignal is runtime.WaitSignal.
func WaitSignal(ctx context.Context, wanted ...os.Signal) (os.Signal, error) {
	if len(wanted) == 0 {
		return nil, errors.New("runtime: WaitSignal without a signal")
	}
	if err := Begin(ctx, 0); err != nil {
		return nil, err
	}
	rt, err := From(ctx)
	if err != nil {
		return nil, err
	}
	w, err := Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer w.Leave()
	wait := &signalWait{single: single{waiter: w}, list: &rt.signals, want: wanted}
	if got, err := rt.signals.add(wait); got != nil || err != nil {
		return got, err
	}
	if err := w.Wait(ctx, reasonSignal, 0, wait); err != nil {
		return nil, err
	}
	if wait.got == nil {
		return nil, ErrShutdown
	}
	return wait.got, nil
}

// add registers what the call wants, and returns a signal that has come already, or puts it where
// the next one finds it.
func (l *signals) add(w *signalWait) (os.Signal, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrShutdown
	}
	if l.arrived == nil {
		l.arrived, l.ended = make(chan os.Signal, signalBuffer), make(chan struct{})
		go l.receive(l.arrived, l.ended)
	}
	for _, s := range w.want {
		if !slices.Contains(l.known, s) {
			l.known = append(l.known, s)
			signal.Notify(l.arrived, s)
		}
	}
	wanted := func(s os.Signal) bool { return slices.Contains(w.want, s) }
	if i := slices.IndexFunc(l.pending, wanted); i >= 0 {
		s := l.pending[i]
		l.pending = slices.Delete(l.pending, i, i+1)
		return s, nil
	}
	l.waiting = append(l.waiting, w)
	return nil, nil
}

// receive gives the signals to who waits for them.
func (l *signals) receive(arrived <-chan os.Signal, ended chan<- struct{}) {
	defer close(ended)
	for s := range arrived {
		if !l.deliver(s) {
			l.mu.Lock()
			if !slices.Contains(l.pending, s) {
				l.pending = append(l.pending, s)
			}
			l.mu.Unlock()
		}
	}
}

// deliver gives a signal to all that wait for it, or nil to all that wait, and reports whether
// there was one.
func (l *signals) deliver(s os.Signal) bool {
	var taken []*signalWait
	l.mu.Lock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *signalWait) bool {
		if s != nil && !slices.Contains(w.want, s) {
			return false
		}
		if w.taken.CompareAndSwap(false, true) {
			w.got = s
			taken = append(taken, w)
		}
		return true
	})
	l.mu.Unlock()
	for _, w := range taken {
		w.waiter.Wake()
	}
	return len(taken) > 0
}

// close gives the signals their former effect back and ends all waits.
func (l *signals) close() {
	l.mu.Lock()
	l.closed = true
	arrived, ended := l.arrived, l.ended
	l.mu.Unlock()
	defer l.deliver(nil)
	if arrived != nil {
		signal.Stop(arrived) // nothing is sent to it afterwards
		close(arrived)
		<-ended
	}
}
