// Package eventloop is the ground floor of Whorl: an event loop with posted tasks, timers and
// deferred functions. It knows no coroutine and no socket. Programs use package runtime, which
// stands on it.
//
//	loop, err := eventloop.New(eventloop.Config{})
//	if err != nil {
//		return err
//	}
//	loop.AfterFunc(time.Second, func() {
//		fmt.Println("a second later")
//		loop.Defer(func() { loop.Close() }) // at the end of this iteration
//	})
//	go loop.Post(func() { fmt.Println("asked for by another goroutine, on the loop") })
//	return loop.Run() // until Close
//
// # One iteration
//
// A [Loop] runs iterations, each in this order:
//
//  1. the [Loop.BeforePoll] function, if one is set;
//  2. poll: wait for descriptors, no longer than the earliest timer and not at all when work is
//     pending;
//  3. the handlers of ready descriptors, in the order the kernel reports them;
//  4. the tasks posted with [Loop.Post] up to then, in order;
//  5. the timers that are due, the earliest first, those due at the same instant in the order they
//     were set;
//  6. the functions deferred with [Loop.Defer] up to then, in order;
//  7. the [Loop.AfterDefer] function, if one is set.
//
// What is posted, set or deferred from within a step for that same step waits for the next
// iteration, one poll later. So a task that posts itself again, or a function that defers itself,
// cannot starve the descriptors. A pending Defer keeps the poll from sleeping.
//
// # How long a step may take
//
// Steps 3 to 6 take no longer than about a millisecond each: then what is left waits for the same
// step of the next iteration, where it comes first, ahead of what was posted or deferred since. A
// poll reports 128 descriptors at most, and the next one waits until their handlers have been
// called. So however much there is to do at once, descriptors and timers don't wait for all of it,
// and the order is the same. The functions of the house that run the program's code on a loop go
// on for about 100 µs at a time (see internal/turn); how long any other function takes is its own
// affair.
//
// # Who may call what
//
// A loop runs on one goroutine at a time. "On the loop" means: inside a function that the loop has
// called. Methods say whether they must be called on the loop or may be called from any goroutine;
// before Run is called everything is allowed to the goroutine that sets the loop up.
//
// # What user functions can't break
//
// A panic in a user function is caught, logged with its stack and handed to the panic handler; the
// loop goes on with the next function. A [runtime.Goexit] in a user function ends the goroutine it
// runs on, as it must; the loop goes on in a new goroutine. A function that holds the loop longer
// than the watchdog's limit is reported with its stack.
//
// # Two pollers
//
// On Linux the loop polls with epoll_pwait2(2) itself. The time-out of the poll is then the next
// timer, to the nanosecond, with no timerfd to re-arm, and the steps above follow each other within
// one iteration; a poller that offers neither a time-out nor a hook after the batch has to write to
// its own eventfd and poll once more for that. The benchmark Poller in benchmarks/peers shows the
// difference.
//
// On macOS and the BSDs it polls with kqueue(2), by way of gnet's poller, for development, tests
// and small services. The build tag gnetpoll has it take gnet's on Linux, too, so that it can be
// tried there. Both keep the same contract, that of the type poller.
package eventloop
