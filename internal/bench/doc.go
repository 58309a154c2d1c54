// Package bench is a load generator on Whorl's own sockets and coroutines: TLS handshakes,
// throughput, round trips, and held connections, each in plaintext, over TLS, or after STARTTLS.
//
// # How a run goes
//
// [Run] resolves the target, makes one connection as a trial, so that what can't work says so at
// once, and then lets Options.Connections coroutines work, spread over the loops. What happens on a
// loop is noted in that loop's lane, without locks, and put together at the end.
//
// # Open and closed loop
//
// In a closed loop each worker begins an operation when its last one has ended: a server that
// stalls is asked less often while it does, and its stall is seen by few operations (coordinated
// omission). With a rate, the loop is open: operation i is to begin at i/rate, whatever the server
// does, and its latency counts from that moment, also if all connections were busy then and it
// began late. See pacer.
//
// # Turns
//
// A [Generator] makes round trips when it is told to, on connections that stand: that is what a
// comparison of servers needs, in which they take turns (benchmarks/peers).
//
// # What the generator can't do
//
// A generator that is at its limit measures itself. So a run that used up the processor time it may
// use, or was late for its own schedule, is marked as limited by the generator, and its figures are
// bounds. See usage.
package bench
