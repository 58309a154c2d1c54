package eventloop

import "time"

// maxEvents bounds how many descriptors one poll reports; the rest comes with the next. What the
// kernel has touched for the report should still be in the cache when the handlers come to it: with
// 512, BenchmarkRoundTrip on 1,000 connections took a few per cent more CPU.
const maxEvents = 128

// Each platform has a type poller, which openPoller opens. It is used by its own name, so that its
// calls cost no indirection; this is what it has to do, and TestPoller holds it to it.
var _ interface {
	// add begins to watch a descriptor, and reports it at once if it is ready. generation comes
	// back with each of its events; it is not 0.
	add(fd int, generation uint32, events Events) error
	// modify changes what is watched for, and reports anew what the descriptor is ready for.
	modify(fd int, generation uint32, events Events) error
	// remove ends the watch. It comes before the descriptor is closed. What was ready before may
	// still be reported, with its generation.
	remove(fd int)
	// wake ends the wait that is under way, or else the next one. Wake-ups that come before a poll
	// are one.
	wake()

	// The four above may be called from any goroutine, also while close is under way and afterwards,
	// when they do nothing, or return ErrClosed. Those below are the loop's.

	// poll returns how many descriptors are ready, at most maxEvents, without blocking. It finds all
	// that were ready before it was called, the first first, or as many as there is room for.
	// Level-triggered descriptors are found as long as they are ready, edge-triggered ones when
	// they have become so, or more so.
	poll() int
	// wait is poll, but blocks until a descriptor is ready, somebody calls wake or the time-out is
	// over, which is never early; a negative one never is. It may return 0 before.
	wait(timeout time.Duration) int
	// event returns the i-th event of the last poll or wait. Those of no descriptor, and of one that
	// was removed, are to be passed over.
	event(i int) (fd int, generation uint32, events Events)
	// close gives back what the poller took from the kernel. It is called once.
	close()
} = (*poller)(nil)
