package runtime

import (
	"time"

	"github.com/whorl-go/whorl/eventloop"
)

// Loop is an event loop of a runtime, as its users may see it. The runtime alone runs it, closes it
// and hooks into its iteration; for all else see the method's namesake of [eventloop.Loop].
//
// Post, PostTask, Register, Stats and Name may be called from any goroutine, and after the
// runtime's end: Post and Register then return eventloop.ErrClosed. The other methods must be
// called on the loop: by one of its coroutines or in a function of it.
type Loop interface {
	Name() string
	Stats() eventloop.Stats

	Post(fn func()) error
	PostTask(t eventloop.Task) error
	Defer(fn func())
	DeferTask(t eventloop.Task)

	AfterFunc(d time.Duration, fn func()) *eventloop.Timer
	InitTimer(t *eventloop.Timer, task eventloop.Task)
	Register(d *eventloop.Descriptor, fd int, events eventloop.Events, h eventloop.Handler) error
}
