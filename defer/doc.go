// Package event is Swoole's Event and Timer for coroutines: functions that a loop calls later
// ([Defer]), when time has passed ([Tick], [After]), in each iteration ([Cycle]), or when a file
// descriptor is ready ([Add]). Its folder is called defer, which is a keyword.
//
//	event.Defer(ctx, func(ctx context.Context) { fmt.Println("when this turn of the loop ends") })
//	event.After(ctx, time.Second, func(ctx context.Context) { fmt.Println("a second later") })
//	report, err := event.Tick(ctx, time.Minute, func(ctx context.Context) {
//		fmt.Println("every minute, in a coroutine that may wait")
//	})
//	if err != nil {
//		return err
//	}
//	defer report.Clear()
//
// # Where functions run
//
// Everything here may be called from anywhere, with any ctx: from coroutines, from functions of a
// loop, from plain goroutines.
//
// Each call of a function that was set is a coroutine of its own, so it may wait, and its panic is
// caught, logged, and ends that coroutine only. It runs on the loop of whoever set it; if that was
// a plain goroutine, on the loop of the coroutine that ctx comes from, else on one of the runtime's
// loops in turn.
//
// # Order
//
// An iteration of a loop is: [Cycle] before, poll, descriptors, work from other threads, timers,
// deferred functions, [Cycle] after (see package eventloop). The order in which functions are
// called is certain, and so is that each runs up to its first wait before the next one is called.
// What they do after that depends on what they wait for.
//
// # How long things last
//
// The ctx that a timer, a descriptor or a cycle function was set with is the context its coroutines
// get theirs from, and it bounds its life: when it is done, the timer is cleared, the descriptor is
// removed, the cycle function is called no more. The context of a coroutine isn't done when the
// coroutine ends, so what a coroutine has set stays; beware of contexts with a cancel function that
// is called on return.
//
// Timers, deferred functions and descriptors keep runtime.Run from returning, as coroutines do, and
// count towards runtime.WithMaxCoroutines as coroutines do. Cycle functions don't. When the runtime
// shuts down, timers, descriptors and cycle functions are cleared, and nothing new can be set:
// runtime.ErrShutdown. What was deferred is still called.
//
// # What Swoole has and this package has not
//
//   - Event::wait: runtime.Run runs the loops, and returns when nothing is pending.
//   - Event::exit: [ClearAll], [Del] and the end of main let Run return in order; Runtime.Shutdown
//     ends everything.
//   - Event::dispatch: runtime.Yield lets an iteration pass.
//   - Event::write: the Send of a socket, which keeps what the kernel doesn't take at once.
//   - Timer::stats: the length of [List].
package event
