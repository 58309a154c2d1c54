// Package sched runs coroutines on event loops. Package runtime is its public face: what that shows
// has its contract there, under the same name, and here no more than a line. What only the house
// uses is documented here.
//
//   - [Waiter], [Queue], [Reason], [Deadline]: what all waiting is built on; [WaitQueue] is a Queue
//     for things that many wait for.
//   - [Begin], [Spend], [Count]: what each operation calls, so that nobody holds the loop.
//   - [Home]: the loop that something lives on, and the one way to ask whether the caller is there.
//   - [Runtime.Retain], [Runtime.AtEnd], [Runtime.Cut]: how what lives on a loop takes part in the
//     end of its runtime.
//   - [GoDeep], [Detour]: what needs a deep stack runs on one that is kept for that.
package sched
