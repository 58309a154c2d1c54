package sched

import (
	"context"
	"iter"
	"sync"
)

// ByLoop has a T for each event loop that was asked for one, until the loop's runtime shuts down.
// Make it with NewByLoop. Its methods may be called from anywhere.
type ByLoop[T any] struct {
	make  func(Home) *T
	ended func(*T)
	all   sync.Map // *T by *eventloop.Loop
}

// NewByLoop returns a ByLoop that makes what it has with one function, and hands it to the other
// when the loop's runtime shuts down and it has been forgotten; nil: nobody wants to know.
func NewByLoop[T any](make func(Home) *T, ended func(*T)) *ByLoop[T] {
	return &ByLoop[T]{make: make, ended: ended}
}

// Of returns what belongs to a loop.
func (b *ByLoop[T]) Of(h Home) *T {
	if found, ok := b.all.Load(h.Loop()); ok {
		return found.(*T)
	}
	made := b.make(h)
	if other, loaded := b.all.LoadOrStore(h.Loop(), made); loaded {
		return other.(*T)
	}
	context.AfterFunc(h.Runtime().Context(), func() {
		b.all.Delete(h.Loop())
		if b.ended != nil {
			b.ended(made)
		}
	})
	return made
}

// All returns what there is.
func (b *ByLoop[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		b.all.Range(func(_, t any) bool { return yield(t.(*T)) })
	}
}
